"""Every way to write a record becomes rows in the same transaction, and the rows say what the database holds.

Each test changes records in one way and checks that the documents of three clients (one of everything, one of
each project), kept by applying the rows since before, equal a fresh read.
"""

import contextlib
import io
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jsonpatch
import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.apps import apps
from django.contrib.auth.models import User
from django.core import serializers
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import DatabaseError, IntegrityError, connection, connections, models, transaction
from django.db.models import Count, F, Value
from django.db.models.functions import Concat, Upper
from django.test import Client as Browser
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from events import deletes, tracking
from events.access import ALL
from events.capture import TrackedManager, TrackedModel, actor, serialize, track
from events.frames import ROW, Change
from events.models import ChangeLog, DatabaseChange
from tasks.models import ExecutionProcess, Project, Task, TaskAttempt
from tests.events.clients import fresh_read

pytestmark = pytest.mark.django_db(transaction=True)
Written = Callable[[], list[DatabaseChange]]


@pytest.fixture
def written(project: Project, other_project: Project) -> Iterator[Written]:
    """The rows since the test began. Each call, and its end, compares the three documents with the database."""
    scopes = [ALL, frozenset({project.pk}), frozenset({other_project.pk})]
    documents = {scope: fresh_read(scope) for scope in scopes}
    start, epoch = DatabaseChange.objects.latest("id").pk, ChangeLog.current().epoch
    applied = 0

    def read() -> list[DatabaseChange]:
        nonlocal applied
        rows = DatabaseChange.objects.filter(id__gt=start).order_by("id")
        values = list(rows.values_list(*ROW))
        for scope in scopes:
            for row in values[applied:]:
                data = Change("epoch", row).data(scope)
                if data:
                    documents[scope] = jsonpatch.apply_patch(documents[scope], [json.loads(data)])
            assert documents[scope] == fresh_read(scope)
        applied = len(values)
        return list(rows)

    yield read
    if ChangeLog.current().epoch == epoch:  # Else everybody starts over.
        read()


def described(rows: list[DatabaseChange]) -> list[tuple[str, str]]:
    return [(row.operation, row.path) for row in rows]


def kinds(queries: CaptureQueriesContext) -> list[str]:
    """The first words of the statements, but for those of transactions and their turns."""
    sqls = [query["sql"].split("times: ")[-1] for query in queries if "advisory" not in query["sql"]]
    return [sql.split()[0] for sql in sqls if sql.split()[0] not in ("BEGIN", "COMMIT")]


# --- save


def test_new_record(written: Written, project: Project) -> None:
    task = Task.objects.create(project=project, title="x", labels=["a"])
    (row,) = written()
    assert (row.operation, row.table, row.object_id) == ("add", "tasks", str(task.pk))
    assert row.value == serialize(task) == serialize(Task.objects.get())


def test_values_of_odd_types_are_told_as_the_database_holds_them(
    written: Written, project: Project, other_project: Project
) -> None:
    Task(project_id=str(project.pk), title=7, position=3, status=Task.Status.DONE, labels=("a", "b")).save()
    task = Task.objects.get()
    task.position, task.title = "2.5", 9
    task.project_id = other_project
    task.created_at = timezone.make_aware(
        task.created_at.replace(tzinfo=None), timezone.get_fixed_timezone(90)
    )
    task.save()
    assert written()[0].value["title"] == "7"
    Task.objects.bulk_update([Task(pk=str(task.pk), title="by its key as text")], ["title"])


def test_only_what_changed_is_told(written: Written, task: Task) -> None:
    before = len(written())
    task.title = "other"
    task.save()
    assert sorted(described(written()[before:])) == [("replace", "/title"), ("replace", "/updated_at")]
    task.save(update_fields=["title"])
    assert len(written()) == before + 2


