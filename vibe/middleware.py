"""What every answer of the site carries."""

import json
from collections.abc import Awaitable, Callable

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.decorators import sync_and_async_middleware

from events.actors import Actor, acting, named

# Everything from this host, nothing inline, no plug-ins, in nobody's frame.
POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


@sync_and_async_middleware
def content_security_policy(
    get_response: Callable[[HttpRequest], HttpResponse | Awaitable[HttpResponse]],
) -> Callable[[HttpRequest], HttpResponse | Awaitable[HttpResponse]]:
    if iscoroutinefunction(get_response):

        async def on_async(request: HttpRequest) -> HttpResponse:
            response: HttpResponse = await get_response(request)
            response.headers.setdefault("Content-Security-Policy", POLICY)
            return response

        return on_async

    def on_sync(request: HttpRequest) -> HttpResponse:
        response: HttpResponse = get_response(request)  # type: ignore[assignment]
        response.headers.setdefault("Content-Security-Policy", POLICY)
        return response

    return on_sync


@sync_and_async_middleware
def json_errors(
    get_response: Callable[[HttpRequest], HttpResponse | Awaitable[HttpResponse]],
) -> Callable[[HttpRequest], HttpResponse | Awaitable[HttpResponse]]:
    """Has every refusal under /api/ be `{"detail": …}`: also of an address, a method or a host that Django refuses."""
    if iscoroutinefunction(get_response):

        async def on_async(request: HttpRequest) -> HttpResponse:
            return _as_json(request, await get_response(request))

        return on_async

    def on_sync(request: HttpRequest) -> HttpResponse:
        return _as_json(request, get_response(request))  # type: ignore[arg-type]

    return on_sync


def _as_json(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    told = response.headers.get("Content-Type", "").startswith("application/json")
    if response.status_code >= 400 and not told and request.path.startswith("/api/"):
        response.content = json.dumps({"detail": response.reason_phrase}).encode()
        response.headers["Content-Type"] = "application/json"
        response.headers["Content-Length"] = str(len(response.content))
    return response


@sync_and_async_middleware
def change_actor(
    get_response: Callable[[HttpRequest], HttpResponse | Awaitable[HttpResponse]],
) -> Callable[[HttpRequest], HttpResponse | Awaitable[HttpResponse]]:
    """Has the changes that a request makes carry its user, and the door they came through."""
    if iscoroutinefunction(get_response):

        async def on_async(request: HttpRequest) -> HttpResponse:
            with acting(lambda: _actor(request)):
                return await get_response(request)

        return on_async

    def on_sync(request: HttpRequest) -> HttpResponse:
        with acting(lambda: _actor(request)):
            return get_response(request)  # type: ignore[return-value]

    return on_sync


def _actor(request: HttpRequest) -> Actor:
    """Found when something changes: a token's user is known only once the API has looked at it."""
    if hasattr(request, "api_token"):
        kind = "token"
    elif request.path.startswith(reverse("admin:index")):
        kind = "admin"
    else:
        kind = "user"
    return named(kind, getattr(request, "user", None))
