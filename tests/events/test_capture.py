"""Every way to write a record becomes rows in the same transaction, and the rows say what the database holds.

Each test changes records in one way and checks that the documents of three clients (one of everything, one of
each project), kept by applying the rows since before, equal a fresh read.
"""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.apps import apps
from django.contrib.auth.models import User
from django.db import IntegrityError, connection, connections, models, transaction
from django.db.models import Count, F, Value
from django.db.models.functions import Concat, Upper
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from events import deletes, tracking
from events.capture import TrackedModel, serialize, track
from events.models import DatabaseChange
from tasks.models import ExecutionProcess, Project, Task, TaskAttempt
from tests.events.captured import Written, described, kinds

pytestmark = pytest.mark.django_db(transaction=True)


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
