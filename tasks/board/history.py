"""What happened to a task, its attempts and its runs, for the people who may see it."""

from typing import Any

from django.contrib.auth.models import AnonymousUser, User

from events import history
from tasks.models import Task
from tasks.stream_access import scope_of


def of_task(task: Task, user: User | AnonymousUser, limit: int = 200) -> list[dict[str, Any]]:
    """The newest entries, newest first, as JSON values (`events.history.Entry`)."""
    return [entry.as_dict() for entry in history.of_record(task, scope=scope_of(user), limit=limit)]
