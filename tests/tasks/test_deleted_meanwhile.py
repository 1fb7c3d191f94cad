"""Requests that wait for their turn to write while another deletes what they are about."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client

from tasks.models import ExecutionProcess, Project, Task, TaskAttempt
from tests.tasks.conftest import bearer_client

pytestmark = pytest.mark.django_db(transaction=True)
JSON = "application/json"
Call = Callable[[Client, Project, Task, TaskAttempt, ExecutionProcess], Any]

CALLS: dict[str, Call] = {
    "change a project": lambda c, p, t, a, r: c.patch(f"/api/projects/{p.pk}", {"name": "New"}, JSON),
    "make a task": lambda c, p, t, a, r: c.post("/api/tasks", {"project_id": p.pk, "title": "New"}, JSON),
    "change a task": lambda c, p, t, a, r: c.patch(f"/api/tasks/{t.pk}", {"title": "New"}, JSON),
    "start": lambda c, p, t, a, r: c.post(
        "/api/task-attempts", {"task_id": t.pk, "executor": "script", "prompt": "true"}, JSON
    ),
    "follow up": lambda c, p, t, a, r: c.post(
        f"/api/task-attempts/{a.pk}/follow-up", {"prompt": "true"}, JSON
    ),
    "start the server": lambda c, p, t, a, r: c.post(f"/api/task-attempts/{a.pk}/devserver"),
    "stop": lambda c, p, t, a, r: c.post(f"/api/processes/{r.pk}/stop"),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_it_is_not_there_any_more(
    call: Call, project: Project, task: Task, admin: User, tmp_path: Path, settings: Any
) -> None:
    settings.VIBE_DATA = tmp_path / "data"
    Project.objects.filter(pk=project.pk).update(dev_script="true")
    attempt = TaskAttempt.objects.create(task=task, executor="script", branch="b", target_branch="main")
    run = ExecutionProcess.objects.create(task_attempt=attempt, run_reason="codingagent", status="running")
    client = bearer_client(admin)
    deleted: list[str] = []

    def delete() -> None:
        try:
            Project.objects.get(pk=project.pk).delete()
        finally:
            connection.close()

    def before_it_begins_to_write(execute: Any, sql: str, *arguments: Any) -> Any:
        if sql.startswith(("BEGIN", "UPDATE")) and not deleted:
            deleted.append(sql)
            with ThreadPoolExecutor(1) as another:
                another.submit(delete).result(20)
        return execute(sql, *arguments)

    with connection.execute_wrapper(before_it_begins_to_write):
        answer = call(client, project, task, attempt, run)
    assert deleted
    assert answer.status_code == 404, answer.content
    assert not Project.objects.exists() and not TaskAttempt.objects.exists()
