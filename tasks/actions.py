"""What scripts (`manage.py vibe`) and agents (the MCP server) do on the board, in a user's name.

The same checks, permissions and functions as REST (tasks/api): what the user may not see raises Http404,
what they may not do PermissionDenied, what cannot be done Refused. Records come back as REST shows them.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from uuid import UUID

from django.contrib.auth.models import User
from django.core.exceptions import ObjectDoesNotExist, PermissionDenied
from django.http import Http404
from pydantic import ValidationError

from events.capture import serialize
from tasks import diffs, executors, permissions, projects
from tasks.errors import Refused
from tasks.logs import runlogs
from tasks.models import ExecutionProcess, Task
from tasks.runs import runner

Record = dict[str, Any]

POLL_SECONDS: Final = 0.2
PAGE: Final = 1000


@contextmanager
def explained(problem: type[Exception]) -> Iterator[None]:
    """Turns whatever the board answers with "no" into `problem`, with the words for the person who asked."""
    try:
        yield
    except Refused as refused:
        files = f" Files: {', '.join(refused.files)}." if refused.files else ""
        raise problem(f"{refused.message}{files}") from refused
    except (Http404, ObjectDoesNotExist, PermissionDenied) as no:  # the second: deleted in the meantime
        raise problem(str(no)) from no


def list_projects(user: User) -> list[Record]:
    return [serialize(row) for row in permissions.visible_projects(user).prefetch_related("members")]


def find_project(user: User, name_or_id: str) -> Record:
    """The project with this id or name. Refused (409) where several have the name."""
    if is_uuid(name_or_id):
        return serialize(permissions.get_project(user, name_or_id))
    found = list(permissions.visible_projects(user).filter(name=name_or_id)[:2])
    if not found:
        raise Http404(f"There is no project {name_or_id!r} that you may see.")
    if len(found) > 1:
        raise Refused(f"Several projects are called {name_or_id!r}: give the id.", 409)
    return serialize(found[0])


def list_tasks(user: User, project: str | None = None, status: str | None = None) -> list[Record]:
    """Tasks in the order of the board; `project` is a name or an id."""
    rows = permissions.visible_tasks(user).order_by("status", "position", "created_at")
    if project is not None:
        rows = rows.filter(project_id=find_project(user, project)["id"])
    if status is not None:
        if status not in Task.Status.values:
            raise Refused(f"{status!r} is not a status: use {', '.join(Task.Status.values)}.", 422)
        rows = rows.filter(status=status)
    return [serialize(row) for row in rows]


def create_task(user: User, project: str, fields: Mapping[str, Any]) -> Record:
    body = _valid("TaskIn", {"project_id": find_project(user, project)["id"], **fields})
    values = body.model_dump(exclude_unset=True)
    return serialize(projects.create_task(permissions.get_project(user, values.pop("project_id")), values))


def change_task(user: User, task_id: UUID | str, fields: Mapping[str, Any]) -> Record:
    """Changes the given fields of a task; `expected` guards against undoing another's edit, as in REST."""
    task = permissions.get_task(user, uuid(task_id))
    values = _valid("TaskPatch", fields).model_dump(exclude_unset=True)
    expected = values.pop("expected", None)
    if "project_id" in values:
        values["project"] = permissions.get_project(user, values.pop("project_id"))
    return serialize(projects.change_task(task, values, expected))


def read_task(user: User, task_id: UUID | str) -> Record:
    """The task with its attempts, each with its runs, oldest first."""
    task = permissions.get_task(user, uuid(task_id))
    attempts = [
        {**serialize(row), "runs": [serialize(run) for run in row.processes.all()]}
        for row in task.attempts.prefetch_related("processes")
    ]
    return {**serialize(task), "attempts": attempts}


def list_executors(user: User) -> list[str]:
    return executors.startable(user)


def start_attempt(
    user: User,
    task_id: UUID | str,
    executor: str,
    prompt: str | None = None,
    target_branch: str | None = None,
) -> Record:
    """Starts an executor on a task, in a new branch and worktree; without a prompt it gets title and description."""
    body = _valid(
        "AttemptIn",
        {"task_id": uuid(task_id), "executor": executor, "prompt": prompt, "target_branch": target_branch},
    )
    task = permissions.get_task(user, body.task_id)
    permissions.require_start(user, body.executor)
    return serialize(runner.start_attempt(task, body.executor, body.prompt, body.target_branch, user))


