from functools import partial
from typing import TYPE_CHECKING

from django.apps import AppConfig

if TYPE_CHECKING:
    from tasks.models import ExecutionProcess, TaskAttempt


class TasksConfig(AppConfig):
    name = "tasks"
    verbose_name = "Board"

    def ready(self) -> None:
        from django.db.models.signals import post_delete, post_save

        from events import lifecycle
        from events.service import service
        from tasks import git, records
        from tasks.diffs.log import DiffLog
        from tasks.logs.logstream import RunLog
        from tasks.models import ExecutionProcess, TaskAttempt

        records.track_all()
        service.register("logs", RunLog)
        service.register("diff", DiffLog)
        post_save.connect(_look_at_diff, TaskAttempt, dispatch_uid="tasks.diffs.poke")
        post_delete.connect(_mark_deleted, ExecutionProcess, dispatch_uid="tasks.runs.deleted")
        # The first to be named is the last to be called.
        lifecycle.on_stop(git.end_with_process)
        lifecycle.on_start(_start_runner)
        lifecycle.on_stop(_stop_runner)
        lifecycle.on_start(_start_webhooks)
        lifecycle.on_stop(_stop_webhooks)


def _look_at_diff(instance: "TaskAttempt", **_: object) -> None:
    """An attempt's worktree, base or outcome may have changed: its open diff streams look again after commit."""
    from django.db import transaction

    from tasks.diffs import poke

    transaction.on_commit(partial(poke, instance.pk))


def _mark_deleted(instance: "ExecutionProcess", **_: object) -> None:
    from tasks.runs import housekeeping

    housekeeping.mark_deleted(instance.pk)


def _start_runner() -> None:
    from tasks.runs import runner

    runner.start()


def _stop_runner() -> None:
    from tasks.runs import runner

    runner.stop_runner(timeout=0.4)


def _start_webhooks() -> None:
    from tasks.webhooks import service  # only the server needs it, and not every command its HTTP client

    service.start()


def _stop_webhooks() -> None:
    from tasks.webhooks import service

    service.stop()
