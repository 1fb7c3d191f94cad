"""Keeps the table of changes from growing without end, by age and by size.

Rows go from the old end only, and the last row that went is remembered in the same transaction: a reader
whose cursor is older than that starts over from a full state, and never gets a history with its beginning
missing. The newest row always stays, so that ids never begin again.
"""

import logging
import threading
from datetime import timedelta

from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections, transaction
from django.db.models import Count, Max, Sum
from django.utils import timezone

from events.conf import setting
from events.models import ChangeLog, DatabaseChange

logger = logging.getLogger("events")

BATCH = 2000
"""Rows deleted in one transaction: it keeps writers waiting for as long."""
MOST_DAYS = 36_500
ROW_BYTES = 300
"""What a row occupies beside its JSON, indexes included."""


def prune(days: float | None = None, max_bytes: float | None = None, using: str = DEFAULT_DB_ALIAS) -> int:
    """Deletes rows that are older than `days`, and the oldest above `max_bytes`; returns how many.

    The settings EVENTS_KEEP_DAYS and EVENTS_KEEP_BYTES are the defaults.
    """
    days = setting("EVENTS_KEEP_DAYS") if days is None else days
    # Who wants to keep all names some large number, and a date must not be before the year 1.
    oldest = timezone.now() - timedelta(days=min(days, MOST_DAYS))
    rows = DatabaseChange.objects.using(using)
    totals = rows.aggregate(size=Sum("size"), count=Count("id"), newest=Max("id"))
    surplus = (totals["size"] or 0) + totals["count"] * ROW_BYTES
    surplus -= setting("EVENTS_KEEP_BYTES") if max_bytes is None else max_bytes
    pruned = 0
    while True:
        batch = list(rows.order_by("id").values_list("id", "at", "size")[:BATCH])
        doomed = 0
        for pk, at, size in batch:
            if pk == totals["newest"] or (at >= oldest and surplus <= 0):
                break
            doomed += 1
            surplus -= size + ROW_BYTES
        if doomed:
            _delete_up_to(batch[doomed - 1][0], using)
        pruned += doomed
        if doomed < BATCH:
            return pruned


def _delete_up_to(pk: int, using: str) -> None:
    log = ChangeLog.current(using)
    with transaction.atomic(using):
        ChangeLog.objects.using(using).filter(pk=log.pk, pruned_to__lt=pk).update(pruned_to=pk)
        DatabaseChange.objects.using(using).filter(id__lte=pk).delete()


class Pruner:
    """Prunes now and then, in a thread of the server process."""

    def __init__(self) -> None:
        self._stopped = threading.Event()

    def start(self) -> None:
        self._stopped.clear()
        threading.Thread(target=self._run, name="events-pruner", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(setting("EVENTS_PRUNE_SECONDS")):
            try:
                pruned = prune()
            except DatabaseError as error:
                logger.warning("Old changes could not be pruned, and will be later: %s", error)
            except Exception:  # The next time is another one.
                logger.exception("Old changes could not be pruned, and will be later")
            else:
                if pruned:
                    logger.info("Pruned %d old changes.", pruned)
            finally:
                connections.close_all()
