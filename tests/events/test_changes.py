"""The changes stream, at the level of its log."""

import asyncio
import io
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection, connections, transaction
from django.test.utils import CaptureQueriesContext

from events import changes, relay, snapshot
from events.access import ALL, Principal
from events.changes import ChangesLog, current_cursor
from events.frames import view_of
from events.logs import Reader
from events.models import DatabaseChange
from events.snapshot import Snapshots, consistent_read
from tasks.models import ExecutionProcess, Project, Task, TaskAttempt
from tests.events.clients import (
    Client,
    Document,
    fresh_read,
    meanwhile,
    member_client,
    operations,
    settled,
    until,
)

# Another process, on the database of the tests.
IN_TEST_DATABASE = """
import os
os.environ["DJANGO_SETTINGS_MODULE"] = "vibe.settings"
from django.conf import settings
settings.DATABASES["default"]["NAME"] = os.environ["DATABASE_NAME_FOR_TEST"]
import django
django.setup()
"""


async def test_a_fresh_client_gets_the_whole_document_then_each_operation(
    log: ChangesLog, task: Task
) -> None:
    client = await Client(log).connect()
    assert client.document == await sync_to_async(fresh_read)()
    assert set(client.document) == {"projects", "tasks", "task_attempts", "execution_processes"}
    task.status = "inprogress"
    await task.asave(update_fields=["status"])
    await settled(client)
    assert client.seen[1:] == [{"op": "replace", "path": f"/tasks/{task.pk}/status", "value": "inprogress"}]
    path = f"/tasks/{task.pk}"
    await task.adelete()
    await settled(client)
    assert operations(client)[-1] == ("remove", path)
    assert client.document == await sync_to_async(fresh_read)()