def test_a_write_is_told_in_the_order_of_the_public_fields(written: Written, task: Task) -> None:
    """Who has seen its `updated_at` has seen all of it."""
    paths = ["/title", "/status", "/position", "/updated_at"]

    def write(number: int) -> dict[str, Any]:
        status = [Task.Status.DONE, Task.Status.CANCELLED][number % 2]
        return {"position": number, "status": status, "title": str(number), "updated_at": timezone.now()}

    def changed(values: dict[str, Any]) -> Task:
        vars(task).update(values)
        return task

    ways: list[Callable[[dict[str, Any]], object]] = [
        lambda values: changed(values).save(),
        lambda values: changed(values).save(update_fields=list(values)),
        lambda values: Task.objects.filter(pk=task.pk).update(**values),
        lambda values: Task.objects.bulk_update([Task(pk=task.pk, **values)], list(values)),
        lambda values: Task.objects.update_or_create(pk=task.pk, defaults=values),
    ]
    for number, way in enumerate(ways, 1):
        before = len(written())
        way(write(number))
        assert [row.path for row in written()[before:]] == paths, number


def test_values_that_are_nothing_are_told_too(written: Written, project: Project) -> None:
    task = Task.objects.create(project=project, title="x", description="x", position=1, labels=["x"])
    task.description, task.position, task.labels = "", 0, []
    task.save(update_fields=["description", "position", "labels"])
    changed = {row.path: (row.old, row.value) for row in written()[1:]}
    assert changed == {"/description": ("x", ""), "/position": (1.0, 0.0), "/labels": (["x"], [])}


def test_old_value_is_kept_for_people(written: Written, task: Task) -> None:
    Task.objects.update(status="done")
    assert (written()[-1].old, written()[-1].value) == ("todo", "done")


def test_stale_instance_that_writes_back_is_told_as_what_it_does(written: Written, task: Task) -> None:
    stale = Task.objects.get()
    Task.objects.update(title="newer", status="done")
    stale.status = "inreview"
    stale.save()
    assert Task.objects.get().title == "first"
    assert ("replace", "/title") in described(written()[-3:])


def test_refreshed_instance(written: Written, task: Task) -> None:
    Task.objects.update(title="newer")
    task.refresh_from_db()
    task.status = "done"
    task.save()
    assert sorted(described(written()[-2:])) == [("replace", "/status"), ("replace", "/updated_at")]


def test_expressions_are_told_by_their_outcome(written: Written, task: Task) -> None:
    task.position = F("position") + 1
    task.title = Upper("title")
    task.save(update_fields=["position", "title"])
    assert {row.path: row.value for row in written()[-2:]} == {"/position": 1.0, "/title": "FIRST"}
    Task.objects.create(project_id=task.project_id, title=Concat(Value("a"), Value("b")))
    assert written()[-1].value["title"] == "ab"


def test_deferred_fields(written: Written, task: Task) -> None:
    part = Task.objects.only("title").get()
    part.title = "x"
    part.save()
    part = Task.objects.defer("title").get()
    part.status = "done"
    part.save()


def test_forced_saves(written: Written, task: Task) -> None:
    again = Task(pk=task.pk, project_id=task.project_id, title="forced", created_at=task.created_at)
    again.save(force_update=True)
    with pytest.raises(IntegrityError), transaction.atomic():
        Task(pk=task.pk, project_id=task.project_id, title="twice").save(force_insert=True)


def test_fields_that_are_not_public_cost_nothing(written: Written, task: Task) -> None:
    attempt = TaskAttempt.objects.create(task=task, executor="x", branch="b", target_branch="main")
    count = len(written())
    attempt.session_id = "secret"
    with CaptureQueriesContext(connection) as queries:
        attempt.save(update_fields=["session_id"])
        TaskAttempt.objects.update(session_id="other")
    assert kinds(queries) == ["UPDATE", "UPDATE"]
    assert len(written()) == count


