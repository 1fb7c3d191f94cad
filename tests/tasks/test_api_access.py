"""Who gets in, and what the others are told."""

import uuid

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone

from tasks.models import ApiToken, Project, Task
from tasks.tokens import issue_token

ADDRESSES = ["/api/projects", "/api/tasks", "/api/task-attempts", "/api/processes", "/api/executors"]


@pytest.mark.parametrize("address", ADDRESSES)
def test_nobody_gets_401_and_no_redirect(db: None, address: str) -> None:
    answer = Client().get(address)
    assert answer.status_code == 401
    assert "detail" in answer.json()


def test_a_wrong_token_is_refused_even_beside_a_good_cookie(admin: User) -> None:
    client = Client(headers={"Authorization": "Bearer vibe_wrong"})
    client.force_login(admin)
    assert client.get("/api/projects").status_code == 401


def test_a_revoked_token_and_a_deactivated_user_are_refused(member: User) -> None:
    client = Client(headers={"Authorization": f"Bearer {issue_token(member)}"})
    assert client.get("/api/projects").status_code == 200
    ApiToken.objects.update(revoked_at=timezone.now())
    assert client.get("/api/projects").status_code == 401

    client = Client(headers={"Authorization": f"Bearer {issue_token(member)}"})
    member.is_active = False
    member.save()
    assert client.get("/api/projects").status_code == 401


def test_only_a_hash_of_a_token_is_stored(member: User) -> None:
    secret = issue_token(member)
    stored = ApiToken.objects.values().get()
    assert secret not in str(stored)


def test_a_cookie_needs_the_csrf_token(admin: User, project: Project) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin)
    body = {"project_id": str(project.id), "title": "x"}
    refused = client.post("/api/tasks", body, content_type="application/json")
    assert refused.status_code == 403
    assert "CSRF" in refused.json()["detail"]
    assert client.get("/api/tasks").status_code == 200


def test_what_one_may_not_see_does_not_exist(as_member: Client, project: Project, task: Task) -> None:
    assert as_member.get("/api/projects").json() == []
    assert as_member.get("/api/tasks").json() == []
    for address in (
        f"/api/projects/{project.id}",
        f"/api/tasks/{task.id}",
        f"/api/tasks?project_id={project.id}",
    ):
        assert as_member.get(address).status_code == 404
    body = {"project_id": str(project.id), "title": "x"}
    assert as_member.post("/api/tasks", body, content_type="application/json").status_code == 404
    for kind in ("projects", "tasks", "task-attempts", "processes"):
        answer = as_member.get(f"/api/{kind}/{uuid.uuid4()}")
        assert answer.status_code == 404
        assert "detail" in answer.json()


def test_membership_shows_a_project_but_starts_nothing(
    as_member: Client, member: User, project: Project, task: Task
) -> None:
    project.members.add(member)
    assert [found["id"] for found in as_member.get("/api/projects").json()] == [str(project.id)]
    start = {"task_id": str(task.id), "executor": "demo"}
    refused = as_member.post("/api/task-attempts", start, content_type="application/json")
    assert refused.status_code == 403
    assert "tasks.start_run" in refused.json()["detail"]
    assert as_member.get("/api/executors").json() == []


def test_the_script_executor_needs_a_permission_of_its_own(
    as_member: Client, member: User, project: Project, task: Task
) -> None:
    project.members.add(member)
    member.user_permissions.add(Permission.objects.get(codename="start_run"))
    start = {"task_id": str(task.id), "executor": "script", "prompt": "true"}
    refused = as_member.post("/api/task-attempts", start, content_type="application/json")
    assert refused.status_code == 403
    assert "tasks.run_script" in refused.json()["detail"]
    names = as_member.get("/api/executors").json()
    assert "demo" in names
    assert "script" not in names


def test_project_scripts_need_the_script_permission(
    as_member: Client, member: User, project: Project
) -> None:
    project.members.add(member)
    member.user_permissions.add(Permission.objects.get(codename="change_project"))
    address = f"/api/projects/{project.id}"
    refused = as_member.patch(address, {"setup_script": "rm -rf /"}, content_type="application/json")
    assert refused.status_code == 403
    assert as_member.patch(address, {"name": "New"}, content_type="application/json").status_code == 200