async def test_full_state_is_that_of_its_cursor_though_writers_go_on(
    log: ChangesLog, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_table = snapshot._encoded

    def read_late(*arguments: Any) -> Any:
        meanwhile(lambda: Task.objects.all().delete())
        return read_table(*arguments)

    monkeypatch.setattr(snapshot, "_encoded", read_late)
    client = await Client(log).connect()
    assert str(task.pk) in client.document["tasks"]
    await settled(client)
    assert operations(client)[1:] == [("remove", f"/tasks/{task.pk}")]


def test_writers_take_their_lock_at_once_after_a_read_that_took_none(task: Task) -> None:
    with CaptureQueriesContext(connection) as queries:
        with consistent_read():
            meanwhile(lambda: Task.objects.update(title="not kept waiting"))
        with transaction.atomic():
            Task.objects.update(title="x")
    begins = [query["sql"] for query in queries if query["sql"].startswith("BEGIN")]
    expected = ["BEGIN DEFERRED", "BEGIN IMMEDIATE"] if connection.vendor == "sqlite" else ["BEGIN"] * 2
    assert begins == expected


async def test_a_resumed_client_gets_exactly_what_followed(log: ChangesLog, task: Task) -> None:
    client = await Client(log).connect()
    for number in range(5):
        await Task.objects.filter(pk=task.pk).aupdate(title=str(number))
    await client.connect()
    await settled(client)
    assert [one["value"] for one in client.seen[1:]] == ["0", "1", "2", "3", "4"]
    assert client.full_states == 1


async def test_moved_task_takes_its_runs_along(log: ChangesLog, task: Task, other_project: Project) -> None:
    attempt = await TaskAttempt.objects.acreate(task=task, executor="x", branch="b", target_branch="main")
    run = await ExecutionProcess.objects.acreate(task_attempt=attempt, run_reason="codingagent")
    one = await Client(log, frozenset({task.project_id})).connect()
    two = await Client(log, frozenset({other_project.pk})).connect()
    both = await Client(log).connect()
    task.project = other_project
    task.title = "moved"
    await task.asave()
    await settled(one, two, both)
    paths = [f"/tasks/{task.pk}", f"/task_attempts/{attempt.pk}", f"/execution_processes/{run.pk}"]
    assert operations(one, start=1) == [("remove", path) for path in paths]
    assert operations(two, start=1) == [("add", path) for path in paths]
    assert {path for _, path in operations(both, start=1)} == {
        f"{paths[0]}/{name}" for name in ("project_id", "title", "updated_at")
    }
    for client in (one, two, both):
        assert client.document == await sync_to_async(fresh_read)(client.fresh.scope)


# --- who sees what


async def test_members_see_projects_appear_and_vanish(
    log: ChangesLog, task: Task, other_project: Project
) -> None:
    anna = await User.objects.acreate(username="anna")
    project = await Project.objects.aget(pk=task.project_id)
    client = await member_client(log, anna)
    assert client.document["projects"] == {}
    await project.members.aadd(anna)
    await settled(client)
    assert client.document == await sync_to_async(fresh_read)(frozenset({project.pk}))
    await anna.projects.aset([other_project])
    await Task.objects.all().aupdate(title="secret")
    await settled(client)
    assert client.document == await sync_to_async(fresh_read)(frozenset({other_project.pk}))
    assert "secret" not in str(client.seen)


async def test_stream_of_a_project_ends_empty_when_its_reader_may_not_see_it_any_more(
    log: ChangesLog, task: Task
) -> None:
    anna = await User.objects.acreate(username="anna")
    project = await Project.objects.aget(pk=task.project_id)
    await project.members.aadd(anna)
    client = await member_client(log, anna, project.pk)
    assert str(task.pk) in client.document["tasks"]
    await project.members.aremove(anna)
    await until(lambda: _finishes(client), "the end")
    assert client.document == {"projects": {}, "tasks": {}, "task_attempts": {}, "execution_processes": {}}


async def _finishes(client: Client) -> bool:
    await client.read()
    return client.finished


async def test_resume_with_other_rights_starts_over(log: ChangesLog, task: Task) -> None:
    anna = await User.objects.acreate(username="anna")
    project = await Project.objects.aget(pk=task.project_id)
    await project.members.aadd(anna)
    client = await member_client(log, anna)
    await project.members.aremove(anna)
    await client.connect()
    assert (client.full_states, client.document["tasks"]) == (2, {})
    await project.members.aadd(anna)
    client.fresh = Reader(Principal(anna.pk, "session"), frozenset({project.pk}))
    await client.connect()
    assert str(task.pk) in client.document["tasks"]
    await User.objects.filter(pk=anna.pk).aupdate(is_superuser=True)
    client.sees(ALL)
    await client.connect()
    assert client.full_states == 4


async def test_membership_taken_and_given_back_meanwhile_does_not_start_a_reader_over(
    log: ChangesLog, task: Task
) -> None:
    anna = await User.objects.acreate(username="anna")
    project = await Project.objects.aget(pk=task.project_id)
    await project.members.aadd(anna)
    client = await member_client(log, anna)
    await project.members.aremove(anna)
    await Task.objects.all().aupdate(title="meanwhile")
    await project.members.aadd(anna)
    await client.connect()
    await settled(client)
    assert client.full_states == 1
    assert client.document == await sync_to_async(fresh_read)(frozenset({project.pk}))


def test_what_a_reader_sees_has_one_name_in_every_process() -> None:
    one, other = UUID(int=1), UUID(int=9)
    scopes = frozenset([one, other]), frozenset([other, one])
    assert list(scopes[0]) != list(scopes[1])
    assert len({view_of.__wrapped__(scope) for scope in scopes}) == 1


async def test_cursor_of_another_narrowing_starts_over(
    log: ChangesLog, task: Task, other_project: Project
) -> None:
    client = await Client(log, frozenset({task.project_id})).connect()
    client.sees(frozenset({other_project.pk}))
    await client.connect()
    assert client.full_states == 2
    assert client.document == await sync_to_async(fresh_read)(frozenset({other_project.pk}))


# --- cursors that cannot be honoured


@pytest.mark.parametrize(
    "cursor", ["invalid", "start", "", "1", "a.b.c", "00000000.1.0.all", "...", "e.9999999999999.0.all"]
)
async def test_strange_cursor_starts_over(log: ChangesLog, task: Task, cursor: str) -> None:
    client = Client(log)
    client.cursor = cursor
    await client.connect()
    assert client.full_states == 1
    assert client.document == await sync_to_async(fresh_read)()


async def test_cursor_from_the_future_starts_over(log: ChangesLog, task: Task) -> None:
    client = await Client(log).connect()
    epoch, row, *rest = str(client.cursor).split(".")
    client.cursor = ".".join([epoch, str(int(row) + 1), *rest])
    await client.connect()
    assert client.full_states == 2


async def test_cursor_of_a_page_goes_on_from_where_it_was_rendered(log: ChangesLog, task: Task) -> None:
    def render() -> tuple[str, Document]:
        with consistent_read():
            return current_cursor(frozenset({task.project_id})), fresh_read(frozenset({task.project_id}))

    cursor, document = await sync_to_async(render)()
    await Task.objects.all().aupdate(title="between rendering and connecting")
    client = Client(log, frozenset({task.project_id}))
    client.cursor, client.document = cursor, document
    await client.connect()
    await settled(client)
    assert operations(client) == [("replace", f"/tasks/{task.pk}/title")]
    assert client.document == await sync_to_async(fresh_read)(frozenset({task.project_id}))


async def test_resync_has_everyone_start_over(log: ChangesLog, task: Task) -> None:
    live, away = await Client(log).connect(), await Client(log).connect()

    def by_hand() -> None:
        with connection.cursor() as cursor:
            cursor.execute("UPDATE tasks_task SET title = 'by hand'")
        call_command("resync", verbosity=0, stdout=io.StringIO())

    await sync_to_async(by_hand)()

    async def started_over() -> bool:
        await live.read()
        return live.full_states == 2

    await until(started_over, "a full state")
    await away.connect()
    for client in (live, away):
        assert client.document["tasks"][str(task.pk)]["title"] == "by hand"
    await Task.objects.all().aupdate(title="again")

    async def both_have_it() -> bool:
        await live.read()
        await away.read()
        return all(one.document["tasks"][str(task.pk)]["title"] == "again" for one in (live, away))

    await until(both_have_it, "what came after")


async def test_resync_reaches_those_who_know_more_than_the_relay(log: ChangesLog, task: Task) -> None:
    """A full state is read at once; the relay may come to the same rows later, and to another history first."""
    await asyncio.to_thread(log.relay.stop)
    await Task.objects.all().aupdate(title="read by the client alone")
    client = await Client(log).connect()
    assert client.position > log.store.last
    await sync_to_async(call_command)("resync", verbosity=0, stdout=io.StringIO())
    await sync_to_async(log._step)()
    await client.read()
    assert client.full_states == 2


async def test_relay_takes_over_nothing_of_a_history_that_ended_meanwhile(
    log: ChangesLog, task: Task
) -> None:
    client = await Client(log).connect()
    await asyncio.to_thread(log.relay.stop)
    await Task.objects.all().aupdate(title="read by the relay")
    rows = log._rows

    def read_early(after: int, last: int) -> Any:
        found = list(rows(after, last))
        meanwhile(lambda: call_command("resync", verbosity=0, stdout=io.StringIO()))
        meanwhile(lambda: log._position_of(log._state()))  # As a new reader does.
        return found

    log._rows = read_early  # type: ignore[method-assign]
    assert await sync_to_async(log._step)()
    await client.read()
    assert [one["path"] for one in client.seen] == ["", ""]
    assert client.document == await sync_to_async(fresh_read)()


# --- what it costs


async def test_reader_behind_the_ring_reads_on_from_the_table(
    log: ChangesLog, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "_ROWS_A_READ", 30)
    client = await Client(log).connect()
    log.store.max_bytes = 3000
    titles = [str(number) for number in range(100)]
    for title in titles:
        await Task.objects.all().aupdate(title=title)
    await settled(client)
    assert log.store.floor > client.log._offset
    assert [one["value"] for one in client.seen[1:]] == titles
    assert client.full_states == 1


async def test_relay_reads_on_until_it_has_all(
    log: ChangesLog, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    await asyncio.to_thread(log.relay.stop)
    await sync_to_async(log._step)()
    monkeypatch.setattr(changes, "_ROWS_A_READ", 2)
    for number in range(3):
        await Task.objects.all().aupdate(title=str(number))
    assert [await sync_to_async(log._step)() for _ in range(2)] == [True, False]


async def test_snapshot_is_made_once_for_all_who_ask_at_the_same_cursor(log: ChangesLog, task: Task) -> None:
    clients = await asyncio.gather(*(Client(log).connect() for _ in range(50)))
    assert log.snapshots.made == 1
    assert all(client.document == clients[0].document for client in clients)
    await task.asave()
    await Client(log, frozenset({task.project_id})).connect()
    await Client(log).connect()
    assert log.snapshots.made == 2


def test_snapshot_is_made_once_for_all_who_wait_for_it_though_writers_go_on(task: Task) -> None:
    snapshots = Snapshots()
    making, everybody = threading.Lock(), threading.Barrier(3)

    class Turn:
        def __enter__(self) -> None:
            everybody.wait(20)
            making.acquire()

        def __exit__(self, *_: object) -> None:
            Task.objects.update(title=str(time.monotonic()))
            making.release()

    snapshots._making = Turn()  # type: ignore[assignment]
    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(snapshots.get) for _ in range(3)]
        assert len({one.result(30) for one in asked}) == 1
        for _ in asked:
            pool.submit(lambda: (everybody.wait(20), connections.close_all()))
    assert snapshots.made == 1


def test_snapshot_keeps_the_documents_of_few_scopes(task: Task) -> None:
    kept = Snapshots().get()
    for number in range(20):
        kept.document(frozenset({UUID(int=number)}))
    assert len(kept._views) < 10


async def test_fan_out_does_no_read_for_each_reader(log: ChangesLog, task: Task) -> None:
    clients = await asyncio.gather(*(Client(log, frozenset({task.project_id})).connect() for _ in range(50)))
    reads = 0

    async def counting(*arguments: Any) -> Any:
        nonlocal reads
        reads += 1
        return await ask(*arguments)

    ask, log._read = log._read, counting  # type: ignore[method-assign]
    await Task.objects.all().aupdate(title="for all")
    await settled(*clients)
    assert reads == 0
    assert all(client.document["tasks"][str(task.pk)]["title"] == "for all" for client in clients)


async def test_changes_of_the_own_process_are_told_without_looking_for_them(
    log: ChangesLog, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await Client(log).connect()
    monkeypatch.setattr(relay, "POLL_SECONDS", 600)
    monkeypatch.setattr(changes, "_ROWS_A_READ", 2)
    await Task.objects.all().aupdate(title="from now on it does not look")
    await settled(client)
    await Task.objects.abulk_create([Task(project_id=task.project_id, title="x") for _ in range(5)])
    await settled(client)
    assert len(client.document["tasks"]) == 6


# --- trouble


async def test_relay_goes_on_after_the_database_was_away(log: ChangesLog, task: Task) -> None:
    client = await Client(log).connect()

    def rename(old: str, new: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {old} RENAME TO {new}")

    await sync_to_async(rename)("events_databasechange", "elsewhere")
    try:

        async def noticed() -> bool:
            return log.relay.failures > 0

        await until(noticed, "a failure")
        assert "events_databasechange" in log.relay.last_failure
    finally:
        await sync_to_async(rename)("elsewhere", "events_databasechange")
    await Task.objects.all().aupdate(title="after all")
    await settled(client)
    assert client.document["tasks"][str(task.pk)]["title"] == "after all"


async def test_relay_goes_on_after_a_row_that_cannot_be_told_was_taken_away(
    log: ChangesLog, task: Task
) -> None:
    client = await Client(log).connect()
    odd = DatabaseChange(table="tasks", operation="add", value_json="{}", scope="no UUID", size=2)
    await odd.asave()

    async def noticed() -> bool:
        return log.relay.failures > 0

    await until(noticed, "a failure")
    await odd.adelete()
    await Task.objects.all().aupdate(title="after all")
    await settled(client)
    assert client.document["tasks"][str(task.pk)]["title"] == "after all"


async def test_another_process_is_seen_soon(log: ChangesLog, task: Task) -> None:
    client = await Client(log).connect()
    code = (
        "import time; from tasks.models import Task; "
        "[(Task.objects.update(title=str(time.time())), time.sleep(0.3)) for _ in range(5)]"
    )
    environment = {**os.environ, "DATABASE_NAME_FOR_TEST": str(connection.settings_dict["NAME"])}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", IN_TEST_DATABASE + code, env=environment, stdout=asyncio.subprocess.DEVNULL
    )
    delays = []
    async with asyncio.timeout(60):
        while len(delays) < 5:
            await log.store.wait(client.position, 20)
            seen = time.time()
            start = len(client.seen)
            await client.read()
            delays += [seen - float(one["value"]) for one in client.seen[start:]]
    assert await process.wait() == 0
    # The quickest: a machine that is busy with other tests pauses now and then.
    assert min(delays) < 1
