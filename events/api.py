"""The views that open streams. Who may read what is asked of `events.access`."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from copy import copy
from typing import Any, Final, TypeVar
from urllib.parse import unquote, urljoin, urlsplit

from asgiref.sync import async_to_sync
from django.conf import settings
from django.core.handlers.exception import convert_exception_to_response
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, QueryDict, StreamingHttpResponse
from django.urls import get_script_prefix, resolve
from django.views.decorators.csrf import csrf_exempt

from events import sse
from events.access import Principal, ScopeId, access, narrowed
from events.bundles import Bundle
from events.logs import Reader
from events.responses import (
    CONTENT_TYPE,
    EventStreamResponse,
    headers_only,
    never_compress,
    no_buffering,
    nobody_known,
    problem,
)
from events.service import ShuttingDown, TooManyStreams, service
from events.subscriptions import Subscription
from events.wheel import close_connections

KeyType = Callable[[str], object]
V = TypeVar("V")
StreamView = Callable[..., HttpResponseBase]

Source = Subscription | Bundle

MOST_IN_A_BUNDLE: Final = 50


class _Refusal(Exception):
    """An answer other than a stream."""

    def __init__(self, response: HttpResponseBase) -> None:
        super().__init__(response.status_code)
        self.response = response


class Permitted(StreamingHttpResponse, ABC):
    """What a view says to who may read what it streams, for `opened` to make a stream of it."""

    def __init__(self, request: HttpRequest) -> None:
        super().__init__((), content_type=CONTENT_TYPE)
        no_buffering(self)
        never_compress(request)

    @abstractmethod
    async def subscribed(self, request: HttpRequest) -> Source:
        """What is to be sent. Raises _Refusal."""


class PermittedStream(Permitted):
    def __init__(self, request: HttpRequest, stream_id: str, reader: Reader) -> None:
        super().__init__(request)
        self.stream_id = stream_id
        self.reader = reader

    async def subscribed(self, request: HttpRequest) -> Source:
        return await _subscribed(request, self)


class PermittedBundle(Permitted):
    """`parts` are the requests for its streams, each with the answer of that stream's view."""

    def __init__(self, request: HttpRequest, parts: list[tuple[HttpRequest, HttpResponseBase]]) -> None:
        super().__init__(request)
        self.parts = parts

    async def subscribed(self, request: HttpRequest) -> Source:
        found: list[Subscription | HttpResponseBase] = []
        try:
            for part, answer in self.parts:
                found.append(one := await _found(part, answer))
                if isinstance(one, Subscription):
                    # The parts may be those of an equal request that waited with this one.
                    one.client = _client(request)
        except BaseException:
            for one in found:
                if isinstance(one, Subscription):
                    one.leave()
            raise
        refusals = [one for one in found if isinstance(one, HttpResponseBase)]
        if len(refusals) == len(found):
            raise _Refusal(min(refusals, key=lambda one: one.status_code))
        return Bundle([one if isinstance(one, Subscription) else one.status_code for one in found])


async def _found(part: HttpRequest, answer: HttpResponseBase) -> Subscription | HttpResponseBase:
    if not isinstance(answer, PermittedStream):
        return answer
    try:
        return await _subscribed(part, answer)
    except _Refusal as refusal:
        return refusal.response


def stream(kind: str, *, narrow_by: str = "", keys: KeyType = str) -> StreamView:
    """The view of one kind of stream, for a URL with or without a `key`.

    `narrow_by` names the query parameter that narrows what is shown to one scope. `keys` reads a key or a scope
    from the address; where it raises ValueError (as UUID does), there is no such stream.
    """

    def view(request: HttpRequest, key: object = "") -> HttpResponseBase:
        if request.method not in ("GET", "HEAD"):
            return problem(405, "Streams are only read: use GET.", Allow="GET, HEAD")
        try:
            principal = _authenticated(request)
            part = request.GET.get(narrow_by, "") if narrow_by else ""
            stream_id = _stream_id(kind, key, keys)
            narrow = _stream_id(kind, part, keys) if part else ""
            permitted = PermittedStream(request, stream_id, _permitted(request, principal, stream_id, narrow))
        except _Refusal as refusal:
            return refusal.response
        finally:
            if not only_asks(request):  # Otherwise the handler does it, for many at once.
                close_connections()
        return permitted if only_asks(request) else async_to_sync(_response)(request, permitted)

    view.is_stream = True  # type: ignore[attr-defined]
    # Nothing is written here, so a POST needs no CSRF token to be told 405.
    return csrf_exempt(unwrapped(view))


def is_stream(view: object) -> bool:
    """Whether this view, or what it decorates, opens a stream."""
    return hasattr(view, "is_stream")


def only_asks(request: HttpRequest) -> bool:
    """Whether the handler opens the stream itself."""
    return hasattr(request, "only_asks")


async def _response(request: HttpRequest, permitted: Permitted) -> HttpResponseBase:
    """The whole answer, under a handler that knows nothing of streams."""
    found = await opened(request, permitted)
    return found if isinstance(found, HttpResponseBase) else EventStreamResponse(request, found)


