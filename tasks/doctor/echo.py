"""A stream that says when each of its messages was sent, so that the one who reads it can tell what lies between.

Beats at an even interval show buffering (they arrive in a heap) and compression (in the headers); a silence
after them shows whether something cuts idle lines before the next heartbeat would come.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from django.core.signing import BadSignature, TimestampSigner
from django.http import HttpRequest, QueryDict

from events.sse import json_frame, prime

KEY_SECONDS: Final = 120


@dataclass(frozen=True)
class Plan:
    beats: int
    interval: float
    silence: float


def plan(query: QueryDict) -> Plan:
    """What the caller wants, within bounds; ValueError for what is no number."""
    # The bound comes first: of it and a NaN, it is what max() gives. A NaN would confuse the loop's timers.
    return Plan(
        beats=min(100, max(1, int(query.get("beats", 8)))),
        interval=min(2, max(0.01, float(query.get("interval", 0.25)))),
        silence=min(300, max(0, float(query.get("silence", 0)))),
    )


async def beats(wanted: Plan, seen: dict[str, str]) -> AsyncIterator[bytes]:
    """`{"n", "sent"}` (Unix seconds) at each interval, first with what the server saw of the request; then `end`."""
    yield prime("echo.0")
    for number in range(wanted.beats):
        if number:
            await asyncio.sleep(wanted.interval)
        message = {"n": number, "sent": time.time()} | ({"seen": seen} if number == 0 else {})
        yield json_frame(message, f"echo.{number + 1}")
    if wanted.silence:
        await asyncio.sleep(wanted.silence)
    yield json_frame({"sent": time.time()}, event="end")


def seen_of(request: HttpRequest) -> dict[str, str]:
    """What arrived here of the request: a proxy may have changed or dropped it."""
    return {
        "scheme": request.scheme or "",
        "host": request.get_host(),
        "last_event_id": request.headers.get("Last-Event-ID", ""),
    }


def make_key() -> str:
    """A short-lived key to the echo for one who knows SECRET_KEY, as `manage.py doctor` does."""
    return _signer().sign("echo")


def is_key(text: str) -> bool:
    try:
        return _signer().unsign(text, max_age=KEY_SECONDS) == "echo"
    except BadSignature:
        return False


def _signer() -> TimestampSigner:
    return TimestampSigner(salt="tasks.doctor.echo")
