"""The views that open streams. Who may read what is asked of `events.access`."""

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from asgiref.sync import sync_to_async
from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase

from events import sse
from events.access import Principal, ScopeId, access, narrowed
from events.logs import Reader
from events.responses import EventStreamResponse, headers_only, problem
from events.service import ShuttingDown, TooManyStreams, service
from events.subscriptions import Subscription
from events.wheel import close_connections

KeyType = Callable[[str], object]
V = TypeVar("V")
StreamView = Callable[..., Coroutine[Any, Any, HttpResponseBase]]


class _Refusal(Exception):
    """An answer other than a stream."""

    def __init__(self, status: int, detail: str, **headers: str) -> None:
        super().__init__(detail)
        self.response = problem(status, detail, **headers)


def stream(kind: str, *, narrow_by: str = "", keys: KeyType = str) -> StreamView:
    """The view of one kind of stream, for a URL with or without a `key`.

    `narrow_by` names the query parameter that narrows what is shown to one scope. `keys` reads a key or a scope
    from the address; where it raises ValueError (as UUID does), there is no such stream.
    """

    async def view(request: HttpRequest, key: object = "") -> HttpResponseBase:
        if request.method not in ("GET", "HEAD"):
            return problem(405, "Streams are only read: use GET.", Allow="GET, HEAD")
        try:
            part = request.GET.get(narrow_by, "") if narrow_by else ""
            stream_id = _stream_id(kind, key, keys)
            narrow = _stream_id(kind, part, keys) if part else ""
            reader = await sync_to_async(_reader)(request, stream_id, narrow)
            return await _open(request, stream_id, reader)
        except _Refusal as refusal:
            return refusal.response

    return unwrapped(view)


def unwrapped(view: V) -> V:
    """Keeps ATOMIC_REQUESTS from this view: it refuses asynchronous ones, and a stream is no transaction."""
    view._non_atomic_requests = set(settings.DATABASES)  # type: ignore[attr-defined]
    return view


async def _open(request: HttpRequest, stream_id: str, reader: Reader) -> HttpResponseBase:
    cursor = sse.clean_cursor(request.headers.get("Last-Event-ID") or request.GET.get("cursor"))
    if cursor is not None and await service.log(stream_id).is_over(cursor):
        # The one status after which an EventSource stays away for good.
        return HttpResponse(status=204)
    if request.method == "HEAD":
        return headers_only(request)
    try:
        service.admit(reader.principal)
    except TooManyStreams as error:
        service.metrics.refused += 1
        raise _Refusal(429, str(error), Retry_After=str(error.retry_after)) from error
    except ShuttingDown as error:
        raise _Refusal(503, "The server is shutting down.", Retry_After="1") from error
    try:
        subscription = Subscription(service, stream_id, cursor, reader)
    except BaseException:
        service.release(reader.principal)
        raise
    subscription.admitted = True
    return EventStreamResponse(request, subscription)


def _reader(request: HttpRequest, stream_id: str, narrow: str) -> Reader:
    """Who asks and what they may see. Runs in a thread, whose database connection is let go: a stream needs none."""
    try:
        principal = access().authenticate(request)
        if principal is None:
            raise _Refusal(401, "Sign in, or send a token.", WWW_Authenticate="Bearer")
        return _permitted(request, principal, stream_id, narrow)
    finally:
        close_connections()


def _permitted(request: HttpRequest, principal: Principal, stream_id: str, narrow: str) -> Reader:
    scope = access().scope(principal)
    asked = narrow or stream_id
    place: ScopeId | None = None
    if ":" in asked:
        place = access().scopes_of([asked]).get(asked)
        if place is None or place not in scope:
            raise _Refusal(404, "There is no such stream.")
    part = place if narrow else None
    return Reader(principal, narrowed(scope, part) or scope, part, request.GET.dict())


def _stream_id(kind: str, key: object, keys: KeyType) -> str:
    try:
        return f"{kind}:{keys(str(key))}" if key else kind
    except ValueError:
        raise _Refusal(404, f"There is no {key!s}.") from None