def unwrapped(view: V) -> V:
    """Keeps ATOMIC_REQUESTS from this view: Django refuses it for asynchronous ones, and a stream is no transaction."""
    view._non_atomic_requests = set(settings.DATABASES)  # type: ignore[attr-defined]
    return view


async def opened(request: HttpRequest, permitted: Permitted) -> Source | HttpResponseBase:
    """The permitted stream; or why it cannot be had now, with the headers that middleware gave the permission."""
    try:
        return await permitted.subscribed(request)
    except _Refusal as refusal:
        response = refusal.response
    for name, value in permitted.items():
        response.headers.setdefault(name, value)
    return response


async def _subscribed(request: HttpRequest, permitted: PermittedStream) -> Subscription:
    cursor = sse.clean_cursor(request.META.get("HTTP_LAST_EVENT_ID") or request.GET.get("cursor"))
    if cursor is not None and await service.log(permitted.stream_id).is_over(cursor):
        # The one status after which an EventSource stays away for good.
        raise _Refusal(HttpResponse(status=204))
    if request.method == "HEAD":
        raise _Refusal(headers_only(request))
    principal = permitted.reader.principal
    try:
        service.admit(principal)
    except TooManyStreams as error:
        service.metrics.refused += 1
        raise _Refusal(problem(429, str(error), Retry_After=str(error.retry_after))) from error
    except ShuttingDown as error:
        raise _Refusal(problem(503, "The server is shutting down.", Retry_After="1")) from error
    try:
        subscription = Subscription(service, permitted.stream_id, cursor, permitted.reader)
    except BaseException:
        service.release(principal)
        raise
    subscription.admitted = True
    subscription.client = _client(request)
    return subscription


def _client(request: HttpRequest) -> tuple[str, int] | None:
    client = getattr(request, "scope", {}).get("client")
    # granian gives the port as text.
    return (client[0], int(client[1])) if client else None


def _authenticated(request: HttpRequest) -> Principal:
    principal = access().authenticate(request)
    if principal is None:
        raise _Refusal(nobody_known())
    return principal


def _permitted(request: HttpRequest, principal: Principal, stream_id: str, narrow: str) -> Reader:
    scope = access().scope(principal)
    asked = narrow or stream_id
    place: ScopeId | None = None
    if ":" in asked:
        place = access().scopes_of([asked]).get(asked)
        if place is None or place not in scope:
            raise _Refusal(problem(404, "There is no such stream."))
    part = place if narrow else None
    return Reader(principal, narrowed(scope, part) or scope, part, request.GET.dict())


def _stream_id(kind: str, key: object, keys: KeyType) -> str:
    try:
        return f"{kind}:{keys(str(key))}" if key else kind
    except ValueError:
        raise _Refusal(problem(404, "There is no such stream.")) from None


# --- several on one connection


def _bundle(request: HttpRequest) -> HttpResponseBase:
    if request.method not in ("GET", "HEAD"):
        return problem(405, "Streams are only read: use GET.", Allow="GET, HEAD")
    asked = request.GET.getlist("stream")
    if not 1 <= len(asked) <= MOST_IN_A_BUNDLE:
        return problem(
            400, f"Ask for 1 to {MOST_IN_A_BUNDLE} streams, each by a ?stream=, not for {len(asked)}."
        )
    try:
        permitted = PermittedBundle(request, [_part(request, address) for address in asked])
    finally:
        if not only_asks(request):
            close_connections()
    return permitted if only_asks(request) else async_to_sync(_response)(request, permitted)


_bundle.is_stream = _bundle.is_bundle = True  # type: ignore[attr-defined]
bundle: Final = csrf_exempt(unwrapped(_bundle))
"""The view of many streams at once, each a `?stream=` with its address, relative to that of the bundle (bundles.py).

Each is asked of its own view. Those that are refused are told so within the stream, unless all are.
"""


def _part(request: HttpRequest, address: str) -> tuple[HttpRequest, HttpResponseBase]:
    """The request for one part, as if it had come by itself, and what its view says to it."""
    part = copy(request)
    try:
        url = urlsplit(urljoin(request.path, address))
        part.path = unquote(url.path)
        part.path_info = "/" + part.path.removeprefix(get_script_prefix())
        part.GET = QueryDict(url.query)
        part.resolver_match = match = resolve(part.path_info)
    except (ValueError, Http404):
        return part, problem(404, "There is no such stream.")
    if not is_stream(match.func) or hasattr(match.func, "is_bundle"):
        return part, problem(404, "There is no such stream.")
    part.META = {**request.META, "PATH_INFO": part.path_info, "QUERY_STRING": url.query}
    part.META.pop("HTTP_LAST_EVENT_ID", None)  # It is of the bundle, or of another part.
    part.__dict__.pop("headers", None)
    part.only_asks = True  # type: ignore[attr-defined]
    view = convert_exception_to_response(lambda asked: match.func(asked, *match.args, **match.kwargs))
    answer: Any = view(part)
    return part, answer
