"""Old rows go, and no reader is told half of what they said."""

import asyncio
import io
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection

from events import pruning
from events.changes import ChangesLog
from events.models import ChangeLog, DatabaseChange
from events.pruning import ROW_BYTES, prune
from tasks.models import Project, Task
from tests.events.clients import Client, fresh_read, meanwhile, member_client, settled


async def test_pruning_never_makes_a_resume_partial(log: ChangesLog, task: Task) -> None:
    early = await Client(log).connect()
    late = Client(log)
    for number in range(10):
        await Task.objects.all().aupdate(title=str(number))
        if number == 8:
            await late.connect()
    # Otherwise the log misses what is pruned now, and all start over.
    await settled(await Client(log).connect())
    await sync_to_async(prune)(days=0)
    assert await DatabaseChange.objects.acount() == 1
    await settled(await late.connect())
    assert (late.full_states, [one["value"] for one in late.seen[1:]]) == (1, ["9"])
    await early.connect()
    await early.read()
    assert early.full_states == 2
    assert early.document == await sync_to_async(fresh_read)()


async def test_pruning_by_size_takes_the_oldest(task: Task) -> None:
    for number in range(10):
        await Task.objects.all().aupdate(title=str(number))
    newest = await DatabaseChange.objects.alatest("id")
    kept = 3 * (ROW_BYTES + newest.size)
    await sync_to_async(prune)(max_bytes=kept)
    values = [row.value async for row in DatabaseChange.objects.order_by("id")]
    assert values == ["7", "8", "9"]
    assert (await ChangeLog.objects.aget()).pruned_to == newest.pk - 3


@pytest.mark.parametrize("title", ["plain", "漢字", "🂡"])
def test_a_row_is_as_large_as_its_bytes(task: Task, title: str) -> None:
    Task.objects.update(title=title)
    row = DatabaseChange.objects.latest("id")
    assert row.size == len(f"{row.value_json}{row.old_json}".encode())


def test_a_slower_pruner_does_not_take_back_how_far_another_went(task: Task) -> None:
    for number in range(3):
        Task.objects.update(title=str(number))
    ids = DatabaseChange.objects.order_by("id").values_list("id", flat=True)
    early, late = ids[0], ids[2]
    for up_to in (late, early):
        pruning._delete_up_to(up_to, "default")
    assert ChangeLog.objects.get().pruned_to == late


async def test_ids_go_on_after_everything_was_pruned(log: ChangesLog, task: Task) -> None:
    client = await Client(log).connect()
    # Otherwise the log misses what is pruned now, and all start over.
    await settled(client)
    await sync_to_async(prune)(days=0, max_bytes=0)
    newest = await DatabaseChange.objects.alatest("id")
    await task.asave()
    await settled(client)
    assert (await DatabaseChange.objects.alatest("id")).pk > newest.pk
    assert client.full_states == 1


def test_any_number_of_days_may_be_kept(task: Task) -> None:
    before = DatabaseChange.objects.count()
    assert prune(days=10.0**12) == 0
    assert DatabaseChange.objects.count() == before > 1


@pytest.mark.parametrize("words", ["--days=nan", "--days=-1", "--bytes=-1", "--days=x"])
def test_what_is_no_number_to_keep_deletes_nothing(task: Task, words: str) -> None:
    before = DatabaseChange.objects.count()
    with pytest.raises(CommandError, match=r"0 or more|invalid number value"):
        call_command("prune_changes", words)
    assert DatabaseChange.objects.count() == before


async def test_pruning_goes_on_until_enough_is_gone(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "BATCH", 2)
    for number in range(5):
        await Task.objects.all().aupdate(title=str(number))
    await sync_to_async(prune)(days=0)
    assert await DatabaseChange.objects.acount() == 1


async def test_rows_pruned_before_the_relay_read_them_start_everybody_over(
    log: ChangesLog, task: Task
) -> None:
    client = await Client(log).connect()
    await asyncio.to_thread(log.relay.stop)
    for number in range(5):
        await Task.objects.all().aupdate(title=str(number))
    await sync_to_async(prune)(days=0)
    await sync_to_async(log._step)()
    await client.read()
    assert client.full_states == 2
    assert client.document == await sync_to_async(fresh_read)()


