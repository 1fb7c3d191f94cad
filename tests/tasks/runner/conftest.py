"""The runner of each test, on real git, real processes and a real database, and what it did."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from django.contrib.auth.models import User

from tasks.models import ExecutionProcess, Project, Task, TaskAttempt
from tasks.runs import launch, runfiles, runner
from tasks.runs.run_loop import Runner
from tests.repositories import make_repository
from tests.runs import wait_for

Status = ExecutionProcess.Status


@pytest.fixture(autouse=True)
def data_folder(settings: Any, tmp_path: Path) -> Path:
    settings.VIBE_DATA = tmp_path / "data"
    settings.VIBE_STOP_GRACE_SECONDS = 0.5
    settings.VIBE_REPO_ROOTS = [tmp_path]
    return Path(settings.VIBE_DATA)


@pytest.fixture
def worker(data_folder: Path) -> Iterator[Runner]:
    runner.start()
    yield runner.runner
    runner.stop_runner()
    for process in ExecutionProcess.objects.filter(status=Status.RUNNING):
        launch.write_stop(runfiles.folder_of(process.pk), "The test is over.")
        launch.signal_stop(runfiles.folder_of(process.pk))
        wait_for(lambda p=process: os.path.exists(runfiles.folder_of(p.pk).exit), "the end of a left run")


@pytest.fixture
def project(tmp_path: Path, db: None) -> Project:
    repository = make_repository(tmp_path / "repository")
    return Project.objects.create(name="Test", repo_path=str(repository), target_branch="main")


@pytest.fixture
def task(project: Project) -> Task:
    return Task.objects.create(project=project, title="Say hello")


@pytest.fixture
def user(db: None) -> User:
    return User.objects.create_superuser("ada")


def start(task: Task, script: str, executor: str = "script") -> TaskAttempt:
    return runner.start_attempt(task, executor, script, None, None)


def agent(attempt: TaskAttempt, index: int = 0) -> ExecutionProcess:
    rows = attempt.processes.filter(run_reason="codingagent").order_by("created_at")
    return rows.select_related("task_attempt")[index]


def ended(process: ExecutionProcess) -> ExecutionProcess:
    def look() -> bool:
        process.refresh_from_db()
        return process.ended

    wait_for(look, f"the end of {process}")
    return process


def worktree_of(attempt: TaskAttempt) -> Path:
    def look() -> bool:
        attempt.refresh_from_db()
        return bool(attempt.worktree)

    wait_for(look, "the worktree")
    return Path(attempt.worktree or "")


def records(process: ExecutionProcess) -> list[dict[str, Any]]:
    path = Path(runfiles.folder_of(process.pk).log)
    return [orjson.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def contents(process: ExecutionProcess, kind: str = "stdout") -> list[str]:
    return [record["content"] for record in records(process) if record["type"] == kind]


def wait_for_line(process: ExecutionProcess, line: str) -> None:
    wait_for(lambda: line in contents(process), f"the line {line!r}")


def status_of(task: Task) -> str:
    task.refresh_from_db()
    return task.status
