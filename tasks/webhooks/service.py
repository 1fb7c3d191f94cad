"""The thread that makes deliveries and sends them. One process of the server runs it, whichever has the lock."""

import fcntl
import logging
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import IO, Final

from django.conf import settings
from django.db import DatabaseError, close_old_connections, connection
from django.utils import timezone

from tasks.webhooks import collecting, sending
from tasks.webhooks.models import Webhook, WebhookDelivery

logger = logging.getLogger("tasks.webhooks")

POLL_SECONDS: Final = 0.5
WORKERS: Final = 4
REST_SECONDS: Final = 30
"""An address that has just failed is left alone for so long at most, however many messages wait for it."""
KEEP_DELIVERIES: Final = timedelta(days=30)
PRUNE_SECONDS: Final = 3600


class WebhookSender:
    """Looks for new changes and for due deliveries until it is stopped. Each address is served by one worker at a
    time, so a slow one holds up nobody but itself."""

    def __init__(self, lock_file: Path) -> None:
        self._lock_file = lock_file
        self._stopping = threading.Event()
        self._busy: dict[int, threading.Thread] = {}
        self._workers = threading.Semaphore(WORKERS)
        self._resting: dict[int, float] = {}
        self._pruned_at = 0.0
        self._began = False
        self._looked_at: collecting.End | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)
        self._thread.start()

    def stop(self, timeout: float = 0.5) -> None:
        """What is being sent and does not end in time is sent again after the next start."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout)

    def _run(self) -> None:
        with self._lock_file.open("w") as lock:
            while not _locked(lock):
                if self._stopping.wait(POLL_SECONDS * 4):
                    return
            try:
                self._serve()
            finally:
                connection.close()

    def _serve(self) -> None:
        while not self._stopping.is_set():
            if not self._step():
                self._stopping.wait(POLL_SECONDS)

    def _step(self) -> bool:
        """One look at the changes and at what is due; whether there may be more at once."""
        try:
            if not self._began:  # The lock says that no other sender of this data is alive.
                sending.take_back(timezone.now())
                self._began = True
            found = self._collect()
            self._hand_out()
            self._prune()
        except Exception:
            # A database that is away for a while comes back, say; the cursor and the deliveries are in it.
            logger.exception("Webhooks cannot go on; trying again")
            connection.close()
            self._stopping.wait(POLL_SECONDS * 10)
            return False
        return found >= collecting.BATCH

    def _collect(self) -> int:
        """Asks little where nothing has changed: an idle server does this twice a second."""
        end = collecting.end_of_log()
        if end == self._looked_at:
            return 0
        found = collecting.collect()
        if found == 0:
            self._looked_at = end
        return found

    def _hand_out(self) -> None:
        waiting = Webhook.objects.filter(
            enabled=True,
            deliveries__status=sending.Status.PENDING,
            deliveries__next_attempt_at__lte=timezone.now(),
        )
        for webhook in waiting.distinct():
            worker = self._busy.get(webhook.pk)
            is_busy = worker is not None and worker.is_alive()
            if is_busy or self._resting.get(webhook.pk, 0) > time.monotonic():
                continue
            # Not a pool's worker: the interpreter waits for those when it ends, and receivers may take their time.
            worker = threading.Thread(target=self._deliver, args=[webhook], name="webhook", daemon=True)
            self._busy[webhook.pk] = worker
            worker.start()

    def _deliver(self, webhook: Webhook) -> None:
        with self._workers:
            self._deliver_due(webhook)

    def _deliver_due(self, webhook: Webhook) -> None:
        try:
            for delivery in sending.due(webhook, timezone.now()):
                if self._stopping.is_set():
                    return
                if not sending.send(delivery):
                    rest = sending.retry_delay(delivery.attempts).total_seconds()
                    self._resting[webhook.pk] = time.monotonic() + min(rest, REST_SECONDS)
                    return
        except DatabaseError:
            logger.exception("A webhook's delivery could not be written down; it will be sent again")
        finally:
            close_old_connections()

    def _prune(self) -> None:
        if time.monotonic() - self._pruned_at < PRUNE_SECONDS and self._pruned_at:
            return
        self._pruned_at = time.monotonic()
        # What still waits, too: a dead address is tried more seldom than a busy board has news for it.
        WebhookDelivery.objects.filter(created_at__lt=timezone.now() - KEEP_DELIVERIES).delete()


def _locked(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


_sender: WebhookSender | None = None


def start() -> None:
    """Called once a server process (events.lifecycle)."""
    global _sender
    _sender = WebhookSender(settings.VIBE_DATA / "webhooks.lock")
    _sender.start()


def stop() -> None:
    if _sender is not None:
        _sender.stop()