def test_move_to_another_project(written: Written, task: Task, other_project: Project) -> None:
    attempt = TaskAttempt.objects.create(task=task, executor="x", branch="b", target_branch="main")
    ExecutionProcess.objects.create(task_attempt=attempt, run_reason="codingagent")
    task.project, task.title = other_project, "moved"
    task.save()
    Task.objects.update(project=task.project_id)
    attempt.task = elsewhere = Task.objects.create(project=Project.objects.get(name="one"), title="elsewhere")
    attempt.save()
    TaskAttempt.objects.update(task=task)
    written()
    attempt.task = elsewhere
    TaskAttempt.objects.bulk_update([attempt], ["task"])


# --- query sets


def test_update(written: Written, project: Project, other_project: Project) -> None:
    for number in range(5):
        Task.objects.create(project=project, title=str(number))
    Task.objects.filter(title__lt="3").update(project=other_project, title=Concat("title", Value("!")))
    Task.objects.filter(project__name="two").update(position=F("position") + 1, status="done")
    Task.objects.order_by("title")[:2].values("pk")
    assert Task.objects.filter(title="nobody").update(title="x") == 0
    project.tasks.all().exclude(status="done").update(labels=["late"])


def test_update_of_the_primary_key(written: Written, task: Task) -> None:
    Task.objects.filter(pk=task.pk).update(id="00000000-0000-4000-8000-000000000001")
    removed, added = written()[-2:]
    assert described([removed, added]) == [("remove", ""), ("add", "")]
    assert removed.old["title"] == added.value["title"] == "first"


def test_bulk_create_costs_one_statement_more_a_batch(written: Written, project: Project) -> None:
    tasks = [Task(project=project, title=str(number)) for number in range(10)]
    with CaptureQueriesContext(connection) as queries:
        Task.objects.bulk_create(tasks, batch_size=5)
    assert kinds(queries) == ["INSERT", "INSERT", "INSERT", "INSERT"]


def test_bulk_create_with_conflicts(written: Written, project: Project, other_project: Project) -> None:
    keep = Task.objects.create(project=project, title="keep")
    new = Task(project=other_project, title="new")
    Task.objects.bulk_create([Task(pk=keep.pk, project=project, title="ignored"), new], ignore_conflicts=True)
    assert written()[-1].object_id == str(new.pk)
    Task.objects.bulk_create(
        [Task(pk=keep.pk, project=other_project, title="changed"), Task(project=project, title="newer")],
        update_conflicts=True,
        update_fields=["title", "project"],
        unique_fields=["pk"],
    )
    Project.objects.bulk_create(
        [Project(name="other name", repo_path="/one", target_branch="main")],
        update_conflicts=True,
        update_fields=["name"],
        unique_fields=["repo_path"],
    )
    assert Project.objects.get(repo_path="/one").name == "other name"
    Project.objects.bulk_create(
        [Project(name="?", repo_path="/two", target_branch="x")], ignore_conflicts=True
    )


def test_bulk_update_costs_one_insert_and_one_read_more(written: Written, project: Project) -> None:
    tasks = Task.objects.bulk_create([Task(project=project, title=str(number)) for number in range(10)])
    for task in tasks:
        task.title += "!"
    with CaptureQueriesContext(connection) as queries:
        assert Task.objects.bulk_update(tasks, ["title"], batch_size=5) == 10
    assert kinds(queries) == ["SELECT", "UPDATE", "UPDATE", "INSERT"]
    written()
    twin = Task(pk=tasks[2].pk, title="which of the two goes in is Django's business")
    Task.objects.bulk_update([tasks[2], twin], ["title"])
    tasks[0].title = Upper(Value("expression"))
    tasks[1].project = Project.objects.get(name="two")
    Task.objects.bulk_update([*tasks, tasks[2], Task(project=project)], ["title", "project"])


def test_more_records_than_one_query_may_ask_for(
    written: Written, project: Project, other_project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "_ROWS_A_QUERY", 2)
    tasks = Task.objects.bulk_create([Task(project=project, title=str(number)) for number in range(5)])
    for task in tasks:
        TaskAttempt.objects.create(task=task, executor="x", branch=task.title, target_branch="main")
        task.project = other_project
    assert Task.objects.bulk_update(tasks, ["project"]) == 5


