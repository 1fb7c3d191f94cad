"""The streams seen from outside: as JSON, as a page, as Prometheus metrics. For staff; to others they do not exist."""

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import asdict
from typing import Any

from asgiref.sync import sync_to_async
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.csrf import csrf_exempt

from events.access import Principal, access
from events.api import unwrapped
from events.exposition import CONTENT_TYPE, exposition
from events.responses import nobody_known, problem
from events.service import service
from events.wheel import close_connections


def active_streams() -> list[dict[str, Any]]:
    """What `manage.py streams` prints: for each open stream its subscribers, what is buffered, its position."""
    return [asdict(row) for row in service.statistics()]


def _staff_only(
    view: Callable[[HttpRequest], Awaitable[HttpResponse]],
) -> Callable[[HttpRequest], Coroutine[Any, Any, HttpResponse]]:
    async def guarded(request: HttpRequest) -> HttpResponse:
        if request.method not in ("GET", "HEAD"):
            return problem(405, "This is only read: use GET.", Allow="GET, HEAD")
        principal = await sync_to_async(_who)(request)
        if principal is None:
            return nobody_known()
        if not principal.is_staff:
            return problem(404, "There is nothing here that you may see.")
        return await view(request)

    # Nothing is written here, so a POST needs no CSRF token to be told 405.
    return csrf_exempt(unwrapped(guarded))


def _who(request: HttpRequest) -> Principal | None:
    try:
        return access().authenticate(request)
    finally:
        close_connections()


@_staff_only
async def streams(request: HttpRequest) -> HttpResponse:
    return JsonResponse(active_streams(), safe=False)


@_staff_only
async def metrics(request: HttpRequest) -> HttpResponse:
    return HttpResponse(exposition(service), content_type=CONTENT_TYPE)


def page(request: HttpRequest) -> HttpResponse:
    """The same, live, for people. Its script asks the address of `streams` again and again."""
    principal = _who(request)
    if principal is None or not principal.is_staff:
        raise Http404
    return render(request, "events/streams.html", {"source": reverse("streams")})
