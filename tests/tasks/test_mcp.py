"""The MCP server, spoken to by the SDK's own client over stdio, beside a running server."""

import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.utils import timezone

from events.models import DatabaseChange
from tasks.logs import runlogs
from tasks.management.commands import mcp
from tasks.models import ApiToken, ExecutionProcess, Project, Task, TaskAttempt
from tasks.projects import create_project
from tasks.tokens import issue_token
from tests.live import ROOT, LiveServer
from tests.sse_client import connect

if TYPE_CHECKING:
    from mcp import Client

TOOLS = {
    *("list_projects", "list_tasks", "read_task", "list_executors", "read_log", "read_diff"),
    *("create_task", "update_task", "start_attempt", "follow_up", "stop_run"),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with LiveServer(tmp_path_factory.mktemp("mcp"), {"VIBE_DEMO_SECONDS": "1"}) as running:
        yield running


@asynccontextmanager
async def agent(server: LiveServer, *args: str, **env: str) -> "AsyncIterator[Client]":
    """A client of `manage.py mcp`, started from another folder, as agents start it."""
    # Not above: it takes long to load, and each process of the suite loads all of its modules.
    from mcp import Client, StdioServerParameters

    parameters = StdioServerParameters(
        command=sys.executable,
        args=[str(ROOT / "manage.py"), "mcp", *args],
        env={"PATH": os.environ["PATH"], "VIBE_DATA": str(server.data), **env},
        cwd="/",
    )
    async with Client(parameters, read_timeout_seconds=120) as client:
        yield client


async def call(client: "Client", tool: str, **arguments: Any) -> Any:
    answer = await client.call_tool(tool, arguments)
    assert not answer.is_error, answer.content
    assert answer.structured_content is not None
    return answer.structured_content.get("result", answer.structured_content)


async def refusal(client: "Client", tool: str, **arguments: Any) -> str:
    answer = await client.call_tool(tool, arguments)
    assert answer.is_error, answer
    return "".join(part.text for part in answer.content if part.type == "text")


async def test_an_agent_does_a_whole_task_while_people_watch(server: LiveServer) -> None:
    token = server.token()
    with connect(f"{server.url}/api/events/", token) as stream:
        stream.until(lambda event: event.json.get("path") == "")
        async with agent(server, VIBE_TOKEN=token) as client:
            assert {tool.name for tool in (await client.list_tools()).tools} == TOOLS
            project = (await call(client, "list_projects"))[0]
            assert "demo" in await call(client, "list_executors")
            task = await call(client, "create_task", project=project["name"], title="From an agent")
            seen = stream.until(lambda event: event.json["path"] == f"/tasks/{task['id']}")[-1].json
            assert seen["op"] == "add" and seen["value"]["title"] == "From an agent"

            await call(client, "update_task", task_id=task["id"], labels=["agent"])
            attempt = await call(client, "start_attempt", task_id=task["id"], executor="demo")
            run = next(run for run in await _runs(client, task["id"]) if run["run_reason"] == "codingagent")
            lines, ended, cursor = [], False, None
            while not ended:
                step = await call(
                    client, "read_log", process_id=run["id"], after=cursor, limit=7, wait_seconds=20
                )
                lines += step["records"]
                cursor, ended = step["cursor"], step["ended"]
            assert step["status"] == "completed" and step["exit_code"] == 0
            ids = [line["id"] for line in lines]
            assert len(lines) > 7 and len(ids) == len(set(ids))
            diff = await call(client, "read_diff", attempt_id=attempt["id"])
            assert diff and all(record["file"] for record in diff)
            path = f"/tasks/{task['id']}/status"
            moves = stream.until(
                lambda event: event.json["path"] == path and event.json["value"] == "inreview"
            )
            assert [event.json["value"] for event in moves if event.json["path"] == path] == [
                "inprogress",
                "inreview",
            ]


async def _runs(client: "Client", task_id: str) -> list[dict[str, Any]]:
    task = await call(client, "read_task", task_id=task_id)
    return [run for attempt in task["attempts"] for run in attempt["runs"]]


@pytest.fixture
def board(db: None, repository: Path) -> tuple[User, Project]:
    admin = User.objects.create_superuser("root")
    return admin, create_project(admin, {"repo_path": str(repository), "name": "Board"})


@asynccontextmanager
async def agent_of(user: User) -> "AsyncIterator[Client]":
    """A client of the same server in this process."""
    from mcp import Client

    from tasks.mcp_server import make_server

    async with Client(make_server(lambda: User.objects.filter(pk=user.pk, is_active=True).first())) as client:
        yield client


@pytest.mark.django_db(transaction=True)
async def test_refusals_come_as_errors_that_say_why(board: tuple[User, Project]) -> None:
    async with agent_of(board[0]) as client:
        nowhere = "00000000-0000-0000-0000-000000000000"
        assert "There is no task" in await refusal(client, "read_task", task_id=nowhere)
        assert "is not an id" in await refusal(client, "read_task", task_id="seven")
        assert "no project 'Nothing'" in await refusal(client, "create_task", project="Nothing", title="x")
        assert "title" in await refusal(client, "create_task", project="Board", title="  ")
        task = await call(client, "create_task", project="Board", title="Stays")
        assert "no executor" in await refusal(client, "start_attempt", task_id=task["id"], executor="nobody")
        assert (await call(client, "read_task", task_id=task["id"]))["attempts"] == []


@pytest.mark.django_db(transaction=True)
async def test_an_agent_sees_and_does_no_more_than_its_user(board: tuple[User, Project]) -> None:
    guest = await User.objects.acreate_user("guest")
    async with agent_of(guest) as client:
        assert await call(client, "list_projects") == []
        assert await call(client, "list_executors") == []
        await board[1].members.aadd(guest)
        project = (await call(client, "list_projects"))[0]
        task = await call(client, "create_task", project=project["id"], title="By a guest")
        said = await refusal(client, "start_attempt", task_id=task["id"], executor="demo")
        assert "tasks.start_run" in said


@pytest.mark.django_db(transaction=True)
async def test_an_account_that_is_closed_ends_what_an_agent_may_do(board: tuple[User, Project]) -> None:
    async with agent_of(board[0]) as client:
        assert await call(client, "list_projects")
        await User.objects.filter(pk=board[0].pk).aupdate(is_active=False)
        assert "deactivated" in await refusal(client, "list_projects")


@pytest.mark.django_db(transaction=True)
async def test_who_is_shut_out_while_waiting_for_a_line_does_not_get_it(
    board: tuple[User, Project], monkeypatch: pytest.MonkeyPatch
) -> None:
    guest = await User.objects.acreate_user("guest")
    await board[1].members.aadd(guest)
    task = await Task.objects.acreate(project=board[1], title="Watched")
    attempt = await TaskAttempt.objects.acreate(task=task, executor="demo", branch="x", target_branch="main")
    run = await ExecutionProcess.objects.acreate(
        task_attempt=attempt, run_reason="codingagent", status="running"
    )

    def page(*_: Any, **__: Any) -> list[dict[str, str]]:
        board[1].members.remove(guest)
        return [{"id": "1", "type": "stdout", "content": "a secret", "timestamp": ""}]

    monkeypatch.setattr(runlogs, "page", page)
    async with agent_of(guest) as client:
        said = await refusal(client, "read_log", process_id=str(run.pk), wait_seconds=5)
    assert "that you may see" in said and "secret" not in said


@pytest.mark.django_db(transaction=True)
async def test_history_says_that_an_agent_did_it(board: tuple[User, Project]) -> None:
    async with agent_of(board[0]) as client:
        task = await call(client, "create_task", project="Board", title="Signed")
    change = await DatabaseChange.objects.filter(object_id=task["id"]).afirst()
    assert change is not None
    assert (change.actor_kind, change.actor_label) == ("command", "root (mcp)")


def test_a_revoked_token_is_nobodys(board: tuple[User, Project], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIBE_TOKEN", issue_token(board[0]))
    person = mcp.person_of(None)
    assert person() == board[0]
    assert "VIBE_TOKEN" not in os.environ, "what the server starts would inherit it"
    ApiToken.objects.update(revoked_at=timezone.now())
    assert person() is None


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("arguments", "words"), [([], "Say who acts"), (["--user", "nobody"], "no active user 'nobody'")]
)
def test_without_a_user_it_says_what_is_missing(arguments: list[str], words: str) -> None:
    with pytest.raises(CommandError, match=words):
        call_command("mcp", *arguments)
