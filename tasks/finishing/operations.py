"""Carrying an operation out, and ending one that was cut off (tasks/finishing/journal.py)."""

import errno
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError, transaction

from tasks import git, projects, snapshots, worktrees
from tasks.errors import Refused
from tasks.finishing import checkouts, journal
from tasks.finishing.checkouts import Checkout
from tasks.finishing.journal import FileUpdate, Move, Operation
from tasks.models import ExecutionProcess, RunReason, Task, TaskAttempt

logger = logging.getLogger("tasks")

Planner = Callable[[TaskAttempt], Operation]
_LOCK_SECONDS: Final = 5.0
"""How long a reference's lock of a git that was cut off is waited for before it is removed."""


def check_idle(attempt: TaskAttempt) -> None:
    """Refused (409) where a run waits or goes on in the attempt; a development server may."""
    running = attempt.processes.exclude(status__in=ExecutionProcess.ENDED)
    if running.exclude(run_reason=RunReason.DEVSERVER).exists():
        raise Refused("A run still goes on in this attempt: stop it, or wait for its end.")


class Unfinished(Exception):
    """Neither all done nor all put back: the journal still has it."""


class Moved(Exception):
    """A reference is not what it was when the operation was planned."""


def execute(operation: Operation) -> None:
    """Carries it out. Raises Refused, GitError or Moved, and then has put everything back; or Unfinished.

    What is unfinished keeps the lock of the checkout: it tells `settle` that there is more to do, and others that the
    files and the index do not belong together.
    """
    journal.write(operation)
    with _checkout(operation) as checkout:
        try:
            # A run may have been asked for while this was planned. From here on none is: the journal tells of it.
            with transaction.atomic():
                check_idle(projects.hold(TaskAttempt(pk=UUID(operation.attempt))))
            if checkout is not None and operation.files is not None:
                checkout.lock()
                _recheck(checkout, operation.files)
                checkout.advance(operation.files)
            move_references(operation)
        except BaseException:
            if checkout is not None and operation.files is not None and checkout.advanced:
                _restore(checkout, operation.files)
            if checkout is not None:
                checkout.give_up()
            journal.erase(operation.attempt)
            raise
        try:
            _complete(operation, checkout)
        except (git.GitError, OSError, DatabaseError) as error:
            raise Unfinished(str(error)) from error


@contextmanager
def _checkout(operation: Operation) -> Iterator[Checkout | None]:
    if operation.files is None or not Path(operation.files.folder).is_dir():
        yield None
        return
    checkout = Checkout(Path(operation.files.folder), operation.attempt)
    try:
        yield checkout
    except BaseException:
        checkout.leave()
        raise
    finally:
        checkout.close()


def _restore(checkout: Checkout, update: FileUpdate) -> None:
    try:
        checkouts.restore(checkout.folder, update)
    except (git.GitError, OSError) as error:
        raise Unfinished(f"{checkout.folder} holds half of it, and it cannot be put back: {error}") from error


def _recheck(checkout: Checkout, update: FileUpdate) -> None:
    """Under the lock: the files must still be what the operation was planned for."""
    if not update.dirty:
        checkouts.check_clean(checkout.folder)
    elif snapshots.take_into(checkout.folder, checkout.env).tree != update.from_tree:
        raise Moved(f"files in {checkout.folder} have changed")
    checkout.check(update)


def move_references(operation: Operation) -> None:
    """In one transaction, each only from the commit it was at. Raises Moved where one was elsewhere."""
    lines = []
    for move in operation.moves:
        if not move.new:
            lines.append(f"delete {move.ref}\0{move.old}\0")
        elif move.old != move.new:
            lines.append(f"update {move.ref}\0{move.new}\0{move.old or '0' * len(move.new)}\0")
        else:
            lines.append(f"verify {move.ref}\0{move.old}\0")
    given = os.fsencode("".join(lines))
    try:
        args = ["update-ref", "-m", operation.reason, "-z", "--stdin"]
        git.run(*args, cwd=_folder_of_git(operation), stdin=given)
    except git.GitError as error:
        if "but expected" in error.stderr or "reference already exists" in error.stderr:
            raise Moved(error.reason) from error
        raise


def _folder_of_git(operation: Operation) -> str:
    """Where references are moved: in the working copy that has the branch, so that its HEAD's reflog tells of it."""
    return operation.files.folder if operation.files else operation.repo


def _complete(operation: Operation, checkout: Checkout | None) -> None:
    """All that follows the references. May be done again after having been cut off anywhere in it."""
    if checkout is not None and operation.files is not None:
        checkout.finish(operation.files)
    if operation.fresh_index:
        checkouts.settle_index(Path(operation.fresh_index))
    if operation.remove:
        remove_worktree(Path(operation.repo), Path(operation.remove), UUID(operation.attempt))
    _record(operation)
    journal.erase(operation.attempt)


def _record(operation: Operation) -> None:
    with transaction.atomic():
        attempt = TaskAttempt.objects.filter(pk=operation.attempt).select_related("task").first()
        if attempt is None:
            return
        for name, value in operation.record.items():
            setattr(attempt, name, value)
        attempt.save(update_fields=[*operation.record, "updated_at"])
        if operation.done and attempt.task.status != Task.Status.DONE:
            attempt.task.status = Task.Status.DONE
            attempt.task.save(update_fields=["status", "updated_at"])


