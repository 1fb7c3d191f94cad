"""Turns committed changes into deliveries. The rows of DatabaseChange are the queue: a crash loses nothing."""

import logging
from collections.abc import Iterable, Iterator
from typing import Any, Final

from django.conf import settings
from django.db import transaction
from django.db.models import Max
from django.urls import reverse
from django.utils import timezone

from events.capture import serialize
from events.models import ChangeLog, DatabaseChange
from tasks.models import ExecutionProcess, ProcessStatus, Task, TaskStatus
from tasks.webhooks.models import Webhook, WebhookCursor, WebhookDelivery, WebhookEvent

logger = logging.getLogger("tasks.webhooks")

BATCH: Final = 1000

Payload = dict[str, Any]
End = tuple[str, int]


def end_of_log() -> End:
    """Where the log ends now: another end, or another history, is all that there may be to collect."""
    log = ChangeLog.current()
    return log.epoch, DatabaseChange.objects.aggregate(last=Max("id"))["last"] or log.pruned_to


def collect() -> int:
    """Looks at up to BATCH changes after the cursor; how many rows there were.

    Deliveries and the cursor's step are one transaction: after a crash either both are there or neither.
    """
    log = ChangeLog.current()
    last = DatabaseChange.objects.aggregate(last=Max("id"))["last"] or log.pruned_to
    start = {"epoch": log.epoch, "change_id": last}
    cursor, made = WebhookCursor.objects.get_or_create(pk=1, defaults=start)
    if made or (cursor.epoch == log.epoch and cursor.change_id == last):
        return 0
    with transaction.atomic():
        cursor = WebhookCursor.objects.select_for_update().get(pk=1)
        changes = _changes_after(cursor, log)
        if changes is None:
            cursor.epoch, cursor.change_id = log.epoch, last
        else:
            WebhookDelivery.objects.bulk_create(_deliveries(changes), ignore_conflicts=True)
            cursor.change_id = changes[-1].pk if changes else cursor.change_id
        cursor.save()
    return len(changes or ())


def _changes_after(cursor: WebhookCursor, log: ChangeLog) -> list[DatabaseChange] | None:
    """The next changes; None where the cursor belongs to another history, such as that of a restored backup."""
    if cursor.epoch != log.epoch:
        logger.warning("The log of changes began anew: webhooks go on from its end.")
        return None
    if cursor.change_id < log.pruned_to:
        logger.warning("Changes up to %d were pruned before webhooks looked at them.", log.pruned_to)
    return list(DatabaseChange.objects.filter(pk__gt=cursor.change_id).order_by("pk")[:BATCH])


def _deliveries(changes: Iterable[DatabaseChange]) -> Iterator[WebhookDelivery]:
    webhooks = list(Webhook.objects.filter(enabled=True))
    now = timezone.now()
    for change in changes if webhooks else ():
        event = event_of(change)
        wanted = [hook for hook in webhooks if event in hook.events and _concerns(hook, change)]
        if event is None or not wanted:
            continue
        payload = {
            "type": event,
            "timestamp": change.at.isoformat().replace("+00:00", "Z"),
            "data": _data(change),
        }
        for webhook in wanted:
            yield WebhookDelivery(
                webhook=webhook, event=event, change_id=change.pk, payload=payload, next_attempt_at=now
            )


def event_of(change: DatabaseChange) -> WebhookEvent | None:
    """The event that a change is, if it is one."""
    if change.operation != DatabaseChange.Operation.REPLACE or change.field != "status":
        return None
    if change.table == "tasks":
        return WebhookEvent.TASK_MOVED
    if change.table == "execution_processes" and change.value in ExecutionProcess.ENDED:
        return WebhookEvent.RUN_ENDED
    return None


def _concerns(webhook: Webhook, change: DatabaseChange) -> bool:
    return webhook.project_id is None or str(webhook.project_id) == change.scope


def _data(change: DatabaseChange) -> Payload:
    by = {"by": change.actor_label or change.actor_kind}
    if change.table == "tasks":
        return {**_of_task(change), **by}
    return {**_of_run(change), **by}


def _of_task(change: DatabaseChange) -> Payload:
    before, after = change.old, change.value
    task = Task.objects.filter(pk=change.object_id).select_related("project").first()
    title = task.title if task else change.object_id
    words = f"“{title}” moved from {_label(TaskStatus, before)} to {_label(TaskStatus, after)}"
    return {"text": words, "from": before, "to": after, **_about(task)}


def _of_run(change: DatabaseChange) -> Payload:
    rows = ExecutionProcess.objects.select_related("task_attempt__task__project")
    run = rows.filter(pk=change.object_id).first()
    if run is None:
        return {"text": f"A run ended: {change.value}", "status": change.value}
    attempt = run.task_attempt
    words = (
        f"{run.get_run_reason_display()} of “{attempt.task.title}” ({attempt.executor}): "
        f"{_label(ProcessStatus, change.value).lower()}"
    )
    return {
        "text": words,
        "status": change.value,
        **_about(attempt.task),
        "attempt": serialize(attempt),
        "run": serialize(run),
    }


def _about(task: Task | None) -> Payload:
    """The task, its project and its page; nothing of one that has been deleted meanwhile."""
    if task is None:
        return {}
    link = {"url": settings.PUBLIC_URL + reverse("task", args=[task.pk])} if settings.PUBLIC_URL else {}
    return {
        **link,
        "project": {"id": str(task.project_id), "name": task.project.name},
        "task": serialize(task),
    }


def _label(choices: Any, value: object) -> str:
    return str(choices(value).label) if value in choices.values else str(value)
