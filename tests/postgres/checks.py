"""What needs PostgreSQL to be seen. Run by test_on_postgres.py, with the settings of a cluster of its own."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connections, transaction

from events import recorder
from events.access import ALL
from events.changes import ChangesLog
from events.models import DatabaseChange
from tasks.models import Project, Task
from tests.events.clients import Client, fresh_read, until
from tests.scale import scaled

pytestmark = pytest.mark.django_db(transaction=True)


def in_own_connection(work: Callable[[], Any]) -> Callable[[], Any]:
    def run() -> Any:
        try:
            return work()
        finally:
            connections.close_all()

    return run


@pytest.fixture
def project() -> Project:
    return Project.objects.create(name="one", repo_path="/one", target_branch="main")


def test_row_ids_are_in_the_order_of_commits(project: Project) -> None:
    """Two transactions are open at once; the one that began to write first commits last, if it can."""
    begun, seen = threading.Event(), []

    def first() -> None:
        with transaction.atomic():
            Task.objects.create(project=project, title="first")
            begun.set()
            # The other one cannot come between: it waits for this commit, with a later id.
            assert not second_done.wait(1)
            seen.append("first commits")

    def second() -> None:
        begun.wait(20)
        with transaction.atomic():
            Task.objects.create(project=project, title="second")
            seen.append("second has written")
        second_done.set()

    second_done = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(in_own_connection(one)) for one in (first, second)]:
            future.result(30)
    assert seen == ["first commits", "second has written"]
    rows = DatabaseChange.objects.filter(table="tasks").order_by("id")
    assert [row.value["title"] for row in rows] == ["first", "second"]


def test_a_later_id_that_commits_first_would_be_noticed(project: Project) -> None:
    """The same without the lock: what the lock is there for."""
    begun, done = threading.Event(), threading.Event()
    orders: list[list[int]] = []

    def first() -> None:
        with transaction.atomic():
            Task.objects.create(project=project, title="first")
            begun.set()
            assert done.wait(20)

    def second() -> None:
        begun.wait(20)
        Task.objects.create(project=project, title="second")
        orders.append(list(DatabaseChange.objects.filter(table="tasks").values_list("id", flat=True)))
        done.set()

    take_turn = recorder.take_turn
    recorder.take_turn = lambda connection: None
    try:
        with ThreadPoolExecutor(2) as pool:
            for future in [pool.submit(in_own_connection(one)) for one in (first, second)]:
                future.result(30)
    finally:
        recorder.take_turn = take_turn
    final = list(DatabaseChange.objects.filter(table="tasks").order_by("id").values_list("id", flat=True))
    assert orders[0] == final[1:], "a reader by id would have gone past the first"


def test_select_for_update_and_writes_do_not_wait_for_each_other(project: Project) -> None:
    tasks = [Task.objects.create(project=project, title=str(number)) for number in range(2)]
    barrier = threading.Barrier(2)

    def work(mine: Task, other: Task) -> None:
        for _ in range(scaled(20, 5)):
            barrier.wait(20)
            with transaction.atomic():
                Task.objects.select_for_update().get(pk=mine.pk)
                Task.objects.filter(pk=other.pk).update(position=1)
                mine.save()

    with ThreadPoolExecutor(2) as pool:
        pairs = (tasks, tasks[::-1])
        for future in [pool.submit(in_own_connection(lambda pair=pair: work(*pair))) for pair in pairs]:
            future.result(60)


async def test_eight_writers_at_once(project: Project) -> None:
    log = ChangesLog()
    await log.opened()
    clients = [await Client(log).connect(), await Client(log, frozenset({project.pk})).connect()]
    ids: list[Any] = []

    def write(number: int) -> None:
        for step in range(scaled(25, 8)):
            with transaction.atomic():
                task = Task.objects.create(project=project, title=f"{number}-{step}")
                ids.append(task.pk)
                Task.objects.filter(title=f"{number}-{step - 1}").update(status="done")
            if step % 5 == 0:
                task.delete()
            Task.objects.filter(project=project, title="0-1").update(position=number * 100 + step)

    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(in_own_connection(lambda n=number: write(n))) for number in range(8)]

        async def done() -> bool:
            for client in clients:
                await client.read()
            return all(future.done() for future in futures)

        await until(done, "the writers", 60)
        for future in futures:
            future.result()
    last = await DatabaseChange.objects.alatest("id")

    async def settled() -> bool:
        for client in clients:
            await client.read()
        return all(client.position >= last.pk for client in clients)

    await until(settled, "the newest change")
    for client, scope in zip(clients, (ALL, frozenset({project.pk})), strict=True):
        assert client.document == await sync_to_async(fresh_read)(scope)
        assert client.full_states == 1
    await log.closed()
