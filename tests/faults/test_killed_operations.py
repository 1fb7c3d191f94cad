"""kill -9 in the middle of a merge, a rebase, a discard: after the next start it is all there, or nothing of it."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from django.contrib.auth.models import User
from django.db import connection

from tasks import git, worktrees
from tasks.finishing import finish, journal
from tasks.finishing import operations as operations_module
from tasks.models import Project, Task, TaskAttempt
from tests.repositories import git as plain
from tests.repositories import make_repository
from tests.scale import scaled

pytestmark = pytest.mark.django_db(transaction=True)

FILES = 150


class Operations:
    """The program that is killed, kept warm: only its children die."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("killed_operation.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "DATABASE_URL": f"sqlite:///{connection.settings_dict['NAME']}",
                "PYTHONPATH": ".",
            },
        )

    def run(self, name: str, attempt: TaskAttempt, kill_after: float | None) -> float:
        """Seconds it took; killed with all its children after `kill_after`."""
        assert self.process.stdin and self.process.stdout
        began = time.monotonic()
        print(name, attempt.pk, file=self.process.stdin, flush=True)
        child = int(self.process.stdout.readline())
        if kill_after is not None:
            time.sleep(kill_after)
            kill_tree(child)
        self.process.stdout.readline()
        return time.monotonic() - began


def kill_tree(pid: int) -> None:
    try:
        parent = psutil.Process(pid)
        victims = [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for victim in victims:
        try:
            os.kill(victim.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


@pytest.fixture(scope="module")
def operations(django_db_setup: None) -> Iterator[Operations]:
    held = Operations()
    yield held
    assert held.process.stdin
    held.process.stdin.close()
    held.process.wait(20)


@pytest.fixture
def user() -> User:
    return User.objects.create_superuser("admin")


def make_attempt(folder: Path) -> TaskAttempt:
    """An attempt with a commit, uncommitted work, and a target that has moved on and is checked out."""
    repository = make_repository(folder, {f"dir{n % 7}/file{n}": f"{n}\n" * 50 for n in range(FILES)})
    project = Project.objects.create(name=folder.name, repo_path=str(repository), target_branch="main")
    task = Task.objects.create(project=project, title="A task", status="inreview")
    attempt = TaskAttempt.objects.create(task=task, executor="demo", target_branch="main", branch="")
    made = worktrees.create(project, attempt.pk, task.title, "main")
    attempt.branch, attempt.base_commit, attempt.worktree = made.branch, made.base_commit, str(made.path)
    attempt.save()
    for number in range(0, FILES, 2):
        (made.path / f"dir{number % 7}/file{number}").write_text(f"changed {number}\n" * 60)
    (made.path / "dir0/file0").unlink()
    plain(made.path, "add", "-A")
    plain(made.path, "commit", "-q", "-m", "work")
    (made.path / "uncommitted").write_text("u\n")
    (repository / "dir1/file1").write_text("theirs\n")
    plain(repository, "commit", "-q", "-a", "-m", "theirs")
    (repository / "mine").write_text("untracked\n")
    return attempt


def state(repository: Path) -> dict[str, object]:
    found: dict[str, object] = {"refs": plain(repository, "for-each-ref")}
    for place in git.checkouts(repository):
        files = {
            str(path.relative_to(place)): path.read_bytes()
            for path in sorted(place.rglob("*"))
            if path.is_file() and ".git" not in path.parts
        }
        found[str(place)] = (files, plain(place, "status", "--porcelain"))
    return found


def check_whole(name: str, attempt: TaskAttempt, before: dict[str, object]) -> bool:
    """Whether the operation was made; fails where it is neither made nor undone."""
    repository = Path(attempt.task.project.repo_path)
    assert journal.read(attempt.pk) is None
    assert not list(repository.glob(".git/**/*.lock"))
    plain(repository, "fsck", "--connectivity-only", "--no-dangling")
    assert (repository / "mine").read_text() == "untracked\n"
    fresh = TaskAttempt.objects.select_related("task").get(pk=attempt.pk)
    after = state(repository)
    if after == before:
        assert (fresh.outcome, fresh.task.status, fresh.base_commit) == (
            "open",
            "inreview",
            attempt.base_commit,
        )
        return False
    assert after[str(repository)][1] == "?? mine\n"  # type: ignore[index]
    CHECKS[name](fresh, repository)
    return True


def merged(attempt: TaskAttempt, repository: Path) -> None:
    assert (attempt.outcome, attempt.task.status) == ("merged", "done")
    assert plain(repository, "rev-parse", "main").strip() == attempt.merge_commit
    assert (repository / "uncommitted").read_text() == "u\n"
    assert plain(Path(str(attempt.worktree)), "status", "--porcelain") == ""


def rebased(attempt: TaskAttempt, repository: Path) -> None:
    place = Path(str(attempt.worktree))
    assert attempt.base_commit == plain(repository, "rev-parse", "main").strip()
    assert plain(place, "rev-parse", "HEAD~1").strip() == attempt.base_commit
    assert plain(place, "status", "--porcelain") == "?? uncommitted\n"
    assert (place / "dir1/file1").read_text() == "theirs\n"


def discarded(attempt: TaskAttempt, repository: Path) -> None:
    assert (attempt.outcome, attempt.worktree) == ("discarded", None)
    assert plain(repository, "show", f"{attempt.kept_ref}:uncommitted") == "u\n"
    assert len(git.checkouts(repository)) == 1


CHECKS = {"merge": merged, "rebase": rebased, "discard": discarded}
PLANS: dict[str, Callable[[TaskAttempt, User], journal.Operation]] = {
    "merge": lambda attempt, user: finish._plan_merge(attempt, "merge", user),
    "discard": finish._plan_discard,
}


@pytest.mark.parametrize("name", CHECKS)
def test_all_or_nothing(
    name: str,
    operations: Operations,
    user: User,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    warm = make_attempt(tmp_path / "warm")
    before = state(tmp_path / "warm")
    seconds = operations.run(name, warm, None)
    assert check_whole(name, warm, before)

    moments = random.Random(2026)
    rounds = scaled(60, 2)
    made = 0
    for number in range(rounds):
        attempt = make_attempt(tmp_path / f"r{number}")
        before = state(tmp_path / f"r{number}")
        operations.run(name, attempt, moments.uniform(0.1, 1.1) * seconds)
        finish.recover()
        made += check_whole(name, attempt, before)
    record_property("made", f"{made} of {rounds}")


@pytest.mark.parametrize("name", PLANS)
def test_locks_of_a_killed_git_are_removed(
    name: str, user: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations_module, "_LOCK_SECONDS", 0.05)
    attempt = make_attempt(tmp_path / "r")
    before = state(tmp_path / "r")
    plan = PLANS[name](attempt, user)
    journal.write(plan)
    place = Path(plan.files.folder) if plan.files else tmp_path / "r"
    left = [tmp_path / "r/.git" / f"{plan.moves[-1].ref}.lock", git.git_folder(place) / "HEAD.lock"]
    if name == "merge":
        left += [
            git.git_folder(Path(str(attempt.worktree))) / f"{lock}.lock" for lock in ("index", "ORIG_HEAD")
        ]
    if name == "discard":
        left.append(tmp_path / "r/.git/packed-refs.lock")
    for lock in left:
        lock.parent.mkdir(parents=True, exist_ok=True)
        lock.touch()
    finish.recover()
    assert not check_whole(name, attempt, before)
