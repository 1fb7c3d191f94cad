from typing import Any
from uuid import UUID

from django.http import HttpRequest
from ninja import Router, Status

from events.capture import serialize
from tasks import diffs, permissions
from tasks.api.auth import user_of
from tasks.api.schemas import (
    PROBLEMS,
    AttemptIn,
    AttemptOut,
    AttemptStatus,
    DiffOut,
    MergeIn,
    ProcessOut,
    PromptIn,
)
from tasks.finishing import finish
from tasks.models import TaskAttempt
from tasks.runs import runner

router = Router(tags=["attempts"])


@router.get("", response={200: list[AttemptOut], **PROBLEMS})
def list_attempts(request: HttpRequest, task_id: UUID | None = None) -> Any:
    rows = permissions.visible_attempts(user_of(request))
    if task_id is not None:
        rows = rows.filter(task=permissions.get_task(user_of(request), task_id))
    return [serialize(attempt) for attempt in rows]


@router.post("", response={201: AttemptOut, **PROBLEMS})
def start_attempt(request: HttpRequest, body: AttemptIn) -> Any:
    """Starts an executor on the task, in a new branch and worktree. Without a prompt it gets title and description."""
    task = permissions.get_task(user_of(request), body.task_id)
    permissions.require_start(user_of(request), body.executor)
    attempt = runner.start_attempt(task, body.executor, body.prompt, body.target_branch, user_of(request))
    return Status(201, serialize(attempt))


@router.get("/{uuid:attempt_id}", response={200: AttemptOut, **PROBLEMS})
def read_attempt(request: HttpRequest, attempt_id: UUID) -> Any:
    return serialize(permissions.get_attempt(user_of(request), attempt_id))


@router.post("/{uuid:attempt_id}/follow-up", response={201: ProcessOut, **PROBLEMS})
def follow_up(request: HttpRequest, attempt_id: UUID, body: PromptIn) -> Any:
    """The next run in the same worktree; it waits while another one goes on there."""
    attempt = _startable(request, attempt_id)
    return Status(201, serialize(runner.follow_up(attempt, body.prompt, user_of(request))))


@router.post("/{uuid:attempt_id}/devserver", response={201: ProcessOut, **PROBLEMS})
def start_devserver(request: HttpRequest, attempt_id: UUID) -> Any:
    """Runs the project's dev script beside the agent; it stops with the attempt."""
    attempt = permissions.get_attempt(user_of(request), attempt_id)
    permissions.require(user_of(request), permissions.START_RUN, "start programs")
    return Status(201, serialize(runner.start_devserver(attempt, user_of(request))))


@router.get("/{uuid:attempt_id}/status", response={200: AttemptStatus, **PROBLEMS})
def read_status(request: HttpRequest, attempt_id: UUID) -> Any:
    return finish.status(permissions.get_attempt(user_of(request), attempt_id))


@router.post("/{uuid:attempt_id}/merge", response={200: AttemptOut, **PROBLEMS})
def merge(request: HttpRequest, attempt_id: UUID, body: MergeIn | None = None) -> Any:
    attempt = _startable(request, attempt_id)
    finish.merge(attempt, (body or MergeIn()).strategy, user_of(request))
    return _fresh(attempt)


@router.post("/{uuid:attempt_id}/rebase", response={200: AttemptOut, **PROBLEMS})
def rebase(request: HttpRequest, attempt_id: UUID) -> Any:
    attempt = _startable(request, attempt_id)
    finish.rebase(attempt, user_of(request))
    return _fresh(attempt)


@router.post("/{uuid:attempt_id}/discard", response={200: AttemptOut, **PROBLEMS})
def discard(request: HttpRequest, attempt_id: UUID) -> Any:
    """Ends the attempt without merging. Uncommitted work is kept under the ref in `kept_ref` for 30 days."""
    attempt = _startable(request, attempt_id)
    finish.discard(attempt, user_of(request))
    return _fresh(attempt)


@router.get("/{uuid:attempt_id}/diff", response={200: list[DiffOut], **PROBLEMS})
def read_diff(request: HttpRequest, attempt_id: UUID, file: str | None = None) -> Any:
    """Every differing file; with `file` that one alone, whole even where the stream omits it for its size."""
    attempt = permissions.get_attempt(user_of(request), attempt_id)
    return diffs.of_attempt(attempt) if file is None else diffs.one_file(attempt, file)


def _startable(request: HttpRequest, attempt_id: UUID) -> TaskAttempt:
    attempt = permissions.get_attempt(user_of(request), attempt_id)
    permissions.require_start(user_of(request), attempt.executor)
    return attempt


def _fresh(attempt: TaskAttempt) -> dict[str, Any]:
    attempt.refresh_from_db()
    return serialize(attempt)