async def test_rows_that_are_gone_at_the_new_end_start_everybody_over(log: ChangesLog, task: Task) -> None:
    """The database was put back to what it was before."""
    client = await Client(log).connect()
    await Task.objects.all().aupdate(title="lost")
    await settled(client)
    await asyncio.to_thread(log.relay.stop)

    def put_back() -> None:
        with connection.cursor() as cursor:
            cursor.execute("UPDATE tasks_task SET title = 'first'")
        DatabaseChange.objects.latest("id").delete()

    await sync_to_async(put_back)()
    await sync_to_async(log._step)()
    await client.read()
    assert client.full_states == 2
    assert client.document == await sync_to_async(fresh_read)()


async def test_log_goes_on_where_no_row_is_left(log: ChangesLog, task: Task) -> None:
    def take_all() -> None:
        ChangeLog.objects.update(pruned_to=DatabaseChange.objects.latest("id").pk)
        DatabaseChange.objects.all().delete()

    client = await Client(log).connect()
    await settled(client)
    await sync_to_async(take_all)()
    await client.connect()
    await task.asave()
    await settled(client)
    assert client.full_states == 1


# --- a reader that the ring has left behind, while the relay stands still


async def left_behind(log: ChangesLog, client: Client) -> None:
    log.store.max_bytes = 1000
    for number in range(20):
        await Task.objects.all().aupdate(title=str(number))
    last = (await DatabaseChange.objects.alatest("id")).pk
    await asyncio.to_thread(log.relay.stop)
    await sync_to_async(log._step)()
    assert client.position < log.store.floor < log.store.last == log._offset + last


async def test_it_starts_over_where_rows_are_pruned(log: ChangesLog, task: Task) -> None:
    client = await Client(log).connect()
    await left_behind(log, client)
    await sync_to_async(prune)(days=0)
    await client.read()
    assert client.full_states == 2
    assert client.document == await sync_to_async(fresh_read)()


async def test_it_gets_all_though_rows_are_pruned_while_it_reads(log: ChangesLog, task: Task) -> None:
    client = await Client(log).connect()
    await left_behind(log, client)
    rows = log._rows

    def read_late(after: int, last: int) -> Any:
        meanwhile(lambda: prune(days=0))
        return rows(after, last)

    log._rows = read_late  # type: ignore[method-assign]
    await client.read()
    assert [one["value"] for one in client.seen[1:]] == [str(number) for number in range(20)]


async def test_it_starts_over_in_another_history(log: ChangesLog, task: Task) -> None:
    client = await Client(log).connect()
    await left_behind(log, client)
    await sync_to_async(call_command)("resync", verbosity=0, stdout=io.StringIO())
    await client.read()
    assert client.full_states == 2


async def test_it_is_not_told_what_comes_after_a_membership_was_taken(log: ChangesLog, task: Task) -> None:
    """The relay has not read that yet, and nobody else knows of it."""
    anna = await User.objects.acreate(username="anna")
    project = await Project.objects.aget(pk=task.project_id)
    await project.members.aadd(anna)
    client = await member_client(log, anna)
    await left_behind(log, client)
    await project.members.aremove(anna)
    await Task.objects.all().aupdate(title="secret")
    await client.read()
    assert client.seen[-1]["value"] == "19"
    await sync_to_async(log._step)()
    await client.read()
    assert client.document["tasks"] == {}
    assert "secret" not in str(client.seen)


def test_the_pruner_goes_on_whatever_went_wrong(
    settings: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings.EVENTS_PRUNE_SECONDS = 0.001
    pruner = pruning.Pruner()

    def prune() -> int:
        if "could not be pruned" in caplog.text:
            pruner.stop()
            return 0
        raise ZeroDivisionError

    monkeypatch.setattr(pruning, "prune", prune)
    pruner._run()
    assert "ZeroDivisionError" in caplog.text
