"""What every answer of the site carries. Synchronous, as the whole chain is (events/asgi.py)."""

import json
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from events.actors import Actor, acting, named

# Everything from this host, nothing inline, no plug-ins, in nobody's frame.
POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)

GetResponse = Callable[[HttpRequest], HttpResponse]


def content_security_policy(get_response: GetResponse) -> GetResponse:
    def respond(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        response.headers.setdefault("Content-Security-Policy", POLICY)
        return response

    return respond


def json_errors(get_response: GetResponse) -> GetResponse:
    """Has every refusal under /api/ be `{"detail": …}`: also of an address, a method or a host that Django refuses."""

    def respond(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        told = response.headers.get("Content-Type", "").startswith("application/json")
        if response.status_code >= 400 and not told and request.path.startswith("/api/"):
            response.content = json.dumps({"detail": response.reason_phrase}).encode()
            response.headers["Content-Type"] = "application/json"
            response.headers["Content-Length"] = str(len(response.content))
        return response

    return respond


def change_actor(get_response: GetResponse) -> GetResponse:
    """Has the changes that a request makes carry its user, and the door they came through."""

    def respond(request: HttpRequest) -> HttpResponse:
        with acting(lambda: _actor(request)):
            return get_response(request)

    return respond


def _actor(request: HttpRequest) -> Actor:
    """Found when something changes: a token's user is known only once the API has looked at it."""
    if hasattr(request, "api_token"):
        kind = "token"
    elif request.path.startswith(reverse("admin:index")):
        kind = "admin"
    else:
        kind = "user"
    return named(kind, getattr(request, "user", None))
