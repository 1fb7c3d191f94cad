"""What needs PostgreSQL to be seen. Run by test_on_postgres.py, with the settings of a cluster of its own."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import SyncToAsync, sync_to_async
from django.contrib.auth.models import User
from django.db import DatabaseError, connection, connections, transaction

from events import recorder
from events.access import ALL
from events.changes import ChangesLog
from events.models import DatabaseChange
from tasks.models import Project, Task, TaskAttempt
from tests.events.clients import Client, fresh_read, until
from tests.repositories import make_repository
from tests.scale import scaled

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="module", autouse=True)
def no_connection_is_left(django_db_setup: None) -> Iterator[None]:
    """Or the database cannot be dropped at the end: it would be waited for."""
    yield
    SyncToAsync.single_thread_executor.submit(connections.close_all).result()


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


def test_a_locking_iterator_takes_its_turn_too(project: Project) -> None:
    with transaction.atomic():
        assert list(Project.objects.select_for_update().iterator()) == [project]
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
            assert cursor.fetchone() == (1,)


def test_update_tells_what_it_did_though_others_change_what_it_asks_for(project: Project) -> None:
    """What is not public takes no turn, so it may change between what an update reads and what it does."""
    task = Task.objects.create(project=project, title="x")
    leaves, comes, stays = (
        TaskAttempt.objects.create(task=task, executor="x", branch="b", target_branch="m", session_id=session)
        for session in ("asked for", "", "asked for")
    )

    def meanwhile() -> None:
        TaskAttempt.objects.filter(pk=leaves.pk).update(session_id="")
        TaskAttempt.objects.filter(pk=comes.pk).update(session_id="asked for")

    def before_the_update(execute: Any, sql: str, *arguments: Any) -> Any:
        if sql.startswith("UPDATE"):
            pool.submit(in_own_connection(meanwhile)).result(20)
        return execute(sql, *arguments)

    with ThreadPoolExecutor(1) as pool, connection.execute_wrapper(before_the_update):
        assert TaskAttempt.objects.filter(session_id="asked for").update(executor="y") == 1
    told = DatabaseChange.objects.filter(path="/executor").values_list("object_id", flat=True)
    assert list(told) == [str(stays.pk)]
    assert TaskAttempt.objects.get(executor="y") == stays


def test_members_that_come_before_the_turn_are_told_to_have_gone(project: Project) -> None:
    """Which projects a delete touches is asked in its turn: until then, others may add the member to one more."""
    anna = User.objects.create_user("anna")
    project.members.add(anna)
    other = Project.objects.create(name="two", repo_path="/two", target_branch="main")
    added: list[Any] = []

    def before_the_turn(execute: Any, sql: str, *arguments: Any) -> Any:
        if "advisory" in sql and not added:
            added.append(other.members.add)
            pool.submit(in_own_connection(lambda: other.members.add(anna))).result(20)
        return execute(sql, *arguments)

    with ThreadPoolExecutor(1) as pool, connection.execute_wrapper(before_the_turn):
        anna.projects.clear()
    assert not other.members.exists()
    told = DatabaseChange.objects.filter(object_id=other.pk, path="/members").order_by("id")
    assert [row.value for row in told] == [[anna.pk], []]


def test_who_saves_a_repository_second_in_the_admin_is_told_so(admin_client: Any, tmp_path: Path) -> None:
    repository = str(make_repository(tmp_path / "shared"))
    form = {"name": "Second", "repo_path": repository, "target_branch": "main"}
    form |= {"tasks-TOTAL_FORMS": "0", "tasks-INITIAL_FORMS": "0"}
    check = """ FROM "tasks_project" WHERE "tasks_project"."repo_path" = %s LIMIT 1"""
    made = []

    def meanwhile() -> Project:
        return Project.objects.create(name="First", repo_path=repository, target_branch="main")

    def after_the_check(execute: Any, sql: str, *arguments: Any) -> Any:
        answer = execute(sql, *arguments)
        if not made and sql.endswith(check):
            made.append(pool.submit(in_own_connection(meanwhile)).result(20))
        return answer

    with ThreadPoolExecutor(1) as pool, connection.execute_wrapper(after_the_check):
        page = admin_client.post("/admin/tasks/project/add/", form)
    assert made == list(Project.objects.all())
    assert "There is a project on this repository already." in page.content.decode()


def test_a_thread_whose_connection_was_cut_before_a_write_writes_again(project: Project) -> None:
    def cut(backend: int) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s)", [backend])

    def work() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            (backend,) = cursor.fetchone()
        with ThreadPoolExecutor(1) as another:
            another.submit(in_own_connection(lambda: cut(backend))).result(20)
        with pytest.raises(DatabaseError):
            Task.objects.create(project=project, title="too late")
        connection.close()
        Task.objects.create(project=project, title="after the cut")

    with ThreadPoolExecutor(1) as pool:
        pool.submit(in_own_connection(work)).result(20)
    assert [task.title for task in Task.objects.all()] == ["after the cut"]


@pytest.fixture
def connects_again(project: Project) -> Iterator[None]:
    yield
    connection.close()  # The one of this thread was cut too.


@pytest.mark.usefixtures("connects_again")
async def test_streams_go_on_after_their_connections_were_cut(project: Project) -> None:
    log = ChangesLog()
    await log.opened()
    client = await Client(log).connect()

    def cut() -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        Task.objects.create(project=project, title="after the cut")

    await sync_to_async(cut)()

    async def told() -> bool:
        await client.read()
        return len(client.document["tasks"]) == 1

    await until(told, "what came after the cut")
    with pytest.raises(DatabaseError):
        await client.connect()
    await client.connect()
    assert client.full_states == 1
    await log.closed()


async def test_eight_writers_at_once(project: Project) -> None:
    log = ChangesLog()
    await log.opened()
    clients = [await Client(log).connect(), await Client(log, frozenset({project.pk})).connect()]
    ids: list[Any] = []

    def write(number: int) -> None:
        for step in range(scaled(25, 5)):
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
