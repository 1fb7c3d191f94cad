"""The board for agents, by the Model Context Protocol (the official SDK, over stdin and stdout).

Each tool is one function of tasks/actions.py, done in the name of one user, with that user's permissions.
What a tool changes is written as any other change is, so it stands on every open board at once.
"""

import functools
from collections.abc import Callable
from typing import Annotated, Any, Literal, ParamSpec, TypeVar

from django.contrib.auth.models import User
from django.db import close_old_connections
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import Field

from events.capture import actor
from tasks import actions

P = ParamSpec("P")
R = TypeVar("R")
Record = dict[str, Any]
Me = Callable[[], User]

Status = Literal["todo", "inprogress", "inreview", "done", "cancelled"]
Id = Annotated[str, Field(description="a UUID")]
MAX_WAIT_SECONDS = 60

INSTRUCTIONS = """\
A board of coding tasks. A project is a git repository; a task belongs to a project; starting an executor on a
task makes an attempt (a branch with a worktree of its own) whose runs have a log; its changes are the diff.
Use read_log with wait_seconds to follow a run: pass the returned cursor as `after` until `ended` is true.
People see everything you change at once."""

_READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
_WRITES = ToolAnnotations(read_only_hint=False, destructive_hint=False, open_world_hint=False)


def make_server(person: Callable[[], User | None]) -> MCPServer:
    """An MCP server whose tools act as `person()`, asked anew at each call: None ends what it may do at once."""
    server = MCPServer("vibe", title="Vibe board", instructions=INSTRUCTIONS)

    def me() -> User:
        user = person()
        if user is None:
            raise ToolError("Your token was revoked, or your account deactivated: ask an administrator.")
        return user

    def tool(annotations: ToolAnnotations) -> Callable[[Callable[P, R]], None]:
        def add(function: Callable[P, R]) -> None:
            server.add_tool(_acting_as(me, function), annotations=annotations)

        return add

    _add_reading_tools(me, tool(_READS))
    _add_task_tools(me, tool(_WRITES))
    _add_run_tools(me, tool(_WRITES))
    return server


def _acting_as(me: Me, function: Callable[P, R]) -> Callable[P, R]:
    """The function with its user on the record, the board's refusals as tool errors, and no connection left open.

    The SDK calls it in a worker thread, each of which has a database connection of its own.
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            user = me()
            with actions.explained(ToolError), actor("command", user, f"{user.get_username()} (mcp)"):
                return function(*args, **kwargs)
        finally:
            close_old_connections()

    return call


def _add_reading_tools(me: Me, add: Callable[[Callable[..., Any]], None]) -> None:
    @add
    def list_projects() -> list[Record]:
        """The projects you may see: id, name, repo_path, target_branch and scripts."""
        return actions.list_projects(me())

    @add
    def list_tasks(
        project: Annotated[str | None, Field(description="only of this project: its id or name")] = None,
        status: Annotated[Status | None, Field(description="only in this column")] = None,
    ) -> list[Record]:
        """Tasks in the order of the board."""
        return actions.list_tasks(me(), project, status)

    @add
    def read_task(task_id: Id) -> Record:
        """A task with its attempts, each with its runs (status, exit code)."""
        return actions.read_task(me(), task_id)

    @add
    def list_executors() -> list[str]:
        """The executors (agents) that you may start on this machine now."""
        return actions.list_executors(me())

    @add
    def read_log(
        process_id: Annotated[str, Field(description="the id of a run, from read_task")],
        after: Annotated[
            str | None, Field(description="the cursor of the last call; none: from the start")
        ] = None,
        limit: Annotated[int, Field(ge=1, le=5000, description="at most so many lines")] = 500,
        wait_seconds: Annotated[
            float, Field(ge=0, le=MAX_WAIT_SECONDS, description="wait so long for something new")
        ] = 0,
    ) -> Record:
        """Lines of a run's output, oldest first, with the run's status, and the cursor that continues here."""
        found = actions.read_log(me(), process_id, after, limit, wait_seconds)
        # Asked again: who may read it can change in a minute.
        actions.find_run(me(), process_id)
        return found

    @add
    def read_diff(
        attempt_id: Id,
        file: Annotated[str | None, Field(description="only this file, whole even if large")] = None,
    ) -> list[Record]:
        """What an attempt changed against its base: a record a file, with the unified diff and line counts."""
        return actions.read_diff(me(), attempt_id, file)


def _add_task_tools(me: Me, add: Callable[[Callable[..., Any]], None]) -> None:
    @add
    def create_task(
        project: Annotated[str, Field(description="id or name")],
        title: str,
        description: Annotated[str, Field(description="Markdown; the executor gets it as its prompt")] = "",
        status: Status = "todo",
        labels: list[str] | None = None,
    ) -> Record:
        """Adds a task to the end of its column."""
        fields = {"title": title, "description": description, "status": status, "labels": labels or []}
        return actions.create_task(me(), project, fields)

    @add
    def update_task(
        task_id: Id,
        title: str | None = None,
        description: str | None = None,
        status: Status | None = None,
        labels: list[str] | None = None,
    ) -> Record:
        """Changes the given fields of a task; a new status moves its card to that column's end."""
        given = {"title": title, "description": description, "status": status, "labels": labels}
        fields = {name: value for name, value in given.items() if value is not None}
        return actions.change_task(me(), task_id, fields)


def _add_run_tools(me: Me, add: Callable[[Callable[..., Any]], None]) -> None:
    @add
    def start_attempt(
        task_id: Id,
        executor: Annotated[str, Field(description="one of list_executors")],
        prompt: Annotated[
            str | None, Field(description="instead of the task's title and description")
        ] = None,
        target_branch: Annotated[str | None, Field(description="instead of the project's")] = None,
    ) -> Record:
        """Starts an executor on a task in a new branch and worktree. The task moves to inprogress."""
        attempt = actions.start_attempt(me(), task_id, executor, prompt, target_branch)
        return {**attempt, "runs": actions.runs_of(me(), attempt["id"])}

    @add
    def follow_up(attempt_id: Id, prompt: str) -> Record:
        """The next run in the same worktree; it waits while another one goes on there."""
        return actions.follow_up(me(), attempt_id, prompt)

    @add
    def stop_run(process_id: Annotated[str, Field(description="the id of a run")]) -> Record:
        """Asks a run to stop. Stopping one that has ended changes nothing."""
        return actions.stop(me(), process_id)
