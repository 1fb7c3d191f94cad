"""Every way to write a record becomes rows in the same transaction, and the rows say what the database holds.

Each test changes records in one way and checks that the documents of three clients (one of everything, one of
each project), kept by applying the rows since before, equal a fresh read.
"""

import contextlib
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonpatch
import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.core import serializers
from django.core.management import call_command
from django.db import DatabaseError, IntegrityError, connection, models, transaction
from django.db.models import F, Value
from django.db.models.functions import Concat, Upper
from django.test import Client as Browser
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from events.access import ALL
from events.capture import TrackedModel, actor, serialize, track
from events.frames import ROW, Change
from events.models import DatabaseChange
from tasks.models import ExecutionProcess, Project, Task, TaskAttempt
from tests.events.clients import fresh_read

pytestmark = pytest.mark.django_db(transaction=True)
Written = Callable[[], list[DatabaseChange]]


@pytest.fixture
def written(project: Project, other_project: Project) -> Iterator[Written]:
    """The rows since the test began; at its end the three documents are compared with the database."""
    scopes = [ALL, frozenset({project.pk}), frozenset({other_project.pk})]
    documents = [fresh_read(scope) for scope in scopes]
    start = DatabaseChange.objects.latest("id").pk
    yield lambda: list(DatabaseChange.objects.filter(id__gt=start))
    for scope, document in zip(scopes, documents, strict=True):
        for row in DatabaseChange.objects.filter(id__gt=start).values_list(*ROW):
            data = Change("epoch", row).data(scope)
            if data:
                document = jsonpatch.apply_patch(document, [json.loads(data)])
        assert document == fresh_read(scope)


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


def test_values_of_odd_types_are_told_as_the_database_holds_them(written: Written, project: Project) -> None:
    Task(project_id=str(project.pk), title=7, position=3, status=Task.Status.DONE, labels=("a", "b")).save()
    task = Task.objects.get()
    task.position, task.title = "2.5", 9
    task.created_at = timezone.make_aware(
        task.created_at.replace(tzinfo=None), timezone.get_fixed_timezone(90)
    )
    task.save()
    assert written()[0].value["title"] == "7"


def test_only_what_changed_is_told(written: Written, task: Task) -> None:
    before = len(written())
    task.title = "other"
    task.save()
    assert sorted(described(written()[before:])) == [("replace", "/title"), ("replace", "/updated_at")]
    task.save(update_fields=["title"])
    assert len(written()) == before + 2


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
    attempt.task = Task.objects.create(project=Project.objects.get(name="one"), title="elsewhere")
    attempt.save()


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
    assert described(written()[-2:]) == [("remove", ""), ("add", "")]


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
    tasks[0].title = Upper(Value("expression"))
    tasks[1].project = Project.objects.get(name="two")
    Task.objects.bulk_update([*tasks, tasks[2], Task(project=project)], ["title", "project"])


def test_get_or_create_and_update_or_create(written: Written, project: Project) -> None:
    _, made = Task.objects.get_or_create(project=project, title="x", defaults={"status": "done"})
    assert made and not Task.objects.get_or_create(project=project, title="x")[1]
    Task.objects.update_or_create(project=project, title="x", defaults={"status": "todo"})
    project.tasks.update_or_create(title="y", defaults={"position": 2})
    project.tasks.create(title="z")
    project.tasks.add(Task(project=project, title="w"), bulk=False)


def test_async_variants(written: Written, project: Project, other_project: Project) -> None:
    async def write() -> None:
        task = await Task.objects.acreate(project=project, title="x")
        task.title = "y"
        await task.asave()
        await Task.objects.abulk_create([Task(project=project, title="b")])
        await Task.objects.filter(title="b").aupdate(project=other_project)
        await Task.objects.aupdate_or_create(title="c", project=project, defaults={"status": "done"})
        await task.adelete()
        await Task.objects.filter(title="b").adelete()

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


def test_set_null_of_a_public_field(written: Written, task: Task) -> None:
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
        rows = written()
        assert ("replace", f"/notes/{note.pk}/about_id") in [
            (row.operation, str(row).split()[1]) for row in rows
        ]
        note.delete()
    finally:
        _forget(Note)
    DatabaseChange.objects.filter(table="notes").delete()


def _forget(model: type[models.Model]) -> None:
    from django.apps import apps

    from events import tracking

    with connection.schema_editor() as editor:
        editor.delete_model(model)
    tracking.registry.pop(model, None)
    del apps.all_models["tasks"][model._meta.model_name or ""]
    apps.clear_cache()


# --- members


def test_members(written: Written, project: Project, other_project: Project) -> None:
    anna, bert = User.objects.create(username="anna"), User.objects.create(username="bert")
    count = len(written())
    project.members.add(anna, bert)
    assert described(written()[count:]) == [("replace", "/members")]
    assert written()[-1].value == [anna.pk, bert.pk]
    project.members.add(anna)
    assert len(written()) == count + 1
    anna.projects.add(other_project)
    anna.projects.remove(project)
    project.members.set([anna])
    bert.projects.set([project])
    Project.members.through.objects.filter(user=bert).update(project=str(other_project.pk))
    Project.members.through.objects.create(user=bert, project=project)
    other_project.members.clear()
    project.members.remove(bert)
    project.members.add(bert)
    bert.delete()
    assert written()[-1].value == [anna.pk]
    User.objects.all().delete()
    assert written()[-1].value == []


def test_project_that_goes_says_nothing_of_its_members(written: Written, project: Project) -> None:
    project.members.add(User.objects.create(username="anna"))
    count = len(written())
    project.delete()
    assert described(written()[count:]) == [("remove", "")]


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


def test_models_whose_changes_would_be_missed_are_refused() -> None:
    from django.core.exceptions import ImproperlyConfigured

    from events import tracking

    for model, words in ((User, "derive from TrackedModel"),):
        with pytest.raises(ImproperlyConfigured, match=words):
            track(model, name="users", fields=("id",), scope="id")
        tracking.registry.pop(model)


def test_shell_and_management_commands_are_told(written: Written, task: Task) -> None:
    code = "from tasks.models import Task; Task.objects.update(title='by shell')"
    with contextlib.redirect_stdout(io.StringIO()):
        call_command("shell", command=code, verbosity=0)
    assert written()[-1].value == "by shell"
