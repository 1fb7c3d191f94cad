"""The parts of a log that the page asks for, by HTTP."""

import asyncio
import json
import threading
import time
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psutil
import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.test import AsyncClient, Client

from tasks.logs import log_views
from tasks.models import ExecutionProcess, Task, TaskAttempt
from tasks.runs import housekeeping, runfiles
from tasks.supervision.records import record
from tasks.tokens import issue_token
from tests.live import LiveServer
from tests.runs import is_gone, wait_for

STAMP = "2026-01-01T00:00:00.000000Z"


@pytest.fixture(autouse=True)
def data_folder(settings: Any, tmp_path: Path) -> None:
    settings.VIBE_DATA = tmp_path / "data"


@pytest.fixture
def process(task: Task) -> ExecutionProcess:
    attempt = TaskAttempt.objects.create(task=task, executor="script", branch="b", target_branch="main")
    process = ExecutionProcess.objects.create(
        task_attempt=attempt,
        run_reason="codingagent",
        status="completed",
        completed_at="2020-01-01T00:00:00Z",
    )
    folder = runfiles.folder_of(process.pk)
    folder.make()
    Path(folder.log).write_bytes(b"".join(record("stdout", f"line {n}", STAMP) for n in range(100)))
    return process


def lines(client: Client, process: ExecutionProcess, query: str) -> Any:
    answer = client.get(f"/api/processes/{process.pk}/logs/lines?{query}")
    assert answer.status_code == 200, answer.content
    return answer.json()


def test_lines_by_number_from_either_end(as_admin: Client, process: ExecutionProcess) -> None:
    found = lines(as_admin, process, "first=10&count=2")
    assert (found["first"], found["total"]) == (10, 100)
    assert [one["content"] for one in found["records"]] == ["line 10", "line 11"]
    found = lines(as_admin, process, "first=-3&count=10")
    assert (found["first"], [one["content"] for one in found["records"]]) == (
        97,
        ["line 97", "line 98", "line 99"],
    )
    assert lines(as_admin, process, "first=-1000&count=1")["first"] == 0
    assert lines(as_admin, process, "first=5000&count=1")["records"] == []


def test_of_very_long_lines_fewer_come_at_once(
    as_admin: Client, process: ExecutionProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_views, "_MOST_BYTES", 3 * len(record("stdout", "line 10", STAMP)))
    for query, first in (("first=10&count=50", 10), ("first=-60&count=60", 97), ("first=-60&count=50", 87)):
        found = lines(as_admin, process, query)
        assert (found["first"], found["total"]) == (first, 100)
        assert [one["content"] for one in found["records"]] == [f"line {first + n}" for n in range(3)]
        following = as_admin.get(f"/api/processes/{process.pk}/logs?after={found['cursor']}&limit=1").json()
        assert [one["content"] for one in following] == [f"line {first + 3}"][: 97 - first]
    monkeypatch.setattr(log_views, "_MOST_BYTES", 1)
    for query, first in (("first=10&count=50", 10), ("first=-60&count=60", 99)):
        (found,) = lines(as_admin, process, query)["records"]
        assert found["content"] == f"line {first}"


def test_the_cursor_of_lines_is_where_the_next_ones_begin(
    as_admin: Client, process: ExecutionProcess
) -> None:
    cursor = lines(as_admin, process, "first=0&count=40")["cursor"]
    page = as_admin.get(f"/api/processes/{process.pk}/logs?after={cursor}&limit=1").json()
    assert [one["content"] for one in page] == ["line 40"]


def test_a_page_has_exactly_the_fields_of_a_record(as_admin: Client, process: ExecutionProcess) -> None:
    page = as_admin.get(f"/api/processes/{process.pk}/logs?limit=3").json()
    assert [one["content"] for one in page] == ["line 97", "line 98", "line 99"]
    assert set(page[0]) == {"id", "type", "content", "timestamp"}
    talk = as_admin.get(f"/api/processes/{process.pk}/logs?limit=3&view=conversation").json()
    assert [(one["kind"], one["text"]) for one in talk] == [("raw", f"line {n}") for n in (97, 98, 99)]


def test_a_log_reads_the_same_after_a_vacuum(as_admin: Client, process: ExecutionProcess) -> None:
    before = lines(as_admin, process, "first=0&count=100")
    report = housekeeping.tidy()
    assert report.compressed_logs == 1
    assert Path(runfiles.folder_of(process.pk).log + ".gz").exists()
    assert lines(as_admin, process, "first=0&count=100") == before
    assert housekeeping.tidy().compressed_logs == 0


def test_the_folder_of_a_deleted_run_is_removed(
    process: ExecutionProcess, django_capture_on_commit_callbacks: Any
) -> None:
    folder = Path(runfiles.folder_of(process.pk).path)
    with django_capture_on_commit_callbacks(execute=True):
        process.task_attempt.task.delete()
    assert housekeeping.tidy().removed_folders == 1
    assert not folder.exists()


def test_a_folder_that_may_be_another_databases_stays(process: ExecutionProcess) -> None:
    folder = Path(runfiles.folder_of(uuid4()).path)
    folder.mkdir(parents=True)
    assert housekeeping.tidy().removed_folders == 0
    assert folder.exists()


