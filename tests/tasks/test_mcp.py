"""The MCP server, spoken to by the SDK's own client over stdio, beside a running server."""

import json
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from mcp import Client, StdioServerParameters

from tests.live import ROOT, LiveServer
from tests.sse_client import connect

TOOLS = {
    *("list_projects", "list_tasks", "read_task", "list_executors", "read_log", "read_diff"),
    *("create_task", "update_task", "start_attempt", "follow_up", "stop_run"),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with LiveServer(tmp_path_factory.mktemp("mcp"), {"VIBE_DEMO_SECONDS": "1"}) as running:
        yield running


@asynccontextmanager
async def agent(server: LiveServer, *args: str, **env: str) -> AsyncIterator[Client]:
    """A client of `manage.py mcp`, started from another folder, as agents start it."""
    parameters = StdioServerParameters(
        command=sys.executable,
        args=[str(ROOT / "manage.py"), "mcp", *args],
        env={"PATH": os.environ["PATH"], "VIBE_DATA": str(server.data), **env},
        cwd="/",
    )
    async with Client(parameters, read_timeout_seconds=120) as client:
        yield client


async def call(client: Client, tool: str, **arguments: Any) -> Any:
    answer = await client.call_tool(tool, arguments)
    assert not answer.is_error, answer.content
    assert answer.structured_content is not None
    return answer.structured_content.get("result", answer.structured_content)


async def refusal(client: Client, tool: str, **arguments: Any) -> str:
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


async def _runs(client: Client, task_id: str) -> list[dict[str, Any]]:
    task = await call(client, "read_task", task_id=task_id)
    return [run for attempt in task["attempts"] for run in attempt["runs"]]


async def test_refusals_come_as_errors_that_say_why(server: LiveServer) -> None:
    async with agent(server, "--user", "admin") as client:
        nowhere = "00000000-0000-0000-0000-000000000000"
        assert "There is no task" in await refusal(client, "read_task", task_id=nowhere)
        assert "is not an id" in await refusal(client, "read_task", task_id="seven")
        assert "no project 'Nothing'" in await refusal(client, "create_task", project="Nothing", title="x")
        project = (await call(client, "list_projects"))[0]["id"]
        assert "title" in await refusal(client, "create_task", project=project, title="  ")
        task = await call(client, "create_task", project=project, title="Stays")
        assert "no executor" in await refusal(client, "start_attempt", task_id=task["id"], executor="nobody")
        assert (await call(client, "read_task", task_id=task["id"]))["attempts"] == []


async def test_an_agent_sees_and_does_no_more_than_its_user(server: LiveServer) -> None:
    server.manage(
        "shell", "-c", "from django.contrib.auth.models import User; User.objects.create_user('guest')"
    )
    async with agent(server, VIBE_TOKEN=server.token("guest")) as client:
        assert await call(client, "list_projects") == []
        assert await call(client, "list_executors") == []
        server.manage(
            "shell",
            "-c",
            "from tasks.models import Project; from django.contrib.auth.models import User;"
            "Project.objects.first().members.add(User.objects.get(username='guest'))",
        )
        project = (await call(client, "list_projects"))[0]
        task = await call(client, "create_task", project=project["id"], title="By a guest")
        said = await refusal(client, "start_attempt", task_id=task["id"], executor="demo")
        assert "tasks.start_run" in said


async def test_a_revoked_token_ends_what_an_agent_may_do(server: LiveServer) -> None:
    async with agent(server, VIBE_TOKEN=server.token()) as client:
        assert await call(client, "list_projects")
        server.manage(
            "shell",
            "-c",
            "from tasks.models import ApiToken; from django.utils import timezone;"
            "t = ApiToken.objects.latest('created_at'); t.revoked_at = timezone.now(); t.save()",
        )
        assert "revoked" in await refusal(client, "list_projects")


def test_without_a_user_it_says_what_is_missing(server: LiveServer) -> None:
    for arguments in (["mcp"], ["mcp", "--user", "nobody"]):
        with pytest.raises(AssertionError, match=r"no active user|Say who acts"):
            server.manage(*arguments)


async def test_history_says_that_an_agent_did_it(server: LiveServer) -> None:
    async with agent(server, "--user", "admin") as client:
        project = (await call(client, "list_projects"))[0]["id"]
        task = await call(client, "create_task", project=project, title="Signed")
    said = server.manage(
        "shell",
        "-c",
        "from events.models import DatabaseChange; import json;"
        f"c = DatabaseChange.objects.filter(object_id='{task['id']}').first();"
        "print(json.dumps([c.actor_kind, c.actor_label]))",
    )
    assert json.loads(said.splitlines()[-1]) == ["command", "admin (mcp)"]
