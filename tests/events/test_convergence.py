"""Whatever writers do and however clients come and go: each client holds what the database holds for it.

A state machine makes random changes by several writers, each with a database connection of its own, while
clients with different rights connect, drop and resume. After each step each connected client's document,
kept by the stock jsonpatch library, must equal a fresh read; and nothing it was sent may mention a project
that it could see neither before nor after that step.
"""

import asyncio
import functools
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import User
from django.db import connections, transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from events.access import ALL, Principal, Scope, access, narrowed
from events.changes import ChangesLog
from events.models import ChangeLog, DatabaseChange
from events.pruning import prune
from tasks.models import ExecutionProcess, Project, Task, TaskAttempt
from tests.events.clients import Client, fresh_read, until
from tests.scale import scaled

WRITERS = 3
STATUSES = st.sampled_from(["todo", "inprogress", "done"])
WORDS = st.sampled_from(["", "a", "é/~ \u2028", 'quote " \\', "x" * 300])
LABELS = st.lists(st.sampled_from(["a", "b", "c/d", "~"]), max_size=4)


class _Undone(Exception):
    pass


class Convergence(RuleBasedStateMachine):
    projects = Bundle("projects")
    tasks = Bundle("tasks")
    clients = Bundle("clients")

    def __init__(self) -> None:
        super().__init__()
        Project.objects.all().delete()
        User.objects.all().delete()
        self.loop = asyncio.new_event_loop()
        self.log = ChangesLog()
        self.loop.run_until_complete(self.log.opened())
        self.writers = [ThreadPoolExecutor(1) for _ in range(WRITERS)]
        self.users = [
            User.objects.create(username=name, is_superuser=name == "root")
            for name in ("root", "anna", "bert")
        ]
        self.open: list[Client] = []
        self.could_see: dict[Client, Scope] = {}
        self.made: set[UUID] = set()

    def teardown(self) -> None:
        for writer in self.writers:
            writer.submit(connections.close_all).result()
            writer.shutdown()
        self.loop.run_until_complete(self.log.closed())
        self.loop.close()

    # --- writers

    def by(self, writer: int, work: Callable[[], Any]) -> Any:
        return self.writers[writer].submit(work).result()

    @initialize(target=projects)
    def first_project(self) -> UUID:
        return self.make_project([1], 0)

    @rule(target=projects, members=st.sets(st.sampled_from([1, 2])), writer=st.integers(0, WRITERS - 1))
    def new_project(self, members: set[int], writer: int) -> UUID:
        return self.make_project(members, writer)

    def make_project(self, members: Any, writer: int) -> UUID:
        def work() -> UUID:
            project = Project(target_branch="main")
            project.name = project.repo_path = f"secret-{project.pk}"
            project.save()
            project.members.set([self.users[one] for one in members])
            return project.pk

        pk: UUID = self.by(writer, work)
        self.made.add(pk)
        return pk

    @rule(target=tasks, project=projects, title=WORDS, labels=LABELS, writer=st.integers(0, WRITERS - 1))
    def new_task(self, project: UUID, title: str, labels: list[str], writer: int) -> UUID | None:
        def work() -> UUID | None:
            if not Project.objects.filter(pk=project).exists():
                return None
            task = Task.objects.create(project_id=project, title=f"{title}secret-{project}", labels=labels)
            attempt = TaskAttempt.objects.create(task=task, executor="x", branch="b", target_branch="m")
            ExecutionProcess.objects.create(task_attempt=attempt, run_reason="codingagent")
            return task.pk

        return self.by(writer, work)

    @rule(project=projects, count=st.integers(1, 4), writer=st.integers(0, WRITERS - 1))
    def many_tasks(self, project: UUID, count: int, writer: int) -> None:
        def work() -> None:
            if Project.objects.filter(pk=project).exists():
                Task.objects.bulk_create(
                    [Task(project_id=project, title=f"secret-{project}", position=i) for i in range(count)],
                    batch_size=2,
                )

        self.by(writer, work)

    @rule(task=tasks, status=STATUSES, labels=LABELS, some=st.booleans(), writer=st.integers(0, WRITERS - 1))
    def save_task(self, task: UUID | None, status: str, labels: list[str], some: bool, writer: int) -> None:
        def work() -> None:
            for found in Task.objects.filter(pk=task):
                found.status, found.labels = status, labels
                found.save(update_fields=["status", "labels"] if some else None)

        self.by(writer, work)

    @rule(task=tasks, writer=st.integers(0, WRITERS - 1))
    def run(self, task: UUID | None, writer: int) -> None:
        def work() -> None:
            for found in Task.objects.filter(pk=task):
                attempt = TaskAttempt.objects.create(task=found, executor="x", branch="b", target_branch="m")
                for reason in ("setupscript", "codingagent"):
                    ExecutionProcess.objects.create(task_attempt=attempt, run_reason=reason)
                attempt.processes.update(status="completed", exit_code=0)

        self.by(writer, work)

    @rule(
        task=tasks,
        to=projects,
        how=st.sampled_from(["save", "update", "bulk"]),
        writer=st.integers(0, WRITERS - 1),
    )
    def move_task(self, task: UUID | None, to: UUID, how: str, writer: int) -> None:
        def work() -> None:
            found = Task.objects.filter(pk=task).first()
            if found is None or not Project.objects.filter(pk=to).exists():
                return
            found.project_id, found.title = to, f"secret-{to}"
            if how == "save":
                found.save()
            elif how == "update":
                Task.objects.filter(pk=task).update(project=to, title=found.title)
            else:
                Task.objects.bulk_update([found], ["title", "project"])

        self.by(writer, work)

    @rule(
        task=tasks,
        to=tasks,
        how=st.sampled_from(["save", "update", "bulk", "rest"]),
        writer=st.integers(0, WRITERS - 1),
    )
    def move_attempts(self, task: UUID | None, to: UUID | None, how: str, writer: int) -> None:
        def work() -> None:
            attempts = list(TaskAttempt.objects.filter(task=task))
            if not Task.objects.filter(pk=to).exists():
                return
            for attempt in attempts:
                attempt.task_id = to
                if how == "save":
                    attempt.save()
            if how == "update":
                TaskAttempt.objects.filter(task=task).update(task=to, branch="moved")
            elif how == "bulk":
                TaskAttempt.objects.bulk_update(attempts, ["task"])
            elif how == "rest":  # Not one of them is in that query set.
                TaskAttempt.objects.exclude(task=task).bulk_update(attempts, ["task"])

        self.by(writer, work)

    @rule(target=tasks, task=tasks, writer=st.integers(0, WRITERS - 1))
    def give_another_key(self, task: UUID | None, writer: int) -> UUID | None:
        def work() -> UUID | None:
            key = uuid4()
            with transaction.atomic():
                if not Task.objects.filter(pk=task).update(id=key):
                    return None
                TaskAttempt.objects.filter(task_id=task).update(task=key)
            return key

        return self.by(writer, work)

    @rule(project=projects, status=STATUSES, writer=st.integers(0, WRITERS - 1))
    def update_all(self, project: UUID, status: str, writer: int) -> None:
        self.by(writer, lambda: Task.objects.filter(project_id=project).update(status=status))

    @rule(task=tasks, writer=st.integers(0, WRITERS - 1))
    def delete_task(self, task: UUID | None, writer: int) -> None:
        self.by(writer, lambda: Task.objects.filter(pk=task).delete())

    @rule(project=projects, writer=st.integers(0, WRITERS - 1))
    def delete_project(self, project: UUID, writer: int) -> None:
        self.by(writer, lambda: [found.delete() for found in Project.objects.filter(pk=project)])

    @rule(project=projects, user=st.sampled_from([1, 2]), writer=st.integers(0, WRITERS - 1))
    def change_membership(self, project: UUID, user: int, writer: int) -> None:
        def work() -> None:
            for found in Project.objects.filter(pk=project):
                one = self.users[user]
                if found.members.filter(pk=one.pk).exists():
                    found.members.remove(one)
                else:
                    one.projects.add(found)

        self.by(writer, work)

    @rule(project=projects, status=STATUSES, keep=st.booleans(), writer=st.integers(0, WRITERS - 1))
    def undo(self, project: UUID, status: str, keep: bool, writer: int) -> None:
        """A savepoint that is rolled back, in a transaction that commits or not."""

        def work() -> None:
            tasks = Task.objects.filter(project_id=project)
            try:
                with transaction.atomic():
                    tasks.update(status=status)
                    try:
                        with transaction.atomic():
                            tasks.delete()
                            raise _Undone
                    except _Undone:
                        tasks.update(position=1)
                    if not keep:
                        raise _Undone
            except _Undone:
                pass

        self.by(writer, work)

    @rule(count=st.integers(0, 20))
    def prune_to(self, count: int) -> None:
        ids = list(DatabaseChange.objects.order_by("-id").values_list("id", flat=True)[: count + 1])
        if ids:
            rows = DatabaseChange.objects.filter(id__lt=ids[-1])
            with transaction.atomic():
                ChangeLog.objects.update(pruned_to=ids[-1] - 1)
                rows.delete()

    @rule()
    def prune_everything(self) -> None:
        prune(days=0)

    # --- clients

    @rule(target=clients, user=st.integers(0, 2))
    def connect(self, user: int) -> Client:
        return self.come(Client(self.log, ALL, Principal(self.users[user].pk, "session")))

    @rule(target=clients, user=st.integers(0, 2), project=projects)
    def connect_narrowed(self, user: int, project: UUID) -> Client:
        return self.come(Client(self.log, ALL, Principal(self.users[user].pk, "session"), project))

    @rule(client=clients)
    def drop(self, client: Client) -> None:
        if client in self.open:
            self.open.remove(client)

    @rule(client=clients)
    def resume(self, client: Client) -> None:
        if client not in self.open:
            self.come(client)

    @rule(client=clients)
    def start_anew(self, client: Client) -> None:
        client.cursor = None
        self.drop(client)
        self.come(client)

    def come(self, client: Client) -> Client:
        scope = self.scope_of(client)
        if scope is not None:  # Else the view answers with 404.
            client.sees(scope)
            self.could_see[client] = scope
            client.seen.clear()
            self.loop.run_until_complete(client.connect())
            self.open.append(client)
        return client

    def scope_of(self, client: Client) -> Scope | None:
        return narrowed(access().scope(client.fresh.principal), client.fresh.narrow)

    # --- what must hold

    @invariant()
    def each_client_holds_what_the_database_holds(self) -> None:
        last = DatabaseChange.objects.order_by("id").values_list("id", flat=True).last() or 0
        held = functools.cache(fresh_read)
        for client in list(self.open):
            self.loop.run_until_complete(self.settle(client, last))
            scope = self.scope_of(client) or frozenset()
            assert client.document == held(scope)
            self.nothing_else_was_told(client, scope)
            self.could_see[client] = scope
            client.seen.clear()
            if client.finished:
                self.open.remove(client)

    async def settle(self, client: Client, last: int) -> None:
        async def has_it() -> bool:
            await client.read()
            return client.finished or client.position - self.log._offset >= last

        await until(has_it, "the newest change")

    def nothing_else_was_told(self, client: Client, scope: Scope) -> None:
        told = json.dumps(client.seen)
        for project in self.made:
            if project not in scope and project not in self.could_see[client]:
                assert str(project) not in told


@pytest.mark.django_db(transaction=True)
def test_every_client_converges() -> None:
    run_state_machine_as_test(
        Convergence,
        settings=settings(
            max_examples=scaled(200, 6),
            stateful_step_count=scaled(50, 30),
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )
