"""Sends deliveries that are due, and plans the next attempt of those that fail.

The receiver gets each message at least once: one that was taken but whose answer was lost is sent again, with
the same `webhook-id`. Messages may arrive out of order when one of them had to be repeated.
"""

import asyncio
import random
import ssl
import time
from datetime import datetime, timedelta
from functools import cache
from typing import Final

import httpx
import orjson
from django.db.models import F
from django.utils import timezone

from tasks.webhooks.models import Webhook, WebhookDelivery
from tasks.webhooks.signing import headers

Status = WebhookDelivery.Status

TIMEOUT: Final = httpx.Timeout(10, connect=5)
DEADLINE = 30.0
"""Seconds for the whole of a request: a receiver that drips its answer is cut off, too, well before LEASE ends."""
LEASE: Final = timedelta(seconds=60)
"""How long a sender has a delivery to itself; one that crashed meanwhile gives it back after that at the latest."""
FIRST_RETRY: Final = timedelta(seconds=5)
RETRY_FACTOR: Final = 4
LONGEST_RETRY: Final = timedelta(hours=12)
MAX_ATTEMPTS: Final = 10
"""With the delays above: about a day and a half."""
EXCERPT: Final = 500
GONE: Final = 410


def retry_delay(attempts: int) -> timedelta:
    """How long to wait after so many attempts: 5 s, 20 s, 80 s … 12 h, a tenth of it at random."""
    delay = min(FIRST_RETRY * RETRY_FACTOR ** min(attempts - 1, 20), LONGEST_RETRY)
    return delay * random.uniform(1, 1.1)


def due(webhook: Webhook, now: datetime) -> list[WebhookDelivery]:
    """What is to be sent to a webhook now, oldest first."""
    waiting = webhook.deliveries.filter(status=Status.PENDING, next_attempt_at__lte=now)
    return list(waiting.order_by("created_at", "change_id")[:100])


def take_back(now: datetime) -> None:
    """Makes due at once what a sender that crashed had taken. What waits for its next attempt looks the same and is
    tried again, too: after a start that is no harm."""
    WebhookDelivery.objects.filter(
        status=Status.PENDING, next_attempt_at__gt=now, next_attempt_at__lte=now + LEASE
    ).update(next_attempt_at=now)


def send(delivery: WebhookDelivery, now: datetime | None = None) -> bool:
    """Sends one delivery if nobody else is doing so, and writes down how it went; whether it was delivered."""
    now = now or timezone.now()
    if not _claim(delivery, now):
        return False
    status, error = _post(delivery)
    if error:
        _failed(delivery, status, error, now)
    else:
        _save(
            delivery, status=Status.DELIVERED, response_status=status, error="", delivered_at=timezone.now()
        )
    return not error


def _claim(delivery: WebhookDelivery, now: datetime) -> bool:
    """Takes a delivery by one conditional update: no row changed means that somebody else has it."""
    mine = WebhookDelivery.objects.filter(
        pk=delivery.pk,
        status=Status.PENDING,
        next_attempt_at=delivery.next_attempt_at,
        webhook__enabled=True,
    ).update(next_attempt_at=now + LEASE, attempts=F("attempts") + 1)
    if mine:
        # The webhook, too: its address or its secret may have been changed while others were sent.
        delivery.refresh_from_db(fields=["attempts", "next_attempt_at", "webhook"])
    return bool(mine)


def _post(delivery: WebhookDelivery) -> tuple[int | None, str]:
    """The status of the answer, and what was wrong with it, or with the way there ("" for nothing)."""
    body = orjson.dumps(delivery.payload)
    signed = headers(delivery.webhook.secret, str(delivery.pk), int(time.time()), body)
    try:
        return asyncio.run(_answer(delivery.webhook.url, body, signed))
    except TimeoutError:
        return None, f"No whole answer within {DEADLINE:g} seconds"
    # What is no name of a host, or no port, may be noticed by what lies below.
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError, ExceptionGroup) as error:
        cause = error.exceptions[0] if isinstance(error, ExceptionGroup) else error
        return None, f"{type(cause).__name__}: {cause}"


async def _answer(url: str, body: bytes, signed: dict[str, str]) -> tuple[int, str]:
    """Asynchronous, as only so can all of it together be given a time."""
    named = {"content-type": "application/json", "user-agent": "Vibe-Webhooks/1", **signed}
    named["accept-encoding"] = "identity"
    async with (
        asyncio.timeout(DEADLINE),
        httpx.AsyncClient(timeout=TIMEOUT, verify=_trusted()) as client,
        client.stream("POST", url, content=body, headers=named) as answer,
    ):
        if answer.is_success:
            return answer.status_code, ""
        # Not as text: that would take any codec of Python's that the receiver names, and not all of them decode.
        # And as it came: a kilobyte that was packed twice can be gigabytes.
        said = (await anext(answer.aiter_raw(EXCERPT), b"")).decode(errors="replace")
        return answer.status_code, f"{answer.status_code} {answer.reason_phrase}: {said}".strip(" :")


@cache
def _trusted() -> ssl.SSLContext:
    return httpx.create_ssl_context()


def _failed(delivery: WebhookDelivery, status: int | None, error: str, now: datetime) -> None:
    given_up = delivery.attempts >= MAX_ATTEMPTS
    if status == GONE:
        given_up = True
        Webhook.objects.filter(pk=delivery.webhook_id).update(enabled=False)
    _save(
        delivery,
        status=Status.FAILED if given_up else Status.PENDING,
        next_attempt_at=None if given_up else now + retry_delay(delivery.attempts),
        response_status=status,
        error=error.replace("\x00", ""),
    )


def _save(delivery: WebhookDelivery, **values: object) -> None:
    for name, value in values.items():
        setattr(delivery, name, value)
    delivery.save(update_fields=list(values))