def test_bulk_update_leaves_out_what_is_not_in_the_query_set(
    written: Written, project: Project, other_project: Project, task: Task
) -> None:
    elsewhere = Task.objects.create(project=other_project, title="elsewhere")
    task.title = elsewhere.title = "changed"
    assert project.tasks.bulk_update([task, elsewhere], ["title"]) == 1
    assert (written()[-1].object_id, written()[-1].value) == (str(task.pk), "changed")


def test_bulk_moves_cost_the_same_whatever_their_number(
    written: Written, project: Project, other_project: Project
) -> None:
    Task.objects.bulk_create([Task(project=project, title=str(number)) for number in range(20)])
    with CaptureQueriesContext(connection) as queries:
        assert Task.objects.update(project=other_project) == 20
    assert kinds(queries) == ["SELECT", "UPDATE", *["SELECT"] * 5, "INSERT"]


def test_update_by_other_tables_and_in_odd_ways(written: Written, task: Task, other_project: Project) -> None:
    for branch in "bc":
        TaskAttempt.objects.create(task=task, executor="x", branch=branch, target_branch="main")
    task_by_attempts = Task.objects.filter(attempts__executor="x")
    assert task_by_attempts.update(title="by a join") == 1
    assert Task.objects.annotate(n=Count("attempts")).filter(n=2).update(title="by a count") == 1
    assert Task.objects.filter(pk__in=task_by_attempts).update(title="by a subquery") == 1
    assert task_by_attempts.distinct().update(title="distinct") == 1
    assert Task.objects.filter(title="distinct").update(title="by what it changes") == 1
    assert Task.objects.values("title").update(title="values") == 1
    assert Task.objects.only("title").select_related("project").reverse().update(title="in an order") == 1
    assert (Task.objects.filter(status="todo") | Task.objects.filter(title="x")).update(
        title="one or other"
    ) == 1
    with transaction.atomic():
        assert task_by_attempts.select_for_update().update(title="locked") == 1
        assert Task.objects.distinct().select_for_update().update(title="locked, each once") == 1
    assert Task.objects.filter(pk=task.pk, status="done").update(title="claimed by another") == 0
    assert Task.objects.filter(pk=task.pk, attempts__branch="b").update(title="claimed") == 1
    assert (
        Task.objects.filter(attempts__pk=TaskAttempt.objects.latest("created_at").pk).update(position=5) == 1
    )
    assert Task.objects.exclude(pk=task.pk).update(position=6) == 0
    another = Task.objects.create(project=other_project, title="another")
    nobody, one, other = (Task.objects.filter(pk=pk) for pk in (other_project.pk, another.pk, task.pk))
    assert (nobody | one | other).update(position=7) == 2
    other_project.tasks.add(task)
    changed = [row.value for row in written() if row.path == "/title"]
    assert changed[0] == "by a join" and changed[-1] == "claimed" and len(changed) == 11


def test_get_or_create_of_several_at_once(written: Written) -> None:
    together = threading.Barrier(4)

    def make(number: int) -> bool:
        try:
            together.wait(20)
            defaults = {"name": str(number), "target_branch": "main"}
            return Project.objects.get_or_create(repo_path="/race", defaults=defaults)[1]
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(make, range(4))) == [False, False, False, True]
    assert described(written()) == [("add", "")]


def test_proxies(written: Written, task: Task) -> None:
    class Card(Task):
        class Meta:
            proxy = True
            app_label = "tasks"

    try:
        deletes.watch(tracking.registry[Task])  # As at the start, when all models are known.
        card = Card.objects.get()
        card.title = "by a proxy"
        card.save()
        Card.objects.create(project=task.project, title="another")
        assert described(written())[1:] == [("replace", "/title"), ("replace", "/updated_at"), ("add", "")]
        Card.objects.update(status="done")
        written()
        Card.objects.get(title="another").delete()
        Card.objects.all().delete()
    finally:
        del apps.all_models["tasks"]["card"]
        apps.clear_cache()
    assert [row.operation for row in written()[-2:]] == ["remove", "remove"]


