"""What the server does by itself every hour and `manage.py vacuum` at once: keeping the data folder small."""

import logging
import os
import shutil
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from tasks import scratch
from tasks.finishing import upkeep
from tasks.models import ExecutionProcess, Project
from tasks.runs import launch, runfiles
from tasks.supervision.folder import RunFolder
from tasks.supervision.logreader import compress

logger = logging.getLogger("tasks")

_DELETED = "deleted"


@dataclass
class Report:
    """What one round did."""

    compressed_logs: int = 0
    saved_bytes: int = 0
    removed_folders: int = 0
    removed_worktrees: int = 0
    expired_refs: int = 0


@dataclass(frozen=True)
class DiskUse:
    """Bytes on disk that belong to one project."""

    project: Project
    logs: int
    worktrees: int


def tidy(*, now: bool = False, uncommitted: bool = False) -> Report:
    """One round. With `now`, logs and worktrees of whatever has ended, however short ago; worktrees with work that is
    not committed only with `uncommitted`, and then the work is kept as that of a discarded attempt is."""
    report = Report()
    hours = 0.0 if now else settings.VIBE_COMPRESS_LOGS_AFTER_HOURS
    for process in ended_before(hours).only("pk"):
        saved = compress_log(runfiles.folder_of(process.pk))
        if saved is not None:
            report.compressed_logs += 1
            report.saved_bytes += saved
    report.removed_folders = remove_orphans()
    scratch.sweep()
    report.removed_worktrees = upkeep.remove_ended_worktrees(0 if now else None, even_dirty=uncommitted)
    report.expired_refs = upkeep.expire_kept_refs()
    return report


def ended_before(hours: float) -> QuerySet[ExecutionProcess]:
    return ExecutionProcess.objects.filter(
        status__in=ExecutionProcess.ENDED, completed_at__lte=timezone.now() - timedelta(hours=hours)
    )


def compress_log(folder: RunFolder) -> int | None:
    """Bytes saved; None where there is nothing to compress, or no room to do it."""
    if not os.path.exists(folder.log):
        return None
    try:
        return compress(folder.path)
    except OSError as error:
        logger.warning("The log %s cannot be compressed: %s", folder.log, error)
        return None


def remove_orphans() -> int:
    """Removes the folders of runs whose records were deleted; how many. What still runs there is stopped first,
    and its folder goes the next time. A folder of which this database merely knows nothing stays: it may be
    another database's."""
    root, count = runfiles.runs_folder(), 0
    names = {name for name in os.listdir(root) if _is_id(name)} if root.is_dir() else set()
    known = {str(key) for key in ExecutionProcess.objects.values_list("pk", flat=True)}
    for name in names - known:
        folder = RunFolder(root / name)
        if not os.path.exists(folder.file(_DELETED)):
            continue
        lock = folder.acquire()
        if lock is None:
            launch.ask_to_stop(folder, "Stopped: its record was deleted.")
        else:
            shutil.rmtree(folder.path, ignore_errors=True)
            os.close(lock)
            count += 1
    return count


def mark_deleted(process_id: UUID) -> None:
    """Called when a run's record is deleted: its folder goes with the next round."""

    def mark() -> None:
        folder = runfiles.folder_of(process_id)
        if os.path.isdir(folder.path):
            folder.write(folder.file(_DELETED), "")

    transaction.on_commit(mark)


def disk_use(projects: QuerySet[Project]) -> list[DiskUse]:
    """What each project's logs and worktrees take. Walks the worktrees, so it may take seconds."""
    return [
        DiskUse(
            project,
            sum(_size(Path(runfiles.folder_of(key).path)) for key in _process_ids(project)),
            sum(_size(Path(folder)) for folder in _worktrees(project)),
        )
        for project in projects
    ]


def _process_ids(project: Project) -> QuerySet[ExecutionProcess, UUID]:
    return ExecutionProcess.objects.filter(task_attempt__task__project=project).values_list("pk", flat=True)


def _worktrees(project: Project) -> list[str]:
    rows = project.tasks.filter(attempts__worktree__isnull=False).values_list("attempts__worktree", flat=True)
    return [folder for folder in rows if folder]


def _size(folder: Path) -> int:
    """Bytes on disk of all files under the folder; links are not followed."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_blocks * 512
            except OSError:  # deleted while we count
                continue
    return total


def _is_id(name: str) -> bool:
    try:
        UUID(name)
    except ValueError:
        return False
    return True
