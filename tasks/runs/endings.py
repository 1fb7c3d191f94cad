"""What is recorded when a run ends, and what follows from it. Every way to end comes through `record_end`."""

import logging
import os
from pathlib import Path
from typing import Any, Final

from django.db import transaction
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from events.actors import actor
from tasks import git, projects, snapshots
from tasks.logs import conversation, runlogs
from tasks.models import ExecutionProcess, Project, RunReason, Task, TaskAttempt, TaskStatus
from tasks.runs import runfiles
from tasks.supervision.folder import RunFolder, is_number

logger = logging.getLogger("tasks.runner")

Status = ExecutionProcess.Status
_STATUS_OF_REASON: Final = {
    "stopped": Status.KILLED,
    "interrupted": Status.INTERRUPTED,
    "timeout": Status.FAILED,
    "not_started": Status.FAILED,
    "log_failed": Status.FAILED,
}
_BEFORE = "before.json"
PATIENCE = 30.0
"""Seconds that git may take to say what changed, in which no other run is looked after."""


def status_of(how: dict[str, Any]) -> str:
    """The status for what exit.json says."""
    if how.get("reason") == "exited":
        return Status.COMPLETED if how.get("exit_code") == 0 else Status.FAILED
    return _STATUS_OF_REASON.get(str(how.get("reason")), Status.INTERRUPTED)


def record_end(process: ExecutionProcess, how: dict[str, Any]) -> bool:
    """Writes down how a run ended, once; False where that was done already."""
    attempt = process.task_attempt
    head = _head(attempt)
    changed = _is_followed_by_cleanup(process) and _has_changed(process)
    session = _session(process)
    with actor("runner"), transaction.atomic():
        ended = ExecutionProcess.objects.filter(
            pk=process.pk, status__in=[Status.QUEUED, Status.RUNNING]
        ).update(
            status=status_of(how),
            exit_code=how["exit_code"] if is_number(how.get("exit_code")) else None,
            after_head_commit=head,
            completed_at=_moment(how.get("ended_at")),
            updated_at=timezone.now(),
        )
        if not ended:
            return False
        if session and session != attempt.session_id:
            TaskAttempt.objects.filter(pk=attempt.pk).update(session_id=session, updated_at=timezone.now())
        _follow_on(process, how, changed)
    return True


def fail(
    process: ExecutionProcess, message: str, *, reason: str = "not_started", kind: str = "error"
) -> None:
    """Ends a run that no supervisor has, with a message in its log."""
    folder = runfiles.folder_of(process.pk)
    how = write_end(folder, message, reason=reason, kind=kind)
    record_end(process, how)


def write_end(folder: RunFolder, message: str, *, reason: str, kind: str = "system") -> dict[str, Any]:
    """Writes last words and exit.json in place of a supervisor; returns what exit.json says."""
    how = {
        "exit_code": None,
        "signal": None,
        "reason": reason,
        "message": message,
        "ended_at": timezone.now().isoformat(),
    }
    try:
        runfiles.append(folder, kind, message)
        folder.write_exit(how)
    except OSError as error:  # a full disk, most likely: the database still says how it ended
        logger.error("The end of %s could not be written: %s (%s)", folder.path, error, message)
    return how


def remember_before(process: ExecutionProcess, folder: RunFolder) -> str:
    """Returns the commit that is checked out before a run.

    Where a cleanup script is to follow it keeps all that the worktree holds, to see afterwards what has changed.
    """
    worktree = _worktree(process.task_attempt)
    if not _is_followed_by_cleanup(process):
        head = git.commit_of(worktree, "HEAD")
        if head is None:  # a branch without a commit; or git cannot work here, and says why
            git.run("rev-parse", "--git-dir", cwd=worktree)
        return head or ""
    found = snapshots.take(worktree)
    folder.write(folder.file(_BEFORE), {"head": found.head, "tree": found.tree})
    return found.head


def _is_followed_by_cleanup(process: ExecutionProcess) -> bool:
    script = process.task_attempt.task.project.cleanup_script
    return process.run_reason == RunReason.CODINGAGENT and bool(script.strip())


