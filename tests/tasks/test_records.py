"""What must hold of the records is held by the database itself, whoever writes there."""

import pytest
from django.db import IntegrityError, connection, transaction

from tasks.models import ExecutionProcess, Project, Task, TaskAttempt

pytestmark = pytest.mark.django_db


def write(sql: str, *values: object) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql, values)


@pytest.fixture
def run(task: Task) -> ExecutionProcess:
    attempts = [
        TaskAttempt.objects.create(
            task=task, executor="x", branch="b", target_branch="main", worktree=worktree
        )
        for worktree in ("/one", "/two")
    ]
    Project.objects.create(name="Other", repo_path="/other", target_branch="main")
    return ExecutionProcess.objects.create(task_attempt=attempts[0], run_reason="codingagent")


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("tasks_task", "status", "doing"),
        ("tasks_taskattempt", "outcome", "lost"),
        ("tasks_taskattempt", "worktree", "/one"),
        ("tasks_executionprocess", "status", "asleep"),
        ("tasks_executionprocess", "run_reason", "fun"),
        ("tasks_project", "repo_path", "/other"),
    ],
)
def test_the_database_refuses_what_cannot_be(
    run: ExecutionProcess, table: str, column: str, value: str
) -> None:
    with pytest.raises(IntegrityError):
        write(f"UPDATE {table} SET {column} = %s", value)


def test_worktrees_that_are_not_made_yet_are_many(run: ExecutionProcess) -> None:
    write("UPDATE tasks_taskattempt SET worktree = NULL")
