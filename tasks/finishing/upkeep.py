"""What is removed when its time has come: worktrees of ended attempts, and work kept of discarded ones."""

import logging
import os
import shutil
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

from django.conf import settings
from django.utils import timezone

from tasks import git, snapshots, worktrees
from tasks.errors import Refused
from tasks.finishing import journal, operations
from tasks.models import ExecutionProcess, Project, TaskAttempt

logger = logging.getLogger("tasks")

KEPT_DAYS: Final = 30


def remove_ended_worktrees(days: float | None = None, *, even_dirty: bool = False) -> int:
    """Removes the worktrees of attempts that ended more than `days` ago (default: VIBE_WORKTREE_DAYS); how many.

    One with work in it that is not committed stays, unless `even_dirty`: then the work is kept under a
    reference first. The branch of a merged attempt goes with its worktree: its commits stay under `refs/vibe/merged/`.
    """
    days = settings.VIBE_WORKTREE_DAYS if days is None else days
    ended = TaskAttempt.objects.exclude(outcome=TaskAttempt.Outcome.OPEN).filter(
        worktree__isnull=False, updated_at__lt=timezone.now() - timedelta(days=days)
    )
    return sum(_remove(attempt, even_dirty) for attempt in ended.select_related("task__project"))


def _remove(attempt: TaskAttempt, even_dirty: bool) -> bool:
    repo, folder = Path(attempt.task.project.repo_path), Path(attempt.worktree or "")
    if attempt.processes.exclude(status__in=ExecutionProcess.ENDED).exists() or not git.is_there(repo):
        return False
    try:
        with journal.only_one(repo):
            if worktrees.existing(attempt.worktree):
                if not even_dirty and _holds_work(repo, folder):
                    return False
                attempt.kept_ref = worktrees.keep_work(repo, folder, attempt.pk, branch=attempt.branch) or ""
            operations.remove_worktree(repo, folder, attempt.pk)
            _drop_merged_branch(repo, attempt)
    except (git.GitError, OSError, Refused) as error:
        logger.warning("The worktree %s cannot be removed: %s", folder, error)
        return False
    TaskAttempt.objects.filter(pk=attempt.pk).update(
        worktree=None, kept_ref=attempt.kept_ref, updated_at=timezone.now()
    )
    return True


def _holds_work(repo: Path, folder: Path) -> bool:
    head = git.commit_of(folder, "HEAD")
    return snapshots.is_dirty(folder) or bool(head and not git.is_held(repo, head))


def _drop_merged_branch(repo: Path, attempt: TaskAttempt) -> None:
    branch = f"refs/heads/{attempt.branch}"
    tip, merged = git.commits_of(repo, branch, worktrees.merged_ref(attempt.pk))
    # Whoever works on it goes on: without its branch a worktree has no commit.
    if tip is not None and tip == merged and branch not in git.checkouts(repo).values():
        git.run("update-ref", "-d", branch, tip, cwd=repo)


def expire_kept_refs(days: float = KEPT_DAYS) -> int:
    """Removes what was kept of discarded attempts more than `days` ago, and what belongs to deleted ones; how many."""
    oldest = time.time() - days * 86_400
    count = 0
    for project in Project.objects.all():
        repo = Path(project.repo_path)
        try:
            count += _expire(repo, oldest) if git.is_there(repo) else 0
        except git.GitError as error:
            logger.warning("Kept work in %s cannot be expired: %s", repo, error)
    _expire_folders(oldest)
    return count


def _expire(repo: Path, oldest: float) -> int:
    count = 0
    for moment, ref in _references(repo, worktrees.KEPT_REFS, worktrees.MERGED_REFS):
        if moment >= oldest or _is_needed(ref):
            continue
        git.run("update-ref", "-d", ref, cwd=repo)
        TaskAttempt.objects.filter(kept_ref=ref).update(kept_ref="", updated_at=timezone.now())
        count += 1
    return count


def _references(repo: Path, *prefixes: str) -> Iterator[tuple[int, str]]:
    wanted = "--format=%(objecttype) %(committerdate:unix) %(refname)"
    for line in filter(None, git.run("for-each-ref", wanted, *prefixes, cwd=repo).text.split("\n")):
        kind, moment, ref = line.split(" ", 2)
        if kind == "commit":  # else it is somebody's own
            # Whoever writes a commit past git may give it a date that is none.
            yield int(moment or 0), ref


def _is_needed(ref: str) -> bool:
    """Whether a merged attempt shows its diff from there."""
    return ref.startswith(worktrees.MERGED_REFS) and _exists(ref.removeprefix(worktrees.MERGED_REFS))


def _exists(attempt_id: str) -> bool:
    try:
        return TaskAttempt.objects.filter(pk=UUID(attempt_id)).exists()
    except ValueError:
        return True  # Not one of ours.


def _expire_folders(oldest: float) -> None:
    """Repositories that were moved out of a discarded worktree, and left-overs of diff streams."""
    for folder in (Path(settings.VIBE_DATA) / "kept").glob("*"):
        if _is_older(folder, oldest):
            shutil.rmtree(folder, ignore_errors=True)
    for file in (Path(settings.VIBE_DATA) / "diffs").glob("*"):
        if _is_older(file, oldest):
            file.unlink(missing_ok=True)


def _is_older(file: Path, oldest: float) -> bool:
    try:
        return os.stat(file).st_mtime < oldest
    except FileNotFoundError:  # written to and replaced all the time
        return False