def test_disk_use_counts_logs(process: ExecutionProcess) -> None:
    project = process.task_attempt.task.project
    (found,) = housekeeping.disk_use(type(project).objects.filter(pk=project.pk))
    assert found.logs >= Path(runfiles.folder_of(process.pk).log).stat().st_size
    assert found.worktrees == 0


def test_the_disk_use_of_a_project(as_admin: Client, as_member: Client, process: ExecutionProcess) -> None:
    address = f"/api/projects/{process.task_attempt.task.project_id}/disk"
    found = as_admin.get(address).json()
    assert found["logs"] > 0 and found["worktrees"] == 0
    assert as_member.get(address).status_code == 404
    assert Client().get(address).status_code == 401


@pytest.mark.parametrize("part", ["lines", "search?q=x"])
def test_who_may_not_see_the_run_finds_nothing(
    as_member: Client, process: ExecutionProcess, part: str
) -> None:
    address = f"/api/processes/{process.pk}/logs/{part}"
    assert Client().get(address).status_code == 401
    answer = as_member.get(address)
    assert answer.status_code == 404
    assert "detail" in answer.json()


@pytest.mark.parametrize("query", ["first=x", "count=1.5"])
def test_bad_numbers_are_refused(as_admin: Client, process: ExecutionProcess, query: str) -> None:
    assert as_admin.get(f"/api/processes/{process.pk}/logs/lines?{query}").status_code == 422


@pytest.mark.django_db(transaction=True)
async def test_a_search_streams_its_hits(admin: User, process: ExecutionProcess) -> None:
    token = await sync_to_async(issue_token)(admin)
    client, headers = AsyncClient(), {"Authorization": f"Bearer {token}"}
    answer = await client.get(f"/api/processes/{process.pk}/logs/search?q=LINE 7", headers=headers)
    assert answer.status_code == 200
    said = b"".join([part async for part in answer.streaming_content])
    found = [json.loads(line) for line in said.splitlines()]
    assert [one["line"] for one in found if "line" in one] == [7, *range(70, 80)]
    assert found[-1] == {"done": True, "hits": 11, "truncated": False}
    for query, words in (
        ("", "1 to 1000"),
        ("q=(&regex=1", "no regular expression"),
        ("q=a{99999999999}&regex=1", "no regular expression"),
        (f"q={'(' * 500}{')' * 500}&regex=1", "no regular expression"),
    ):
        answer = await client.get(f"/api/processes/{process.pk}/logs/search?{query}", headers=headers)
        assert answer.status_code == 422
        assert words in answer.json()["detail"]


async def test_searches_that_think_for_long_hold_up_nothing_else(process: ExecutionProcess) -> None:
    folder = runfiles.folder_of(process.pk)
    await asyncio.to_thread(Path(folder.log).write_bytes, record("stdout", "a" * 50, STAMP))
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    query = {"query": "(a+)+$b", "regex": True, "case": True}
    thinking = [asyncio.create_task(anext(log_views._hits(folder.path, query))) for _ in range(2)]
    try:
        async with asyncio.timeout(20):
            while len(psutil.Process().children()) < len(thinking):  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.01)
            for _ in range(10):
                await asyncio.to_thread(int)
        assert not any(one.done() for one in thinking)
    finally:
        for one in thinking:
            one.cancel()
        await asyncio.wait(thinking)


A_LONG_WORD = """
from tasks.models import ExecutionProcess, Project, Task, TaskAttempt
from tasks.runs import runfiles
task = Task.objects.create(project=Project.objects.first(), title="A task")
attempt = TaskAttempt.objects.create(task=task, executor="script", branch="b", target_branch="main")
run = ExecutionProcess.objects.create(task_attempt=attempt, run_reason="codingagent", status="completed")
runfiles.append(runfiles.folder_of(run.pk), "stdout", "a" * 50)
print(run.pk)
"""


def test_a_server_ends_at_once_though_a_search_thinks_and_takes_it_along(tmp_path: Path) -> None:
    with LiveServer(tmp_path, typed=True) as server:
        run = server.manage("shell", "-c", A_LONG_WORD).split()[-1]
        assert server.process is not None
        running = psutil.Process(server.process.pid)

        def ask() -> None:
            headers = {"Authorization": f"Bearer {server.token()}"}
            address = f"{server.url}/api/processes/{run}/logs/search?q=(a%2B)%2B$b&regex=1"
            with suppress(httpx.HTTPError):
                httpx.get(address, headers=headers, trust_env=False, timeout=60)

        with ThreadPoolExecutor(1) as pool:
            pool.submit(ask)
            (search,) = wait_for(
                lambda: [one for one in running.children() if "log_search" in str(one.cmdline())],
                "the search",
            )
            began = time.monotonic()
            assert server.stop() == 0
            assert time.monotonic() - began < 30
        wait_for(lambda: is_gone(search.pid), "the end of the search")


async def test_a_search_gives_its_turn_back_also_when_its_reader_leaves(
    process: ExecutionProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_views, "_searches", threading.BoundedSemaphore(1))

    def hits() -> AsyncGenerator[bytes]:
        query = {"query": "line", "regex": False, "case": False}
        return log_views._hits(runfiles.folder_of(process.pk).path, query)

    left = hits()
    assert await anext(left)
    (refusal,) = [part async for part in hits()]
    assert b"Many searches" in refusal
    await left.aclose()
    for _ in range(2):
        said = b"".join([part async for part in hits()])
        assert json.loads(said.splitlines()[-1])["hits"] == 100
