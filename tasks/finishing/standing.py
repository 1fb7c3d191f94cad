"""How an attempt stands to its target branch."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from django.db import DatabaseError

from events.wheel import close_connections
from tasks import git, identity, snapshots, worktrees
from tasks.errors import Refused
from tasks.finishing import journal, merging
from tasks.models import TaskAttempt

PATIENCE = 20.0
"""Seconds that each git may take where it may run a program of the user's: looking must not hang with it."""


@dataclass(frozen=True, slots=True)
class Status:
    target_branch: str
    ahead: int = 0
    """Commits that the target branch lacks."""
    behind: int = 0
    """Commits of the target branch that the attempt lacks."""
    dirty: bool = False
    """Whether the worktree holds work that is not committed."""
    conflicts: tuple[str, ...] = ()
    """Files that a merge would leave in conflict, work that is not committed included."""
    problem: str = ""
    """Why some of this is not known, for a person."""


def status(attempt: TaskAttempt) -> dict[str, Any]:
    """The fields of Status. All zero for an attempt that has ended or not begun, or whose branches are gone.

    Raises Refused (409) where git cannot say.
    """
    try:
        return asdict(_status(attempt))
    except git.GitError as error:
        raise Refused(f"git cannot say how the attempt stands: {error.reason}", 409) from error


def status_of(attempt_id: UUID) -> dict[str, Any] | None:
    """The same, for a thread of its own, with a `problem` where git cannot say; None where there is no such attempt."""
    try:
        # What goes away while git reads it is no problem.
        return _told(attempt_id) or _told(attempt_id, problems=True)
    except DatabaseError:
        return None
    finally:
        close_connections()


def _told(attempt_id: UUID, *, problems: bool = False) -> dict[str, Any] | None:
    attempt = TaskAttempt.objects.select_related("task__project").filter(pk=attempt_id).first()
    if attempt is None:
        return None
    try:
        return status(attempt)
    except (OSError, Refused) as error:
        return asdict(Status(attempt.target_branch, problem=str(error))) if problems else None


def _status(attempt: TaskAttempt) -> Status:
    repo = Path(attempt.task.project.repo_path)
    nothing = Status(attempt.target_branch)
    if attempt.outcome != TaskAttempt.Outcome.OPEN or not attempt.base_commit or not git.is_there(repo):
        return nothing
    tip, target = git.branch_commits(repo, attempt.branch, attempt.target_branch)
    if tip is None or target is None:
        return nothing
    ahead, behind = _apart(repo, tip, target)
    worktree = worktrees.existing(attempt.worktree)
    dirty, problem = False, _what_is_gone(attempt)
    conflicts: tuple[str, ...] = ()
    try:
        with git.at_most(min(PATIENCE, git.patience.get())):
            dirty = worktree is not None and snapshots.is_dirty(worktree)
            # What the target has is in the attempt already: there is nothing to be in conflict with.
            conflicts = _conflicts(repo, worktree if dirty else None, tip, target) if behind else ()
    except git.TookTooLong as error:
        problem = f"Whether a merge would conflict is not known, as a program did not end. {error.reason}"
    return Status(attempt.target_branch, ahead, behind, dirty, conflicts, problem)


def _what_is_gone(attempt: TaskAttempt) -> str:
    gone = worktrees.what_is_gone(attempt)
    # An attempt that is being ended loses its worktree before its record says so.
    return "" if gone and journal.under_way(attempt.pk) else gone


def _apart(repo: Path, tip: str, target: str) -> tuple[int, int]:
    """How many commits each has that the other lacks."""
    if tip == target:
        return 0, 0
    counted = git.run("rev-list", "--left-right", "--count", f"{tip}...{target}", cwd=repo).text
    ahead, behind = map(int, counted.split())
    return ahead, behind


def _conflicts(repo: Path, worktree: Path | None, tip: str, target: str) -> tuple[str, ...]:
    """Asked in a throwaway object store: looking at the page leaves nothing in the repository."""
    with merging.throwaway_objects(repo) as env:
        if worktree is not None:
            with snapshots.index_copy(worktree) as index:
                tree = snapshots.tree_into(worktree, env | index)
            tip = merging.commit(repo, tree, [tip], "uncommitted work", env | identity.NOBODY)
        return merging.merge(repo, target, tip, env).conflicts
