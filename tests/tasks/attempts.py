"""Attempts on real repositories, for the tests of how they end."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tasks import git, worktrees
from tasks.errors import Refused
from tasks.finishing import journal
from tasks.models import Task, TaskAttempt
from tests.repositories import git as plain


def start(task: Task, target: str = "main") -> TaskAttempt:
    made = TaskAttempt.objects.create(task=task, executor="demo", target_branch=target, branch="")
    created = worktrees.create(task.project, made.pk, task.title, target)
    made.branch, made.base_commit, made.worktree = created.branch, created.base_commit, str(created.path)
    made.save()
    return made


def folder(attempt: TaskAttempt) -> Path:
    return Path(attempt.worktree or "")


def commit(place: Path, name: str, content: str, message: str = "change") -> str:
    (place / name).write_text(content)
    plain(place, "add", "-A")
    plain(place, "commit", "-q", "-m", message)
    return plain(place, "rev-parse", "HEAD").strip()


def everything(repository: Path) -> dict[str, object]:
    """All that an operation could change: references, files, indexes."""
    state: dict[str, object] = {"refs": plain(repository, "for-each-ref"), "journal": len(journal.read_all())}
    for place in git.checkouts(repository):
        files = {
            str(path.relative_to(place)): path.read_bytes()
            for path in sorted(place.rglob("*"))
            if path.is_file() and ".git" not in path.parts
        }
        state[str(place)] = (
            files,
            plain(place, "status", "--porcelain"),
            plain(place, "symbolic-ref", "HEAD"),
        )
        assert not (git.git_folder(place) / "index.lock").exists()
    return state


def refused(repository: Path, act: Callable[[], object]) -> Refused:
    """The refusal, after which nothing has changed."""
    before = everything(repository)
    with pytest.raises(Refused) as caught:
        act()
    assert everything(repository) == before
    return caught.value
