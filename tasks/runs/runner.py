"""Starts runs, follows them, and writes down how they ended.

The functions at the top are what the rest of the board calls, from any process: they check, make rows and
return at once. `Runner` is the one worker, a thread of the server: queue -> claim -> worktree -> supervisor
-> record. It holds nothing that is not in the database or in the run's folder, so it may die at any moment;
the next one finds what runs and goes on (docs/runs.md).
"""

import time
from pathlib import Path

from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.utils import timezone

from tasks import executors, git, locks, projects, worktrees
from tasks.errors import Refused
from tasks.finishing import journal
from tasks.models import ExecutionProcess, RunReason, Task, TaskAttempt, TaskStatus
from tasks.runs import endings, launch, runfiles
from tasks.runs.run_loop import Runner

Status = ExecutionProcess.Status
_ACTIVE = (Status.QUEUED, Status.RUNNING)
_WORKTREE_SECONDS = 1.0

runner = Runner()
start = runner.start
stop_runner = runner.stop
wake = runner.wake


def start_attempt(
    task: Task, executor_name: str, prompt: str | None, target_branch: str | None, user: User | None
) -> TaskAttempt:
    """Makes the attempt and queues its runs; the worktree is made when the first of them starts. Without a prompt
    the agent gets the task's title and description. Raises Refused."""
    definition = _installed(executor_name)
    project = task.project
    branch = target_branch or project.target_branch
    repository = git.check_repository(project.repo_path, settings.VIBE_REPO_ROOTS)
    if branch not in repository.branches:
        raise Refused(f"The repository {repository.path} has no branch {branch!r}.", 422)
    if prompt is None or not prompt.strip():
        prompt = f"{task.title}\n\n{task.description}".strip()
    if "\0" in prompt:
        raise Refused("The prompt holds a NUL character, which no program can be given.", 422)
    with transaction.atomic():
        if projects.hold(task).project_id != project.pk:
            raise Refused("The task was moved to another project in the meantime.", 409)
        attempt = TaskAttempt(task=task, executor=definition.name, target_branch=branch)
        attempt.branch = worktrees.branch_of(attempt.pk, task.title)
        attempt.save()
        _queue_setup(attempt, user)
        _queue(attempt, RunReason.CODINGAGENT, prompt, user)
        endings.move_task(task.pk, TaskStatus.INPROGRESS)
        transaction.on_commit(wake)
    _wait_for_worktree(attempt)
    return attempt


def follow_up(attempt: TaskAttempt, prompt: str, user: User | None) -> ExecutionProcess:
    """Queues the agent's next run in the same worktree; at most one waits at a time. Raises Refused."""
    _installed(attempt.executor)
    if not prompt.strip() or "\0" in prompt:
        raise Refused("A follow-up needs a prompt.", 422)
    with transaction.atomic():
        # The lock makes two people who press at once queue one follow-up, not two, and none beside a merge.
        _require_open(projects.hold(attempt))
        if journal.under_way(attempt.pk):
            raise Refused("The attempt is just being merged, rebased or discarded: wait for the end of that.")
        agents = attempt.processes.filter(run_reason=RunReason.CODINGAGENT)
        if agents.filter(status=Status.QUEUED).exists():
            raise Refused("A follow-up waits already: edit that one, or take it back.", 409)
        setups = attempt.processes.filter(run_reason=RunReason.SETUPSCRIPT)
        if not setups.filter(status__in=[*_ACTIVE, Status.COMPLETED]).exists():
            _queue_setup(attempt, user)
        process = _queue(attempt, RunReason.CODINGAGENT, prompt, user)
        endings.move_task(attempt.task_id, TaskStatus.INPROGRESS)
        transaction.on_commit(wake)
    return process


def start_devserver(attempt: TaskAttempt, user: User | None) -> ExecutionProcess:
    """Runs the project's dev script beside the agent; one at a time in an attempt. Raises Refused."""
    script = attempt.task.project.dev_script
    with transaction.atomic():
        _require_open(projects.hold(attempt))
        if not script.strip():
            raise Refused("The project has no dev script.", 409)
        if attempt.processes.filter(run_reason=RunReason.DEVSERVER, status__in=_ACTIVE).exists():
            raise Refused("The development server of this attempt runs already.", 409)
        process = _queue(attempt, RunReason.DEVSERVER, script, user)
        transaction.on_commit(wake)
    return process


