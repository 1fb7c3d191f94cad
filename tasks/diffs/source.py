"""Where the diff of an attempt comes from: its worktree while there is one, else the commits it left."""

import logging
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from events.wheel import close_connections
from tasks import git, worktrees
from tasks.models import TaskAttempt

logger = logging.getLogger("tasks")


@dataclass(frozen=True, slots=True)
class Source:
    folder: Path
    """A worktree, or, with a `tip`, the repository."""
    base: str
    """Empty while the attempt has not begun: nothing differs."""
    tip: str = ""
    ended: bool = False
    """Merged or discarded: this is its last state."""
    note: str = ""


def load(attempt_id: UUID) -> Source | None:
    """None where there is no such attempt (any more). Runs in a thread, which keeps no database connection."""
    try:
        attempt = TaskAttempt.objects.select_related("task__project").filter(pk=attempt_id).first()
    finally:
        close_connections()
    return None if attempt is None else of(attempt)


def of(attempt: TaskAttempt) -> Source:
    repo = Path(attempt.task.project.repo_path)
    if attempt.outcome != TaskAttempt.Outcome.OPEN:
        return Source(repo, attempt.base_commit, last_commit(repo, attempt), ended=True)
    if not attempt.base_commit:
        return Source(repo, "")
    if folder := worktrees.existing(attempt.worktree):
        return Source(folder, attempt.base_commit)
    return Source(repo, attempt.base_commit, last_commit(repo, attempt), note=worktrees.what_is_gone(attempt))


def last_commit(repo: Path, attempt: TaskAttempt) -> str:
    """The commit with the last state of an attempt; its base where none is left."""
    references = (worktrees.merged_ref(attempt.pk), attempt.kept_ref, f"refs/heads/{attempt.branch}")
    try:
        found = git.commits_of(repo, *filter(None, references))
        return next((commit for commit in found if commit), attempt.base_commit)
    except git.GitError as error:
        logger.warning("The last state of attempt %s cannot be read: %s", attempt.pk, error)
        return attempt.base_commit
