"""What happens where another deletes a record while somebody is about to change or read it."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError
from django.db import connection
from django.test import Client

from tasks import actions
from tasks.finishing import finish
from tasks.models import ExecutionProcess, Project, Task, TaskAttempt
from tasks.runs import runner
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


@pytest.fixture
def attempt(task: Task, tmp_path: Path, settings: Any) -> TaskAttempt:
    settings.VIBE_DATA = tmp_path / "data"
    return TaskAttempt.objects.create(task=task, executor="script", branch="b", target_branch="main")


@pytest.fixture
def run(attempt: TaskAttempt) -> ExecutionProcess:
    return ExecutionProcess.objects.create(task_attempt=attempt, run_reason="codingagent", status="running")


@contextmanager
def deleted_before(project: Project, statement: tuple[str, ...]) -> Iterator[None]:
    """Another deletes the project just before this thread carries out such a statement for the first time."""
    deleted: list[str] = []

    def delete() -> None:
        try:
            Project.objects.get(pk=project.pk).delete()
        finally:
            connection.close()

    def before(execute: Any, sql: str, *arguments: Any) -> Any:
        if sql.startswith(statement) and not deleted:
            deleted.append(sql)
            with ThreadPoolExecutor(1) as another:
                another.submit(delete).result(20)
        return execute(sql, *arguments)

    with connection.execute_wrapper(before):
        yield
    assert deleted


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_request_is_told(
    call: Call, project: Project, task: Task, attempt: TaskAttempt, run: ExecutionProcess, admin: User
) -> None:
    Project.objects.filter(pk=project.pk).update(dev_script="true")
    client = bearer_client(admin)
    with deleted_before(project, ("BEGIN", "UPDATE")):
        answer = call(client, project, task, attempt, run)
    assert answer.status_code == 404, answer.content
    assert not Project.objects.exists() and not TaskAttempt.objects.exists()


@pytest.mark.parametrize("what", ["projects", "tasks"])
def test_who_deletes_the_same_has_it_gone(
    what: str, project: Project, task: Task, attempt: TaskAttempt, admin: User
) -> None:
    TaskAttempt.objects.filter(pk=attempt.pk).update(worktree="/gone")
    record = {"projects": project, "tasks": task}[what]
    client = bearer_client(admin)
    with deleted_before(project, ("BEGIN", "UPDATE")):
        assert client.delete(f"/api/{what}/{record.pk}").status_code == 204
    assert not Project.objects.exists() and not TaskAttempt.objects.exists()


def test_who_moves_a_task_there_is_told(project: Project, admin: User) -> None:
    other = Project.objects.create(name="Other", repo_path="/other", target_branch="main")
    task = other.tasks.create(title="Moves")
    client = bearer_client(admin)
    with deleted_before(project, ("BEGIN",)):
        answer = client.patch(f"/api/tasks/{task.pk}", {"project_id": str(project.pk)}, JSON)
    assert answer.status_code == 404, answer.content
    assert Task.objects.get(pk=task.pk).project == other


def test_what_is_started_before_its_task_is_deleted_keeps_it(
    task: Task, attempt: TaskAttempt, admin: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    TaskAttempt.objects.filter(pk=attempt.pk).update(worktree="/gone")
    drop = finish.drop_worktree

    def drop_and_start(one: TaskAttempt) -> None:
        drop(one)
        runner.start_attempt(task, "demo", None, None, admin)

    monkeypatch.setattr(finish, "drop_worktree", drop_and_start)
    answer = bearer_client(admin).delete(f"/api/tasks/{task.pk}")
    assert (answer.status_code, "still go on" in answer.json()["detail"]) == (409, True)
    assert task.attempts.count() == 2


def test_who_follows_a_log_is_told(project: Project, run: ExecutionProcess, admin: User) -> None:
    its_status = ('SELECT "tasks_executionprocess"."id", "tasks_executionprocess"."status"',)
    with (
        pytest.raises(CommandError, match="does not exist"),
        actions.explained(CommandError),
        deleted_before(project, its_status),
    ):
        actions.read_log(admin, run.pk, wait_seconds=20)
