"""The pages as the server makes them: who sees what, and at what cost."""

import html
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from tasks.demo import make_demo_project
from tasks.models import ExecutionProcess, Executor, Project, Task, TaskAttempt
from tasks.tokens import make_sign_in_link
from tasks.views.board import as_text
from tests.repositories import make_repository

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def ann() -> User:
    return User.objects.create_user("ann")


@pytest.fixture
def client(ann: User) -> Client:
    client = Client()
    client.force_login(ann)
    return client


@pytest.fixture
def project(ann: User) -> Project:
    project = Project.objects.create(name="Orchard", repo_path="/srv/orchard", target_branch="main")
    project.members.add(ann)
    return project


def allow(user: User, *names: str) -> None:
    user.user_permissions.add(*Permission.objects.filter(codename__in=names))


def board_data(answer: Any) -> dict[str, Any]:
    found = re.search(r'<template id="board-data">(.*?)</template>', answer.content.decode())
    assert found
    return dict(json.loads(found[1]))


def test_a_sign_in_link_works_once(ann: User) -> None:
    link = reverse("sign-in-link", args=[make_sign_in_link(ann)])
    first, second = Client(), Client()
    assert first.get(link, headers={"Sec-Purpose": "prefetch"}).status_code == 204
    assert first.head(link).status_code == 405
    answer = first.get(link)
    assert (answer.status_code, answer["Location"]) == (302, reverse("home"))
    assert first.get(reverse("home")).status_code == 200
    assert second.get(link).status_code == 410
    assert first.get(link)["Location"] == reverse("home")


def test_a_sign_in_link_of_a_deactivated_account_opens_nothing(ann: User) -> None:
    link = reverse("sign-in-link", args=[make_sign_in_link(ann)])
    User.objects.update(is_active=False)
    assert Client().get(link).status_code == 410


def test_pages_lead_who_is_not_signed_in_to_the_sign_in(project: Project) -> None:
    for address in (reverse("home"), reverse("board", args=[project.pk]), reverse("project-new")):
        assert Client().get(address)["Location"] == f"{reverse('sign-in')}?next={address}"


def test_a_project_of_others_is_not_there(client: Client) -> None:
    other = Project.objects.create(name="Other", repo_path="/srv/other", target_branch="main")
    for name in ("board", "project-settings"):
        assert client.get(reverse(name, args=[other.pk])).status_code == 404
    assert client.post(reverse("pulse", args=[other.pk]), "{}", "application/json").status_code == 404
    assert client.post(reverse("project-delete", args=[other.pk])).status_code == 404
    assert b"Other" not in client.get(reverse("home")).content


def test_a_list_of_projects_says_what_its_numbers_count(client: Client, project: Project) -> None:
    assert "No tasks yet" in client.get("/").content.decode()
    for status in ("cancelled", "todo", "todo"):
        Task.objects.create(project=project, title="One", status=status)
    words = re.sub(r"<[^>]*>", "", client.get("/").content.decode())
    assert re.findall(r"(To do|Done|Cancelled): (\d)", words) == [("To do", "2"), ("Cancelled", "1")]


def test_without_the_permission_projects_are_neither_made_nor_changed(
    client: Client, project: Project
) -> None:
    assert client.get(reverse("project-new")).status_code == 403
    assert client.post(reverse("project-demo")).status_code == 403
    assert client.get(reverse("folders")).status_code == 403
    assert client.post(reverse("project-settings", args=[project.pk]), {"name": "Mine"}).status_code == 403
    assert client.post(reverse("project-delete", args=[project.pk])).status_code == 403


def test_nobody_comes_into_the_demo_project_of_others_by_asking_for_one(
    ann: User, client: Client, settings: Any, tmp_path: Path
) -> None:
    settings.VIBE_DATA = tmp_path
    allow(ann, "add_project")
    offer = reverse("project-demo").encode()
    assert offer in client.get(reverse("home")).content
    made = make_demo_project(User.objects.create_user("ben"))
    assert offer not in client.get(reverse("home")).content
    answer = client.post(reverse("project-demo"))
    assert answer.status_code == 403
    assert b"Others have the demo project" in answer.content
    assert not made.members.filter(pk=ann.pk).exists()
    made.members.add(ann)
    assert client.post(reverse("project-demo"))["Location"] == reverse("board", args=[made.pk])


def test_a_project_is_made_and_its_scripts_need_a_permission_of_their_own(
    ann: User, client: Client, tmp_path: Path
) -> None:
    allow(ann, "add_project")
    repository = make_repository(tmp_path / "orchard")
    answer = client.post(reverse("project-new"), {"repo_path": str(repository), "setup_script": "rm -rf /"})
    project = Project.objects.get()
    assert answer["Location"] == reverse("board", args=[project.pk])
    assert (project.name, project.target_branch, project.setup_script) == ("orchard", "main", "")
    again = client.post(reverse("project-new"), {"repo_path": str(repository)})
    assert again.status_code == 422
    assert b"There is a project on" in again.content