def test_get_or_create_and_update_or_create(written: Written, project: Project) -> None:
    _, made = Task.objects.get_or_create(project=project, title="x", defaults={"status": "done"})
    assert made and not Task.objects.get_or_create(project=project, title="x")[1]
    Task.objects.update_or_create(project=project, title="x", defaults={"status": "todo"})
    project.tasks.update_or_create(title="y", defaults={"position": 2})
    project.tasks.create(title="z")
    project.tasks.add(Task(project=project, title="w"), bulk=False)


def test_async_variants(written: Written, project: Project, other_project: Project) -> None:
    told = sync_to_async(written)

    async def write() -> None:
        task = await Task.objects.acreate(project=project, title="x")
        task.title = "y"
        await task.asave()
        await told()
        await Task.objects.abulk_create([Task(project=project, title="b")])
        await Task.objects.filter(title="b").aupdate(project=other_project)
        await Task.objects.aupdate_or_create(title="c", project=project, defaults={"status": "done"})
        await Task.objects.abulk_update([task], ["title"])
        await Task.objects.aget_or_create(title="d", project=project)
        await task.adelete()
        await Task.objects.filter(title="b").adelete()
        anna, bert = [await User.objects.acreate(username=name) for name in ("anna", "bert")]
        await project.members.aadd(anna)
        await told()
        await project.members.aset([bert])
        await told()
        await bert.projects.aadd(other_project)
        await told()
        await bert.projects.aclear()

    async_to_sync(write)()


# --- deletes


def test_cascade_removes_the_innermost_first(written: Written, task: Task, project: Project) -> None:
    attempt = TaskAttempt.objects.create(task=task, executor="x", branch="b", target_branch="main")
    ExecutionProcess.objects.create(task_attempt=attempt, run_reason="codingagent")
    with CaptureQueriesContext(connection) as queries:
        project.delete()
    assert [row.table for row in written()[-4:]] == [
        "execution_processes",
        "task_attempts",
        "tasks",
        "projects",
    ]
    assert kinds(queries).count("INSERT") == 1


def test_delete_by_a_stale_instance(written: Written, task: Task, other_project: Project) -> None:
    Task.objects.update(project=other_project)
    task.delete()
    assert written()[-1].scope_before == str(other_project.pk)


def test_deletes_of_query_sets(written: Written, project: Project) -> None:
    for number in range(4):
        Task.objects.create(project=project, title=str(number))
    Task.objects.filter(title="0").delete()
    Task.objects.filter(title="1")._raw_delete(using="default")
    project.tasks.filter(title="2").delete()
    Project.objects.all().delete()


def test_delete_that_fails_leaves_nothing(written: Written, task: Task) -> None:
    def refuse(**_: Any) -> None:
        raise RuntimeError("no")

    models.signals.post_delete.connect(refuse, sender=Task)
    try:
        with pytest.raises(RuntimeError):
            task.delete()
    finally:
        models.signals.post_delete.disconnect(refuse, sender=Task)
    assert written()[-1].operation == "add"


def test_set_null_of_a_public_field(task: Task) -> None:
    """`started_by` is not public, so a tracked model of the test's own stands in."""

    class Note(TrackedModel):
        id = models.UUIDField(primary_key=True, default=Task._meta.pk.default)
        project = models.ForeignKey(Project, models.CASCADE, related_name="+")
        about = models.ForeignKey(Task, models.SET_NULL, null=True, related_name="+")

        class Meta(TrackedModel.Meta):
            app_label = "tasks"

    with connection.schema_editor() as editor:
        editor.create_model(Note)
    try:
        track(Note, name="notes", fields=("id", "project_id", "about_id"), scope="project_id")
        note = Note.objects.create(project_id=task.project_id, about=task)
        task.delete()
        rows = DatabaseChange.objects.filter(table="notes", object_id=note.pk)
        assert described(list(rows)) == [("add", ""), ("replace", "/about_id")]
    finally:
        _forget(Note)


