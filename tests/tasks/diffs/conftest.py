"""An attempt on a real repository, and a service that streams its diff."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from django.contrib.auth.models import User

from events.service import EventService
from tasks import worktrees
from tasks.diffs.log import DiffLog
from tasks.models import Project, Task, TaskAttempt
from tests.repositories import git, make_repository
from tests.tasks.diffs.random_edits import BASE_LINES


@pytest.fixture
def user() -> User:
    return User.objects.create_superuser("admin")


@pytest.fixture
async def service() -> AsyncIterator[EventService]:
    made = EventService()
    made.linger = 0.0
    made.register("diff", DiffLog)
    yield made
    await made.close_all()


def make_attempt(folder: Path) -> TaskAttempt:
    files = {
        "a.txt": "".join(BASE_LINES),
        "src/x.bin": "z\n",
        "src/deep er/b c.txt": "hello\n" * 20,
        "-option": "o\n",
    }
    repository = make_repository(folder / "repository", files)
    git(repository, "checkout", "-q", "-b", "other")
    (repository / "other.txt").write_text("o\n")
    (repository / "a.txt").write_text("".join(BASE_LINES[2:]))
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "other")
    git(repository, "checkout", "-q", "main")
    git(repository, "branch", "side")
    project = Project.objects.create(name=folder.name, repo_path=str(repository), target_branch="main")
    task = Task.objects.create(project=project, title="A task")
    attempt = TaskAttempt.objects.create(task=task, executor="demo", target_branch="main", branch="")
    made = worktrees.create(project, attempt.pk, task.title, "main")
    attempt.branch, attempt.base_commit, attempt.worktree = made.branch, made.base_commit, str(made.path)
    attempt.save()
    git(made.path, "branch", "topic")
    return attempt


@pytest.fixture
def attempt(tmp_path: Path) -> TaskAttempt:
    return make_attempt(tmp_path)


@pytest.fixture
def place(attempt: TaskAttempt) -> Path:
    return Path(str(attempt.worktree))