def test_members_are_named_and_a_stranger_is_refused(ann: User, client: Client, tmp_path: Path) -> None:
    allow(ann, "add_project", "change_project")
    client.post(reverse("project-new"), {"repo_path": str(make_repository(tmp_path / "orchard"))})
    project = Project.objects.get()
    User.objects.create_user("bo")
    fields = {
        "repo_path": project.repo_path,
        "name": "Orchard",
        "target_branch": "main",
        "members": "ann, bo",
    }
    address = reverse("project-settings", args=[project.pk])
    assert client.post(address, fields).status_code == 302
    assert set(project.members.values_list("username", flat=True)) == {"ann", "bo"}
    answer = client.post(address, fields | {"members": "ann, nobody"})
    assert (answer.status_code, b'value="ann, nobody"' in answer.content) == (422, True)
    assert b"There is no user" in answer.content
    project.refresh_from_db()
    assert (project.name, project.members.count()) == ("Orchard", 2)


def test_other_settings_change_though_the_repository_has_gone(
    ann: User, client: Client, project: Project, tmp_path: Path
) -> None:
    allow(ann, "change_project")
    User.objects.create_user("bo")
    address = reverse("project-settings", args=[project.pk])
    fields = {
        "repo_path": project.repo_path,
        "name": "Garden",
        "target_branch": "main",
        "members": "ann, bo",
    }
    assert client.post(address, fields).status_code == 302
    project.refresh_from_db()
    assert (project.name, project.members.count()) == ("Garden", 2)
    answer = client.post(address, fields | {"repo_path": str(tmp_path / "missing")})
    assert (answer.status_code, b"There is no folder" in answer.content) == (422, True)


def test_who_did_not_change_a_setting_undoes_nobodys_edit_of_it(
    ann: User, client: Client, project: Project
) -> None:
    allow(ann, "change_project", "run_script")
    address = reverse("project-settings", args=[project.pk])
    page = client.get(address).content.decode()
    seen = {
        name: html.unescape(value)
        for name, value in re.findall(r'name="(initial-\w+)"(?: value="([^"]*)")?', page)
    }
    fields = {name.removeprefix("initial-"): value for name, value in seen.items()}
    assert fields["members"] == "ann"
    project.members.add(User.objects.create_user("bo"))
    Project.objects.filter(pk=project.pk).update(name="Orchard", setup_script="make")
    assert client.post(address, seen | fields | {"copy_files": ".env"}).status_code == 302
    project.refresh_from_db()
    assert (project.name, project.setup_script, project.copy_files) == ("Orchard", "make", ".env")
    assert project.members.count() == 2
    refused = client.post(address, seen | fields | {"members": "cy"}).content.decode()
    assert 'name="initial-members" value="ann"' in refused


def test_a_project_is_made_on_the_folder_that_the_address_names(
    ann: User, client: Client, tmp_path: Path
) -> None:
    allow(ann, "add_project")
    repository = make_repository(tmp_path / "orchard")
    address = reverse("project-new", query={"path": str(repository)})
    assert client.post(address, {"repo_path": str(repository)}).status_code == 302
    assert Project.objects.get().repo_path == str(repository)


def test_the_page_holds_the_cursor_at_which_it_was_rendered(client: Client, project: Project) -> None:
    task = Task.objects.create(project=project, title="</script><script>alert(1)</script>")
    first = board_data(client.get(reverse("board", args=[project.pk])))
    assert list(first["document"]["tasks"]) == [str(task.pk)]
    assert first["document"]["tasks"][str(task.pk)]["title"] == task.title
    task.title = "Harmless"
    task.save()
    assert board_data(client.get(reverse("board", args=[project.pk])))["cursor"] != first["cursor"]


@pytest.mark.parametrize("page", ["board", "task"])
def test_an_agent_that_is_not_installed_is_shown_with_the_reason(
    ann: User, client: Client, project: Project, page: str
) -> None:
    allow(ann, "start_run")
    Executor.objects.create(name="absent", argv=["/nowhere/agent"])
    Executor.objects.create(name="off", argv=["/nowhere/agent"], enabled=False)
    task = Task.objects.create(project=project, title="One")
    html = client.get(reverse(page, args=[(project if page == "board" else task).pk])).content.decode()
    shown = '<option value="" disabled title="/nowhere/agent is not there.">absent · not installed</option>'
    assert html.count(shown) == html.count("<option>demo</option>") > 0
    assert "off · not" not in html
    assert "absent" not in client.get("/api/executors").json()