def _forget(model: type[models.Model]) -> None:
    with connection.schema_editor() as editor:
        editor.delete_model(model)
    tracking.registry.pop(model, None)
    del apps.all_models["tasks"][model._meta.model_name or ""]
    apps.clear_cache()


# --- members


def members_told(rows: list[DatabaseChange]) -> dict[Project, Any]:
    return {Project.objects.get(pk=row.object_id): row.value for row in rows}


def test_members(written: Written, project: Project, other_project: Project) -> None:
    anna, bert = User.objects.create(username="anna"), User.objects.create(username="bert")
    count = len(written())
    project.members.add(anna, bert)
    assert described(written()[count:]) == [("replace", "/members")]
    assert written()[-1].value == [anna.pk, bert.pk]
    project.members.add(anna)
    assert len(written()) == count + 1
    anna.projects.add(other_project)
    written()
    anna.projects.remove(project)
    written()
    project.members.set([anna])
    written()
    bert.projects.set([project])
    count = len(written())
    Project.members.through.objects.filter(user=bert).update(project=str(other_project.pk))
    assert members_told(written()[count:]) == {project: [anna.pk], other_project: [anna.pk, bert.pk]}
    Project.members.through.objects.create(user=bert, project=project)
    written()
    other_project.members.clear()
    project.members.remove(bert)
    written()
    project.members.add(bert)
    written()
    bert.delete()
    assert written()[-1].value == [anna.pk]
    User.objects.all().delete()
    assert written()[-1].value == []


def test_single_rows_of_the_table_of_members(
    written: Written, project: Project, other_project: Project
) -> None:
    anna, bert = User.objects.create(username="anna"), User.objects.create(username="bert")
    project.members.add(anna)
    row = Project.members.through.objects.get()
    row.user = bert
    row.save()
    assert written()[-1].value == [bert.pk]
    count = len(written())
    row.project = other_project
    row.save()
    assert members_told(written()[count:]) == {project: [], other_project: [bert.pk]}
    row.delete()
    assert written()[-1].value == []


def test_project_that_goes_says_nothing_of_its_members(written: Written, project: Project) -> None:
    project.members.add(User.objects.create(username="anna"))
    count = len(written())
    project.delete()
    assert described(written()[count:]) == [("remove", "")]


# --- records before what they hang on


def test_what_nobody_can_place_starts_everybody_over(
    task: Task, other_project: Project, tmp_path: Path
) -> None:
    """Foreign keys are checked at the commit; until then, a record may hang on one that is not there."""
    attempt = TaskAttempt.objects.create(task=task, executor="x", branch="b", target_branch="main")
    run = ExecutionProcess.objects.create(task_attempt=attempt, run_reason="codingagent")
    fixture = tmp_path / "fixture.json"
    fixture.write_text(serializers.serialize("json", [run, attempt, task]))

    def changes_epoch(work: Callable[[], object]) -> bool:
        before = ChangeLog.current().epoch
        with transaction.atomic():
            work()
        return ChangeLog.current().epoch != before

    def give_it_another_key() -> None:
        key = "00000000-0000-4000-8000-000000000001"
        Task.objects.filter(pk=task.pk).update(id=key)
        assert TaskAttempt.objects.update(task=key) == 1

    def hang_it_on_a_later_task() -> None:
        later = Task(project=other_project, title="later")
        attempt.task_id = later.pk
        attempt.save()
        later.save()

    def take_away_what_it_hangs_on() -> None:
        Task.objects.filter(pk=task.pk)._raw_delete(using="default")
        TaskAttempt.objects.all().delete()

    assert not changes_epoch(lambda: attempt.save())
    assert changes_epoch(hang_it_on_a_later_task)
    Task.objects.all().delete()
    assert changes_epoch(lambda: call_command("loaddata", str(fixture), verbosity=0))
    assert changes_epoch(give_it_another_key)
    task.pk = "00000000-0000-4000-8000-000000000001"
    assert changes_epoch(take_away_what_it_hangs_on)