def move_task(task_id: Any, status: str, *, unless: tuple[str, ...] = ()) -> None:
    """Moves a card to the end of another column, if it is not there yet."""
    task = Task.objects.filter(pk=task_id).exclude(status__in=[status, *unless]).first()
    if task is None:
        return
    projects.save_fields(task, {"status": status, "position": projects.end_of(task.project_id, status)})


def agent_is_over(attempt: TaskAttempt) -> None:
    """Moves the card to review, unless an agent still runs: what ended, or was taken back, only waited behind it."""
    if not attempt.processes.filter(status=Status.RUNNING, run_reason=RunReason.CODINGAGENT).exists():
        move_task(attempt.task_id, TaskStatus.INREVIEW, unless=(TaskStatus.DONE, TaskStatus.CANCELLED))


def _follow_on(process: ExecutionProcess, how: dict[str, Any], changed: bool) -> None:
    attempt, status = process.task_attempt, status_of(how)
    if process.run_reason == RunReason.SETUPSCRIPT and status != Status.COMPLETED:
        _drop_waiting(attempt, how)
        agent_is_over(attempt)
    elif process.run_reason == RunReason.CODINGAGENT:
        agent_is_over(attempt)
        if changed and status in (Status.COMPLETED, Status.FAILED):
            _queue_cleanup(attempt, process)


def _drop_waiting(attempt: TaskAttempt, how: dict[str, Any]) -> None:
    """The agent cannot work in a worktree whose setup failed or was stopped."""
    stopped = status_of(how) == Status.KILLED
    why = f"the setup script {'was stopped' if stopped else 'failed'}. Its log says why."
    if how.get("reason") == "not_started":
        why = str(how.get("message"))  # more often of the worktree than of the script
    waiting = attempt.processes.filter(status=Status.QUEUED, run_reason=RunReason.CODINGAGENT)
    for process in waiting.select_related("task_attempt"):
        end = write_end(
            runfiles.folder_of(process.pk),
            f"Not started: {why}",
            reason="stopped" if stopped else "not_started",
            kind="error",
        )
        ExecutionProcess.objects.filter(pk=process.pk, status=Status.QUEUED).update(
            status=status_of(end), completed_at=timezone.now(), updated_at=timezone.now()
        )


def _queue_cleanup(attempt: TaskAttempt, process: ExecutionProcess) -> None:
    project = Project.objects.get(tasks__attempts=attempt)
    if project.cleanup_script.strip():
        ExecutionProcess.objects.create(
            task_attempt=attempt,
            run_reason=RunReason.CLEANUPSCRIPT,
            prompt=project.cleanup_script,
            started_by_id=process.started_by_id,
        )


def _has_changed(process: ExecutionProcess) -> bool:
    folder = runfiles.folder_of(process.pk)
    before = folder.read(folder.file(_BEFORE))
    began = before is not None or os.path.exists(folder.state)
    if not began or not process.task_attempt.worktree:
        return False
    try:
        with git.at_most(PATIENCE):
            after = snapshots.take(_worktree(process.task_attempt))
    except (git.GitError, OSError):  # the cleanup's own log says what is wrong with the worktree
        return True
    if before is None:  # the script is younger than the run
        return after.dirty or after.head != process.before_head_commit
    return (after.head, after.tree) != (before["head"], before["tree"])


def _head(attempt: TaskAttempt) -> str:
    try:
        return git.commit_of(attempt.worktree, "HEAD") or "" if attempt.worktree else ""
    except git.GitError:
        return ""


def _session(process: ExecutionProcess) -> str:
    if process.run_reason != RunReason.CODINGAGENT:
        return ""
    style = runlogs.style_of(process.task_attempt.executor)
    return conversation.session_of(runfiles.folder_of(process.pk).log, style)


def _worktree(attempt: TaskAttempt) -> Path:
    return Path(attempt.worktree or "")


def _moment(text: Any) -> Any:
    try:
        return (parse_datetime(text) if isinstance(text, str) else None) or timezone.now()
    except ValueError:
        return timezone.now()