def follow_up(user: User, attempt_id: UUID | str, prompt: str) -> Record:
    """The next run in the attempt's worktree; it waits while another one goes on there."""
    attempt = permissions.get_attempt(user, uuid(attempt_id))
    permissions.require_start(user, attempt.executor)
    return serialize(runner.follow_up(attempt, _valid("PromptIn", {"prompt": prompt}).prompt, user))


def stop(user: User, process_id: UUID | str) -> Record:
    """Asks a run to stop. Asking again, or after its end, changes nothing."""
    process = find_run(user, process_id)
    permissions.require(user, permissions.START_RUN, "start or stop programs")
    runner.stop(process, user)
    process.refresh_from_db()
    return serialize(process)


def runs_of(user: User, attempt_id: UUID | str) -> list[Record]:
    attempt = permissions.get_attempt(user, uuid(attempt_id))
    return [serialize(row) for row in attempt.processes.order_by("created_at")]


def read_diff(user: User, attempt_id: UUID | str, file: str | None = None) -> list[Record]:
    """What differs from the attempt's base, a record a file, as in the diff stream."""
    attempt = permissions.get_attempt(user, uuid(attempt_id))
    return diffs.of_attempt(attempt) if file is None else diffs.one_file(attempt, file)


def read_patch(user: User, attempt_id: UUID | str, file: str | None = None) -> bytes:
    """The same for `git apply`."""
    attempt = permissions.get_attempt(user, uuid(attempt_id))
    if file is None:
        return diffs.patch(attempt)
    # Of a file that was renamed both names.
    names = {name for record in diffs.one_file(attempt, file) for name in (file, record["old_path"]) if name}
    return diffs.patch(attempt, *names) if names else b""


def find_run(user: User, process_id: UUID | str) -> ExecutionProcess:
    return permissions.get_process(user, uuid(process_id))


def read_log(
    user: User, process_id: UUID | str, after: str | None = None, limit: int = PAGE, wait_seconds: float = 0
) -> Record:
    """Log records after the cursor `after` (from the first without one), with the run's status.

    {"status", "exit_code", "ended", "records", "cursor"}; `cursor` is the next call's `after`. With
    `wait_seconds` the call waits up to that long for something new. `ended` is true once the run has
    ended and all its records were read.
    """
    process = find_run(user, process_id)
    cursor = after or runlogs.first_cursor(process)
    deadline = time.monotonic() + wait_seconds
    while True:
        # The status is read before the records: a run that has ended writes no more, so none is missed.
        process.refresh_from_db(fields=["status", "exit_code"])
        records = runlogs.page(process, before=None, after=cursor, limit=limit)
        if records or process.ended or time.monotonic() >= deadline:
            break
        time.sleep(POLL_SECONDS)
    return {
        "status": process.status,
        "exit_code": process.exit_code,
        "ended": process.ended and len(records) < limit,
        "records": records,
        "cursor": records[-1]["id"] if records else cursor,
    }


def follow_log(user: User, process_id: UUID | str, tail: int | None = None) -> Iterator[Record]:
    """Yields the results of `read_log` until the run has ended; the last one carries its exit code."""
    after = None
    if tail is not None:
        process = find_run(user, process_id)
        first = runlogs.page(process, before=None, after=None, limit=max(tail, 1))
        after = first[-1]["id"] if first else None
        shown = first if tail else []
        yield {"status": process.status, "exit_code": None, "ended": False, "records": shown, "cursor": after}
    while True:
        step = read_log(user, process_id, after, wait_seconds=1)
        yield step
        if step["ended"]:
            return
        after = step["cursor"]


def is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def uuid(text: UUID | str) -> UUID:
    """Refused (422) where the text is no UUID."""
    if isinstance(text, UUID):
        return text
    try:
        return UUID(text)
    except ValueError:
        raise Refused(
            f"{text!r} is not an id: ids look like 01234567-89ab-cdef-0123-456789abcdef.", 422
        ) from None


def _valid(schema: str, values: Mapping[str, Any]) -> Any:
    """The values as the schema of this name in tasks/api/schemas.py has them; Refused (422) where they do not fit."""
    from tasks.api import schemas  # with all of the REST interface, which takes longer than most commands do

    try:
        return getattr(schemas, schema)(**values)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()
        )
        raise Refused(problems, 422) from error
