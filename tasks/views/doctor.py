"""The doctor's page, for staff, and the echo stream that it and `manage.py doctor` read."""

import json
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from events.access import access
from events.responses import CONTENT_TYPE, never_compress, no_buffering, problem
from events.wheel import close_connections
from tasks.doctor import echo, examine_machine, proxy


@never_cache
@login_required
def doctor(request: HttpRequest) -> HttpResponse:
    _require_staff(request)
    plan = {"beats": proxy.BEATS, "interval": proxy.INTERVAL, "idle": proxy.default_idle_seconds()}
    return render(request, "pages/doctor.html", {"findings": examine_machine(request.user), "plan": plan})


# It changes nothing, and a proxy that spoils the check of CSRF is just what it is to tell of.
@csrf_exempt
@require_POST
@login_required
def judge(request: HttpRequest) -> HttpResponse:
    """Findings on two echoes that the caller's browser measured: {"url", "first", "silent", "idle"} as JSON."""
    _require_staff(request)
    try:
        measured = json.loads(request.body)
        first, silent = _echo(measured["first"]), measured.get("silent")
        findings = proxy.judge(
            str(measured["url"]), first, _echo(silent) if silent else None, float(measured.get("idle", 0))
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        return problem(422, f"These are no measurements: {error}")
    return JsonResponse({"findings": [finding.as_dict() for finding in findings]})


def _echo(measured: dict[str, Any]) -> proxy.Echo:
    beats = [(float(beat["sent"]), float(beat["arrived"])) for beat in measured["beats"]]
    return proxy.Echo(
        status=int(measured["status"]),
        headers={str(name).lower(): str(value) for name, value in measured["headers"].items()},
        sent=[sent for sent, _ in beats],
        arrived=[arrived for _, arrived in beats],
        seen={str(name): str(value) for name, value in measured["seen"].items()},
        ended=bool(measured["ended"]),
        seconds=float(measured["seconds"]),
    )


async def echo_stream(request: HttpRequest) -> HttpResponseBase:
    """A stream whose messages say when they were sent. For staff, and for who holds a key from SECRET_KEY."""
    if not echo.is_key(request.GET.get("key", "")) and not await sync_to_async(_is_staff)(request):
        return problem(401, "Sign in as staff, or send a key.", WWW_Authenticate="Bearer")
    try:
        wanted = echo.plan(request.GET)
    except ValueError:
        return problem(422, "beats, interval and silence are numbers.")
    response = StreamingHttpResponse(echo.beats(wanted, echo.seen_of(request)), content_type=CONTENT_TYPE)
    no_buffering(response)
    never_compress(request)
    return response


def _require_staff(request: HttpRequest) -> None:
    if not request.user.is_staff:
        raise PermissionDenied("The doctor talks to staff only.")


def _is_staff(request: HttpRequest) -> bool:
    try:
        principal = access().authenticate(request)
        return principal is not None and principal.is_staff
    finally:
        close_connections()