def test_migrations_start_everybody_over(task: Task) -> None:
    """Their models are of another make, and write past these query sets."""
    before = ChangeLog.current().epoch
    call_command("migrate", verbosity=0)
    assert ChangeLog.current().epoch == before
    call_command("migrate", "sessions", "zero", verbosity=0)
    call_command("migrate", "sessions", verbosity=0)
    assert ChangeLog.current().epoch != before


def test_the_log_itself_can_be_migrated_away_and_back() -> None:
    before = ChangeLog.current().epoch
    try:
        call_command("migrate", "events", "zero", verbosity=0)
        assert ChangeLog._meta.db_table not in connection.introspection.table_names()
    finally:
        call_command("migrate", "events", verbosity=0)
    assert ChangeLog.objects.get().epoch != before


# --- transactions


def test_rollback_leaves_no_row(written: Written, project: Project) -> None:
    with contextlib.suppress(RuntimeError), transaction.atomic():
        Task.objects.create(project=project, title="x")
        raise RuntimeError
    assert written() == []


def test_savepoint_rolled_back_in_a_transaction_that_commits(written: Written, task: Task) -> None:
    with transaction.atomic():
        Task.objects.update(title="kept")
        with contextlib.suppress(RuntimeError), transaction.atomic():
            Task.objects.update(title="lost")
            Task.objects.create(project_id=task.project_id, title="lost too")
            raise RuntimeError
        Task.objects.update(status="done")
    assert [row.value for row in written()[-2:]] == ["kept", "done"]


def test_change_whose_rows_cannot_be_written_is_not_made(task: Task) -> None:
    """Also where somebody catches the error inside a transaction, and commits."""
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE events_databasechange RENAME TO elsewhere")
    try:
        with pytest.raises(DatabaseError), transaction.atomic():
            with contextlib.suppress(DatabaseError):
                Task.objects.update(title="unseen")
            Task.objects.count()
        with pytest.raises(DatabaseError):
            task.delete()
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE elsewhere RENAME TO events_databasechange")
    assert Task.objects.get().title == "first"


def test_error_before_any_write_does_not_spoil_the_transaction(task: Task) -> None:
    with transaction.atomic():
        with pytest.raises(Exception, match="nonsense"):
            Task.objects.update(title="x", nonsense=1)
        assert Task.objects.get().title == "first"


# --- other doors


def test_fixtures(written: Written, task: Task, tmp_path: Path) -> None:
    TaskAttempt.objects.create(task=task, executor="x", branch="b", target_branch="main")
    fixture = tmp_path / "fixture.json"
    fixture.write_text(
        serializers.serialize("json", [*Project.objects.all(), task, *TaskAttempt.objects.all()])
    )
    Task.objects.update(title="changed since")
    TaskAttempt.objects.all().delete()
    call_command("loaddata", str(fixture), verbosity=0)
    assert Task.objects.get().title == "first"


def test_admin(written: Written, project: Project, task: Task) -> None:
    boss = User.objects.create_superuser("boss")
    browser = Browser()
    browser.force_login(boss)
    form = {
        "name": "renamed",
        "repo_path": "/one",
        "target_branch": "main",
        "members": [boss.pk],
        "tasks-TOTAL_FORMS": 2,
        "tasks-INITIAL_FORMS": 1,
        "tasks-0-id": str(task.pk),
        "tasks-0-project": str(project.pk),
        "tasks-0-title": "by inline form",
        "tasks-0-status": "done",
        "tasks-0-position": "1",
        "tasks-1-project": str(project.pk),
        "tasks-1-title": "new by inline form",
        "tasks-1-status": "todo",
        "tasks-1-position": "2",
    }
    answer = browser.post(f"/admin/tasks/project/{project.pk}/change/", form)
    assert answer.status_code == 302, answer.content
    assert set(Task.objects.values_list("title", flat=True)) == {"by inline form", "new by inline form"}
    written()
    chosen = {"action": "delete_selected", "_selected_action": [str(task.pk)], "post": "yes"}
    assert browser.post("/admin/tasks/task/", chosen).status_code == 302
    assert written()[-1].operation == "remove"
    assert {(row.actor_kind, row.actor_label) for row in written()[1:]} == {("admin", "boss")}