def test_json_cannot_end_its_element() -> None:
    data = {"a": "</template>\u2028", "b": "<!-- &lt;"}
    text = as_text(data)
    assert not {"<", "&"} & set(text)
    assert json.loads(text) == data


def test_no_script_stands_in_a_page(client: Client, project: Project) -> None:
    for address in (reverse("home"), reverse("board", args=[project.pk])):
        html = client.get(address).content.decode()
        assert not re.search(r'<script(?![^>]*\ssrc=)|\sstyle="|\son\w+="|javascript:', html)


def test_every_page_forbids_code_that_stands_in_it(client: Client, project: Project) -> None:
    addresses = (
        reverse("home"),
        reverse("board", args=[project.pk]),
        "/sign-in/",
        "/nothing-here/",
        "/api/projects",
    )
    for address in addresses:
        policy = client.get(address).headers["Content-Security-Policy"]
        assert "default-src 'self';" in policy and "script-src 'self';" in policy, (address, policy)
        assert "unsafe" not in policy, (address, policy)


def fill(project: Project, number: int) -> None:
    statuses = [choice for choice in Task.Status.values if choice != "todo"]
    tasks = [
        Task(project=project, title=f"Task {n}", status=statuses[n % 4], position=n, labels=["bug", "docs"])
        for n in range(number)
    ]
    Task.objects.bulk_create(tasks)
    attempts = [TaskAttempt(task=task, executor="demo", branch="b", target_branch="main") for task in tasks]
    TaskAttempt.objects.bulk_create(attempts)
    ExecutionProcess.objects.bulk_create(
        [
            ExecutionProcess(task_attempt=attempt, run_reason="codingagent", status="completed")
            for attempt in attempts
        ]
    )


@contextmanager
def counted_calls() -> Iterator[Counter[str]]:
    """How often anything was called in this thread, by kind."""
    counted: Counter[str] = Counter()
    sys.setprofile(lambda _, event, __: counted.update((event,)))
    try:
        yield counted
    finally:
        sys.setprofile(None)


def test_each_further_task_costs_the_board_the_same(client: Client, project: Project) -> None:
    """Told by calls of functions, which are the same on any machine; `benchmarks.board_page` tells the time."""
    address = reverse("board", args=[project.pk])
    client.get(address)
    calls = []
    for _ in range(3):
        fill(project, 15)
        with counted_calls() as counted:
            answer = client.get(address)
        calls.append(counted.total())
    assert answer.content.count(b'<li class="card"') == 46, "45 cards and the template of one"
    assert calls[2] - calls[1] < 1.2 * (calls[1] - calls[0]), calls
    assert calls[2] < 190_000, calls


@pytest.mark.parametrize("name", ["board", "task"])
def test_a_page_asks_once_what_can_be_started(name: str, ann: User, client: Client, project: Project) -> None:
    allow(ann, "start_run")
    key = project.pk if name == "board" else Task.objects.create(project=project, title="t").pk
    with CaptureQueriesContext(connection) as asked:
        assert client.get(reverse(name, args=[key])).status_code == 200
    assert sum('FROM "tasks_executor"' in query["sql"] for query in asked) == 1


def test_the_board_costs_the_same_queries_however_many_tasks(
    client: Client, project: Project, django_assert_max_num_queries: Any
) -> None:
    fill(project, 40)
    with django_assert_max_num_queries(20):
        client.get(reverse("board", args=[project.pk]))


def test_the_pulse_refuses_what_it_cannot_read(client: Client, project: Project) -> None:
    address = reverse("pulse", args=[project.pk])
    for body in ("", "[]", "{}", '{"attempts": 3}', '{"attempts": ["no id"]}', '{"attempts": [null]}'):
        assert client.post(address, body, "application/json").status_code == 400, body


@pytest.mark.parametrize("labels", ["urgent", None, {"a": 1}, ["fine", 7], 3])
def test_no_shell_writes_labels_that_the_board_cannot_show(
    client: Client, project: Project, labels: Any
) -> None:
    task = Task.objects.create(project=project, title="One", labels=["fine"])
    writers: list[Callable[[], object]] = [
        lambda: Task.objects.update(labels=labels),
        lambda: Task(project=project, title="Two", labels=labels).save(),
        lambda: Task.objects.bulk_update([Task(pk=task.pk, labels=labels)], ["labels"]),
        lambda: Task.objects.bulk_create([Task(project=project, title="Three", labels=labels)]),
    ]
    for write in writers:
        with pytest.raises(TypeError, match="is no list of words"):
            write()
    assert list(Task.objects.values_list("labels", flat=True)) == [["fine"]]
    assert client.get(reverse("board", args=[project.pk])).status_code == 200
