"""What happened, for people: from the rows that feed the streams."""

import pytest
from django.contrib.auth.models import User
from django.test import Client

from events.actors import actor
from events.models import DatabaseChange
from tasks.board.history import of_task
from tasks.models import ExecutionProcess, Project, Task, TaskAttempt
from tasks.tokens import issue_token

pytestmark = pytest.mark.django_db


@pytest.fixture
def boss() -> User:
    return User.objects.create_superuser("boss")


@pytest.fixture
def task() -> Task:
    project = Project.objects.create(name="one", repo_path="/one", target_branch="main")
    return Task.objects.create(project=project, title="first")


def test_newest_first_with_old_and_new_values(task: Task, boss: User) -> None:
    with actor("runner", user=boss):
        Task.objects.filter(pk=task.pk).update(status="inprogress")
    newest, oldest = of_task(task, boss)
    assert (newest["field"], newest["old"], newest["value"]) == ("status", "todo", "inprogress")
    assert newest["actor"] == {"kind": "runner", "label": "the runner, for boss"}
    assert (oldest["operation"], oldest["table"], oldest["field"]) == ("add", "tasks", "")


def test_attempts_and_runs_belong_to_it(task: Task, boss: User) -> None:
    attempt = TaskAttempt.objects.create(task=task, executor="x", branch="b", target_branch="main")
    run = ExecutionProcess.objects.create(task_attempt=attempt, run_reason="codingagent")
    run.status = "completed"
    run.save()
    Task.objects.create(project=task.project, title="of another task")
    entries = of_task(task, boss)
    assert [(entry["table"], entry["field"]) for entry in entries] == [
        ("execution_processes", "status"),
        ("execution_processes", ""),
        ("task_attempts", ""),
        ("tasks", ""),
    ]
    assert len(of_task(task, boss, limit=2)) == 2


def test_deleted_attempts_and_runs_are_told_of(task: Task, boss: User) -> None:
    attempt = TaskAttempt.objects.create(task=task, executor="x", branch="b", target_branch="main")
    kept = TaskAttempt.objects.create(task=task, executor="x", branch="c", target_branch="main")
    other = Task.objects.create(project=task.project, title="of another task")
    elsewhere = TaskAttempt.objects.create(task=other, executor="x", branch="d", target_branch="main")
    for one in (attempt, kept, elsewhere):
        ExecutionProcess.objects.create(task_attempt=one, run_reason="codingagent")
    with actor("admin", user=boss):
        kept.processes.all().delete()
        for one in (attempt, elsewhere):
            one.delete()
    entries = of_task(task, boss)
    assert [(entry["actor_label"], entry["operation"], entry["table"]) for entry in entries[:3]] == [
        ("boss in the admin", "remove", "task_attempts"),
        ("boss in the admin", "remove", "execution_processes"),
        ("boss in the admin", "remove", "execution_processes"),
    ]
    assert entries[0]["old"]["branch"] == "b"
    assert [entry["operation"] for entry in entries[3:]] == ["add"] * 5
    assert str(elsewhere.pk) not in {entry["object_id"] for entry in entries}


def test_nothing_from_before_a_task_came_into_sight(task: Task) -> None:
    anna = User.objects.create(username="anna")
    Task.objects.filter(pk=task.pk).update(title="secret")
    other = Project.objects.create(name="two", repo_path="/two", target_branch="main")
    other.members.add(anna)
    task.refresh_from_db()
    task.project, task.title = other, "open"
    task.save()
    Task.objects.filter(pk=task.pk).update(status="done")
    assert [entry["field"] for entry in of_task(task, anna)] == ["status"]


def test_each_door_has_its_name(task: Task, boss: User) -> None:
    secret = issue_token(boss)
    address = f"/api/tasks/{task.pk}"
    by_token = Client().patch(
        address, {"status": "done"}, "application/json", headers={"Authorization": f"Bearer {secret}"}
    )
    assert by_token.status_code == 200, by_token.content
    browser = Client()
    browser.force_login(boss)
    assert browser.patch(address, {"status": "todo"}, "application/json").status_code == 200
    labels = [entry["actor_label"] for entry in of_task(task, boss) if entry["field"] == "status"]
    assert labels == ["boss", "boss by API token"]


def test_page_asks_for_it(task: Task, boss: User) -> None:
    browser = Client()
    browser.force_login(boss)
    answer = browser.get(f"/tasks/{task.pk}/history/")
    assert answer.status_code == 200
    assert [entry["operation"] for entry in answer.json()["entries"]] == ["add"]


def test_admin_lists_changes_and_lets_nobody_change_them(task: Task, boss: User) -> None:
    browser = Client()
    browser.force_login(boss)
    page = browser.get("/admin/events/databasechange/")
    assert b"made the task" in page.content
    assert browser.get("/admin/events/databasechange/add/").status_code == 403
    row = DatabaseChange.objects.get(object_id=task.pk)
    chosen = {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"}
    browser.post("/admin/events/databasechange/", chosen)
    assert browser.post(f"/admin/events/databasechange/{row.pk}/delete/", {"post": "yes"}).status_code == 403
    address = f"/admin/events/databasechange/{row.pk}/change/"
    assert browser.post(address, {"table": "forged"}).status_code == 403
    assert browser.get(address).status_code == 200
    assert DatabaseChange.objects.get(object_id=task.pk).table == "tasks"
