"""What stands around a write: what its record hangs on, migrations, transactions, and the door it came through.

Checked as in test_capture.py.
"""

import contextlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.core import serializers
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import DatabaseError, connection, models, transaction
from django.db.models import F
from django.test import Client as Browser

from events import tracking
from events.capture import TrackedManager, TrackedModel, actor, track
from events.models import ChangeLog
from tasks.models import ExecutionProcess, Project, Task, TaskAttempt
from tests.events.captured import Written

pytestmark = pytest.mark.django_db(transaction=True)


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


def test_a_change_is_made_whoever_makes_it(written: Written, task: Task) -> None:
    """The longest user name, with the door that they came by behind it, is longer than what a row holds."""
    somebody = User.objects.create(username="x" * 150)
    with actor("command", somebody, f"{somebody} (mcp)"):
        Task.objects.update(title="new")
    assert written()[-1].actor_label == somebody.username


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
        (lambda: _model(about_id=models.IntegerField()), {"scope": "about_id"}, "about_id, .* must be a UUID"),
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
