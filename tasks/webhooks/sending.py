"""Sends deliveries that are due, and plans the next attempt of those that fail.

The receiver gets each message at least once: one that was taken but whose answer was lost is sent again, with
the same `webhook-id`. Messages may arrive out of order when one of them had to be repeated.
"""

import random
import time
from datetime import datetime, timedelta
from typing import Final

import httpx
import orjson
from django.db.models import F
from django.utils import timezone

from tasks.webhooks.models import Webhook, WebhookDelivery
from tasks.webhooks.signing import headers

Status = WebhookDelivery.Status

TIMEOUT: Final = httpx.Timeout(10, connect=5)
LEASE: Final = timedelta(seconds=60)
"""How long a sender has a delivery to itself; one that crashed meanwhile gives it back after that."""
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


def send(client: httpx.Client, delivery: WebhookDelivery, now: datetime | None = None) -> bool:
    """Sends one delivery if nobody else is doing so, and writes down how it went; whether it was delivered."""
    now = now or timezone.now()
    if not _claim(delivery, now):
        return False
    status, error = _post(client, delivery)
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
        pk=delivery.pk, status=Status.PENDING, next_attempt_at=delivery.next_attempt_at
    ).update(next_attempt_at=now + LEASE, attempts=F("attempts") + 1)
    if mine:
        delivery.refresh_from_db(fields=["attempts", "next_attempt_at"])
    return bool(mine)


def _post(client: httpx.Client, delivery: WebhookDelivery) -> tuple[int | None, str]:
    """The status of the answer, and what was wrong with it, or with the way there ("" for nothing)."""
    body = orjson.dumps(delivery.payload)
    signed = headers(delivery.webhook.secret, str(delivery.pk), int(time.time()), body)
    try:
        with client.stream(
            "POST", delivery.webhook.url, content=body, headers={"content-type": "application/json", **signed}
        ) as answer:
            if answer.is_success:
                return answer.status_code, ""
            said = next(answer.iter_text(EXCERPT), "")
            return answer.status_code, f"{answer.status_code} {answer.reason_phrase}: {said}".strip(" :")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return None, f"{type(error).__name__}: {error}"


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
