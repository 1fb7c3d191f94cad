"""From a claimed run to a living supervisor: worktree, command, hand-over."""

import logging
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from events.actors import actor
from tasks import executors, git, identity, worktrees
from tasks.errors import Refused
from tasks.models import ExecutionProcess, RunReason, TaskAttempt, TaskStatus
from tasks.runs import endings, runfiles
from tasks.supervision import processes
from tasks.supervision.folder import RunFolder

logger = logging.getLogger("tasks.runner")

RUN_VARIABLE: Final = "VIBE_RUN"
"""Every process of a run carries it, which is how those are found whose supervisor died."""

_SUPERVISOR: Final = Path(__file__).resolve().parent.parent / "supervisor.py"
_START_SECONDS: Final = 60


def launch(process: ExecutionProcess) -> bool:
    """Starts a run that was claimed; False, with its end recorded, where that is not possible."""
    folder = runfiles.folder_of(process.pk)
    try:
        folder.make()
        _ensure_worktree(process, folder)
        _remember(process, folder)
        spec, env = _prepare(process, folder)
    except Refused as refused:
        endings.fail(process, refused.message)
    except git.GitError as error:
        endings.fail(process, f"git cannot work in the worktree: {error.reason}")
    except OSError as error:
        endings.fail(process, f"The run could not be prepared: {error}")
    else:
        return _supervise(process, folder, spec, env)
    return False


def _ensure_worktree(process: ExecutionProcess, folder: RunFolder) -> None:
    attempt = process.task_attempt
    if attempt.worktree:
        if gone := worktrees.what_is_gone(attempt):
            raise Refused(gone)
        return
    made = worktrees.create(attempt.task.project, attempt.pk, attempt.task.title, attempt.target_branch)
    attempt.worktree, attempt.branch, attempt.base_commit = str(made.path), made.branch, made.base_commit
    attempt.save(update_fields=["worktree", "branch", "base_commit", "updated_at"])
    for note in made.notes:
        runfiles.append(folder, "system", note)


def _remember(process: ExecutionProcess, folder: RunFolder) -> None:
    head = endings.remember_before(process, folder)
    with actor("runner"), transaction.atomic():
        process.before_head_commit = head
        process.save(update_fields=["before_head_commit", "updated_at"])
        if process.run_reason == RunReason.CODINGAGENT:
            endings.move_task(process.task_attempt.task_id, TaskStatus.INPROGRESS)


def _prepare(process: ExecutionProcess, folder: RunFolder) -> tuple[dict[str, object], dict[str, str]]:
    attempt = process.task_attempt
    script = folder.file("script.sh")
    names: list[str] = []
    if process.run_reason == RunReason.CODINGAGENT:
        definition = executors.find(attempt.executor)
        names = list(definition.env)
        command = executors.build_command(definition, process.prompt, attempt.session_id, script)
    else:
        command = executors.Command([executors.SHELL, script], None)
    if script in command.argv:
        folder.write(script, process.prompt.replace("\r\n", "\n"))
    worktree = Path(attempt.worktree or "")
    env = executors.environment(names) | identity.environment(worktree, process.started_by)
    env |= {RUN_VARIABLE: str(process.pk), "PWD": str(worktree), **git.ceiling()}
    return _spec(process, command, worktree), env


def _spec(process: ExecutionProcess, command: executors.Command, worktree: Path) -> dict[str, object]:
    grace = settings.VIBE_STOP_GRACE_SECONDS
    limited = process.run_reason != RunReason.DEVSERVER
    return {
        "argv": command.argv,
        "cwd": str(worktree),
        "stdin": command.stdin,
        "timeout": (settings.VIBE_RUN_TIMEOUT_SECONDS or None) if limited else None,
        "graces": [grace, grace],
        "max_message_bytes": settings.EVENTS_MAX_MESSAGE_BYTES,
        "max_log_bytes": settings.VIBE_MAX_LOG_BYTES,
        "disk_wait": settings.VIBE_DISK_WAIT_SECONDS,
    }


def _supervise(
    process: ExecutionProcess, folder: RunFolder, spec: dict[str, object], env: dict[str, str]
) -> bool:
    try:
        folder.write(folder.spec, spec)
        done = subprocess.run(
            [sys.executable, "-I", "-S", str(_SUPERVISOR), folder.path],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=_START_SECONDS,
            start_new_session=True,
        )
        problem = done.stderr.strip()[-2000:] if done.returncode else None
    except (OSError, subprocess.SubprocessError) as error:
        problem = str(error)
    # One that took too long to say so may have started.
    if problem is not None and not _is_supervised(folder):
        endings.fail(process, f"The run's supervisor could not start: {problem}")
        return False
    return True


def _is_supervised(folder: RunFolder) -> bool:
    lock = folder.acquire()
    if lock is None:
        return True
    os.close(lock)
    return os.path.exists(folder.exit)


def claim(process: ExecutionProcess) -> bool:
    """Takes a queued run, so that nobody else starts it or takes it back; False where that has happened."""
    with actor("runner"):
        return bool(
            ExecutionProcess.objects.filter(
                pk=process.pk, status=ExecutionProcess.Status.QUEUED, stop_requested_at=None
            ).update(
                status=ExecutionProcess.Status.RUNNING, started_at=timezone.now(), updated_at=timezone.now()
            )
        )


def end_waiting(process: ExecutionProcess) -> bool:
    """Ends a run that was asked to stop before it started, with the words of whoever asked first. The page and the
    runner may both be at it: the lock decides, and the second finds that it has ended. True for the one that did it."""
    folder = runfiles.folder_of(process.pk)
    lock = folder.acquire()
    if lock is None:
        return False
    try:
        waits = ExecutionProcess.objects.filter(pk=process.pk, status=ExecutionProcess.Status.QUEUED).exists()
        if waits:
            words = f"{stop_words(folder).rstrip('.')} before it started."
            endings.fail(process, words, reason="stopped", kind="system")
        return waits
    finally:
        os.close(lock)


def stop_words(folder: RunFolder) -> str:
    try:
        return Path(folder.stop).read_text(encoding="utf-8") or "Stopped."
    except FileNotFoundError:  # an attempt that is over stops its runs without asking
        return "Stopped."


def write_stop(folder: RunFolder, words: str) -> None:
    """Asks the supervisor to stop; the words of whoever asks first go into the log."""
    try:
        folder.make()
        new = folder.file(f"stop.{os.getpid()}.{threading.get_ident()}")
        folder.write(new, words)
        try:
            os.link(new, folder.stop)
        except FileExistsError:
            return
        finally:
            os.unlink(new)
    except OSError as error:  # a full disk has no room for words, but mostly for an empty file
        logger.error("The stop of %s could not be written: %s", folder.path, error)
        with suppress(OSError):  # the runner tries again
            Path(folder.stop).touch(0o600)


def signal_stop(folder: RunFolder) -> None:
    """Makes the supervisor look at once. It also looks by itself, so a lost signal costs a second at most."""
    state = folder.read(folder.state, "pid", "start_time")
    if state:
        processes.send((int(state["pid"]), int(state["start_time"])), signal.SIGUSR1)


def ask_to_stop(folder: RunFolder, words: str) -> None:
    write_stop(folder, words)
    signal_stop(folder)


def is_open(attempt: TaskAttempt) -> bool:
    return attempt.outcome == TaskAttempt.Outcome.OPEN