def test_actor(written: Written, task: Task) -> None:
    anna = User.objects.create(username="anna")
    with actor("runner", user=anna):
        Task.objects.update(title="x")
    with actor("command", label="tidy"):
        Task.objects.update(title="y")
    assert [(row.actor_kind, row.actor_label) for row in written()[-2:]] == [
        ("runner", "anna"),
        ("command", "tidy"),
    ]


def _model(**members: Any) -> type[TrackedModel]:
    key = models.UUIDField(primary_key=True, default=Task._meta.pk.default)
    project = models.ForeignKey(Project, models.CASCADE, related_name="+")
    meta = type("Meta", (TrackedModel.Meta,), {"app_label": "tasks", "abstract": False})
    attributes = {"__module__": __name__, "Meta": meta, "id": key, "project": project, **members}
    return type("Odd", (TrackedModel,), attributes)


def _inherited() -> tuple[Any, Any]:
    """A model, and one that inherits from it with a table of its own."""
    parent = _model()
    meta = type("Meta", (), {"app_label": "tasks"})
    link = models.OneToOneField(parent, models.CASCADE, parent_link=True)
    key = models.UUIDField(primary_key=True, default=Task._meta.pk.default)
    members = {"__module__": __name__, "Meta": meta, "parent": link, "key": key}
    return parent, type("OddChild", (parent,), members)


class _DoneOnly(TrackedManager):
    def get_queryset(self) -> Any:
        return super().get_queryset().filter(project=None)


def _foreign_key(on_delete: Any) -> "models.ForeignKey[Any, Any]":
    return models.ForeignKey(Task, on_delete, null=True, default=None, related_name="+")


@pytest.mark.parametrize(
    ("make", "options", "words"),
    [
        (lambda: User, {}, "derive from TrackedModel"),
        (lambda: _model(objects=_DoneOnly()), {}, "leaves nothing out"),
        (lambda: _model(id=models.BigAutoField(primary_key=True)), {}, "must be a UUID"),
        (lambda: _inherited()[0], {}, "Odd must have one table"),
        (lambda: _inherited()[1], {}, "OddChild must have one table"),
        (lambda: _model(), {"fields": ("id",)}, "must be public"),
        (lambda: _model(about=_foreign_key(models.SET_DEFAULT)), {}, "Odd.about_id: Django writes SET_DEFAULT"),
        (lambda: _model(about=_foreign_key(models.SET(lambda: None))), {}, r"Use SET\(value\)"),
        (lambda: _model(about=_foreign_key(models.CASCADE)), {"scope": None, "through": "about"}, "null"),
        (
            lambda: _model(
                about_id=models.GeneratedField(
                    expression=F("id"), output_field=models.UUIDField(), db_persist=True
                )
            ),
            {},
            "generated",
        ),
    ],
)  # fmt: skip
def test_models_whose_changes_would_be_missed_are_refused(
    make: Callable[[], Any], options: dict[str, Any], words: str
) -> None:
    model = make()
    fields = ("id", "project_id", "about_id")
    try:
        with pytest.raises(ImproperlyConfigured, match=words):
            track(model, **{"name": "odd", "fields": fields, "scope": "project_id", **options})
    finally:
        tracking.registry.pop(model, None)
        for name in ("odd", "oddchild"):
            apps.all_models["tasks"].pop(name, None)
        apps.clear_cache()


def test_shell_and_management_commands_are_told(written: Written, task: Task) -> None:
    code = "from tasks.models import Task; Task.objects.update(title='by shell')"
    with contextlib.redirect_stdout(io.StringIO()):
        call_command("shell", command=code, verbosity=0)
    assert written()[-1].value == "by shell"
