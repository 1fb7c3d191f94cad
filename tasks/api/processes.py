from typing import Any, Literal
from uuid import UUID

from django.http import HttpRequest
from ninja import Query, Router, Status

from events.capture import serialize
from tasks import executors, permissions
from tasks.api.auth import user_of
from tasks.api.schemas import PROBLEMS, ConversationEntry, LogRecord, ProcessOut, PromptIn
from tasks.logs import runlogs
from tasks.models import ExecutionProcess
from tasks.runs import runner

router = Router(tags=["runs"])


@router.get("/executors", response={200: list[str], **PROBLEMS})
def list_executors(request: HttpRequest) -> Any:
    """The names that the caller may start on this machine now."""
    return executors.startable(user_of(request))


@router.get("/processes", response={200: list[ProcessOut], **PROBLEMS})
def list_processes(request: HttpRequest, task_attempt_id: UUID | None = None) -> Any:
    rows = permissions.visible_processes(user_of(request))
    if task_attempt_id is not None:
        rows = rows.filter(task_attempt=permissions.get_attempt(user_of(request), task_attempt_id))
    return [serialize(process) for process in rows]


@router.get("/processes/{uuid:process_id}", response={200: ProcessOut, **PROBLEMS})
def read_process(request: HttpRequest, process_id: UUID) -> Any:
    return serialize(permissions.get_process(user_of(request), process_id))


@router.patch("/processes/{uuid:process_id}", response={200: ProcessOut, **PROBLEMS})
def edit_queued(request: HttpRequest, process_id: UUID, body: PromptIn) -> Any:
    """Changes the prompt of a follow-up that still waits; 409 once it runs."""
    process = permissions.get_process(user_of(request), process_id)
    permissions.require_start(user_of(request), process.task_attempt.executor)
    return serialize(runner.edit_queued(process, body.prompt))


@router.delete("/processes/{uuid:process_id}", response={204: None, **PROBLEMS})
def withdraw(request: HttpRequest, process_id: UUID) -> Any:
    """Takes back a run that still waits; 409 once it runs."""
    runner.withdraw(_startable(request, process_id))
    return Status(204, None)


@router.post("/processes/{uuid:process_id}/stop", response={200: ProcessOut, **PROBLEMS})
def stop(request: HttpRequest, process_id: UUID) -> Any:
    """Asks a run to stop: SIGINT, then SIGTERM, then SIGKILL. Asking again, or after its end, changes nothing."""
    process = _startable(request, process_id)
    runner.stop(process, user_of(request))
    process.refresh_from_db()
    return serialize(process)


@router.get(
    "/processes/{uuid:process_id}/logs",
    response={200: list[LogRecord] | list[ConversationEntry], **PROBLEMS},
    exclude_unset=True,
)
def read_logs(
    request: HttpRequest,
    process_id: UUID,
    before: str | None = None,
    after: str | None = None,
    limit: int = Query(200, ge=1, le=5000),
    download: bool = False,
    view: Literal["", "conversation"] = "",
) -> Any:
    """A page of the log, in time order: the newest where no cursor is given. `download` gives all of it as text."""
    process = permissions.get_process(user_of(request), process_id)
    if download:
        return runlogs.download(process)
    return runlogs.page(process, before=before, after=after, limit=limit, view=view)


def _startable(request: HttpRequest, process_id: UUID) -> ExecutionProcess:
    process = permissions.get_process(user_of(request), process_id)
    permissions.require(user_of(request), permissions.START_RUN, "start or stop programs")
    return process