def edit_queued(process: ExecutionProcess, prompt: str) -> ExecutionProcess:
    """Changes what a waiting run will be asked. Raises Refused once it runs."""
    if process.run_reason != RunReason.CODINGAGENT:
        raise Refused("Only what an agent is asked can be changed.", 409)
    if not prompt.strip() or "\0" in prompt:
        raise Refused("A run needs a prompt.", 422)
    changed = ExecutionProcess.objects.filter(pk=process.pk, status=Status.QUEUED).update(
        prompt=prompt, updated_at=timezone.now()
    )
    if not changed:
        raise Refused("This run does not wait any more.", 409)
    process.refresh_from_db()
    return process


def withdraw(process: ExecutionProcess) -> None:
    """Takes a waiting run back, as if it had never been asked for. Raises Refused once it runs."""
    with transaction.atomic():
        # Claimed and deleted are both one conditional statement, so a run is either started or taken back.
        taken = ExecutionProcess.objects.filter(pk=process.pk, status=Status.QUEUED).delete()[0]
        if not taken:
            raise Refused("This run does not wait any more.", 409)
        if process.run_reason == RunReason.CODINGAGENT:
            endings.agent_is_over(process.task_attempt)


def stop(process: ExecutionProcess, user: User | None) -> None:
    """Asks a run to stop. Idempotent; works on waiting, starting and running ones, from any process."""
    who = f"by {user.get_username()}" if user else "by the board"
    current = _fresh(process)
    if current is None or current.ended:
        return
    launch.write_stop(runfiles.folder_of(process.pk), f"Stopped {who}.")
    ExecutionProcess.objects.filter(pk=process.pk, status__in=_ACTIVE, stop_requested_at=None).update(
        stop_requested_at=timezone.now()
    )
    current = _fresh(process)
    if current is not None and current.status == Status.QUEUED:
        launch.end_waiting(current)
    else:
        launch.signal_stop(runfiles.folder_of(process.pk))
    wake()


def _wait_for_worktree(attempt: TaskAttempt) -> None:
    """Most worktrees are made in a moment: whoever started the attempt then sees where it is. The large ones,
    and those that wait in the queue, are not waited for."""
    deadline = time.monotonic() + _WORKTREE_SECONDS
    while runner.health.alive and not connection.in_atomic_block and time.monotonic() < deadline:
        attempt.refresh_from_db()
        if attempt.worktree or not attempt.processes.filter(status__in=_ACTIVE).exists():
            return
        if ExecutionProcess.objects.filter(status=Status.RUNNING).count() >= settings.VIBE_MAX_RUNS:
            return
        time.sleep(0.02)


def _fresh(process: ExecutionProcess) -> ExecutionProcess | None:
    return ExecutionProcess.objects.select_related("task_attempt").filter(pk=process.pk).first()


def is_running() -> bool:
    """Whether a server's runner is at work on this data folder."""
    return runner.is_alive() or locks.is_held(Path(settings.VIBE_DATA) / "runner.lock")


def _installed(name: str) -> executors.Definition:
    """Raises Refused for what cannot be started. A program that an administrator named is tried all the same:
    where it is missing, the run's log says so."""
    definition = executors.find(name)
    if definition.builtin and (reason := executors.why_not_installed(definition)):
        raise Refused(f"The executor {name!r} is not installed: {reason}", 409)
    return definition


def _require_open(attempt: TaskAttempt) -> None:
    if attempt.outcome != TaskAttempt.Outcome.OPEN:
        raise Refused(f"This attempt is {attempt.outcome}: start a new one.", 409)


def _queue_setup(attempt: TaskAttempt, user: User | None) -> None:
    script = attempt.task.project.setup_script
    if script.strip():
        _queue(attempt, RunReason.SETUPSCRIPT, script, user)


def _queue(attempt: TaskAttempt, reason: str, prompt: str, user: User | None) -> ExecutionProcess:
    return ExecutionProcess.objects.create(
        task_attempt=attempt, run_reason=reason, prompt=prompt, started_by=user
    )