def kept_folder(attempt_id: UUID) -> Path:
    return Path(settings.VIBE_DATA) / "kept" / str(attempt_id)


def remove_worktree(repo: Path, folder: Path, attempt_id: UUID) -> None:
    """Removes it, but moves what no commit of ours holds to VIBE_DATA/kept: repositories inside it; all that lies in it
    where its `.git` was deleted, without which git sees none of it."""
    if worktrees.existing(str(folder)):
        for name in snapshots.inner_work(folder):
            _make_whole(folder, folder / name)
            goal = kept_folder(attempt_id) / name
            if not goal.exists():
                goal.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                shutil.move(folder / name, goal)
    elif os.path.isdir(folder) and os.listdir(folder):
        goal = kept_folder(attempt_id) / "worktree"
        if not goal.exists():
            goal.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _move_at_once(folder, goal)
    worktrees.remove(repo, folder)


def _make_whole(folder: Path, inner: Path) -> None:
    """A submodule's git folder lies in that of the worktree and would go with it: it is put into the submodule."""
    whole = inner / snapshots.WHOLE
    if not whole.exists():  # else it was cut off below
        found = git.run("rev-parse", "--absolute-git-dir", cwd=inner, accept=(0, 128))
        place = Path(found.text)
        if found.code or not place.is_relative_to(git.git_folder(folder) / "modules"):
            return
        git.run(
            "config", "--file", place / "config", "--unset-all", "core.worktree", cwd=folder, accept=(0, 5)
        )
        _move_at_once(place, whole)
    inner.joinpath(".git").unlink(missing_ok=True)
    whole.rename(inner / ".git")


def _move_at_once(place: Path, goal: Path) -> None:
    """So that what is found at `goal` is complete. From another disk it is a copy, and the original goes later."""
    try:
        place.rename(goal)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        part = goal.with_name(f"{goal.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(place, part, symlinks=True)
        part.rename(goal)


# --- after a crash


def settle(operation: Operation) -> None:
    """Ends an operation that was cut off: carried through if any of its references was moved, else put back.

    Raises Unfinished where that, too, fails.
    """
    try:
        _settle(operation)
    except (git.GitError, Moved, OSError, DatabaseError) as error:
        raise Unfinished(str(error)) from error


def _settle(operation: Operation) -> None:
    repo = Path(operation.repo)
    if not repo.is_dir():
        logger.warning(
            "Attempt %s: %s is gone, and with it what was being done there", operation.attempt, repo
        )
        journal.erase(operation.attempt)
        return
    for lock in _locks(repo, operation):
        _unlock(lock)
    made = any(_is_made(repo, move) for move in operation.moves)
    logger.warning(
        "Attempt %s: “%s” was cut off and is %s",
        operation.attempt, operation.reason, "carried through" if made else "undone",
    )  # fmt: skip
    if made:
        _carry_through(operation)
    else:
        _put_back(operation)


def _is_made(repo: Path, move: Move) -> bool:
    if move.old == move.new:
        return False
    now = git.commit_of(repo, move.ref) or ""
    if now == move.new:
        return True
    return bool(now and move.new) and now != move.old and git.is_ancestor(repo, move.new, now)


def _carry_through(operation: Operation) -> None:
    repo = Path(operation.repo)
    pending = [
        move for move in operation.moves if (git.commit_of(repo, move.ref) or "") == move.old != move.new
    ]
    if pending:
        move_references(replace(operation, moves=tuple(pending)))
    with _checkout(operation) as checkout:
        if checkout is not None and operation.files is not None and checkout.take_over():
            checkout.reset_to(operation.files)
            checkout.finish(operation.files)
    _complete(operation, None)


def _put_back(operation: Operation) -> None:
    with _checkout(operation) as checkout:
        if checkout is not None and operation.files is not None and checkout.take_over():
            _restore(checkout, operation.files)
    journal.erase(operation.attempt)


def _locks(repo: Path, operation: Operation) -> list[Path]:
    """Where a git that was killed in this operation may have left a lock."""
    common = git.common_folder(repo)
    found = [common / f"{move.ref}.lock" for move in operation.moves]
    if any(not move.new for move in operation.moves):
        found.append(common / "packed-refs.lock")
    # The HEAD of the worktree in which git ran is locked together with its branch.
    for folder in {_folder_of_git(operation), operation.fresh_index} - {""}:
        if Path(folder, ".git").exists():
            names = ["HEAD", "ORIG_HEAD", *(["index"] if folder == operation.fresh_index else [])]
            found += [git.git_folder(folder) / f"{name}.lock" for name in names]
    return found


def _unlock(lock: Path) -> None:
    """Removes a lock that a killed git left; a living one gets the time to end."""
    deadline = time.monotonic() + _LOCK_SECONDS
    while lock.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    lock.unlink(missing_ok=True)


def recover() -> int:
    """Ends whatever operations were cut off when the server stopped; how many there were."""
    found = journal.read_all()
    for operation in found:
        with journal.only_one(Path(operation.repo)):
            # Read again under the lock: another process of the board may have been at it, and have ended it.
            current = journal.read(operation.attempt)
            if current is not None:
                try:
                    settle(current)
                except Unfinished as error:
                    logger.error("Attempt %s cannot be recovered: %s", operation.attempt, error)
    return len(found)
