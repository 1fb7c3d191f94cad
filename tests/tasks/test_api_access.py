"""Who gets in, and what the others are told."""

import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core.exceptions import PermissionDenied
from django.test import Client
from django.utils import timezone

from tasks import actions, git
from tasks.models import ApiToken, ExecutionProcess, Project, Task, TaskAttempt
from tasks.permissions import visible_projects
from tasks.tokens import issue_token
from tests.repositories import make_repository

ADDRESSES = [
    *("/api/projects", "/api/tasks", "/api/task-attempts", "/api/processes", "/api/executors"),
    *("/api/docs", "/api/openapi.json"),
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_nobody_gets_401_and_no_redirect(db: None, address: str) -> None:
    answer = Client().get(address)
    assert answer.status_code == 401
    assert answer.json() == {"detail": "Sign in, or send a token."}
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_a_browser_is_sent_to_sign_in_before_it_reads_the_description(db: None, member: User) -> None:
    answer = Client().get("/api/docs", headers={"Accept": "text/html,*/*"})
    assert answer.headers["Location"] == "/sign-in/?next=/api/docs"
    token = {"Authorization": f"Bearer {issue_token(member)}"}
    assert Client(headers=token).get("/api/openapi.json").json()["info"]["title"] == "Vibe"


@pytest.mark.parametrize("address", ["projects", "processes/00000000-0000-4000-8000-000000000000/logs/lines"])
def test_a_wrong_token_is_refused_even_beside_a_good_cookie(admin: User, address: str) -> None:
    client = Client(headers={"Authorization": "Bearer vibe_wrong"})
    client.force_login(admin)
    assert client.get(f"/api/{address}").status_code == 401


def test_a_revoked_token_and_a_deactivated_user_are_refused(member: User) -> None:
    client = Client(headers={"Authorization": f"Bearer {issue_token(member)}"})
    assert client.get("/api/projects").status_code == 200
    ApiToken.objects.update(revoked_at=timezone.now())
    assert client.get("/api/projects").status_code == 401

    client = Client(headers={"Authorization": f"Bearer {issue_token(member)}"})
    member.is_active = False
    member.save()
    assert client.get("/api/projects").status_code == 401


def test_a_deactivated_account_sees_nothing(admin: User, project: Project) -> None:
    assert visible_projects(admin).exists()
    admin.is_active = False
    assert not visible_projects(admin).exists()


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


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("get", "nothing", 404),
        ("get", "projects/no-uuid", 404),
        ("delete", "projects", 405),
        ("get", "processes/no-uuid/lines", 404),
        ("post", "events/", 405),
        ("delete", "events/processes/00000000-0000-4000-8000-000000000000/logs", 405),
        ("get", "events/nothing", 404),
    ],
)
def test_every_refusal_is_json(admin: User, method: str, path: str, status: int) -> None:
    client = Client(enforce_csrf_checks=True, headers={"Authorization": f"Bearer {issue_token(admin)}"})
    answer = client.generic(method.upper(), f"/api/{path}")
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/json")
    assert list(answer.json()) == ["detail"]
    assert answer.headers["Content-Length"] == str(len(answer.content))
    assert (status == 405) == ("Allow" in answer.headers)


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


@pytest.fixture
def run(task: Task) -> ExecutionProcess:
    attempt = TaskAttempt.objects.create(task=task, executor="demo", branch="x", target_branch="main")
    return ExecutionProcess.objects.create(task_attempt=attempt, run_reason="codingagent", prompt="x")


def of_run(run: ExecutionProcess, template: str) -> str:
    attempt = run.task_attempt
    names = {
        "project": attempt.task.project_id,
        "task": attempt.task_id,
        "attempt": attempt.pk,
        "run": run.pk,
    }
    return "/api/" + template.format(**names)


READS = [
    *("task-attempts/{attempt}", "task-attempts/{attempt}/status", "task-attempts/{attempt}/diff"),
    *("task-attempts?task_id={task}", "processes?task_attempt_id={attempt}", "projects/{project}/disk"),
    *("processes/{run}", "processes/{run}/logs", "processes/{run}/logs?download=true"),
]
CHANGES: list[tuple[str, str, dict[str, str] | None]] = [
    *(
        ("post", "task-attempts/{attempt}/" + name, None)
        for name in ("devserver", "merge", "rebase", "discard")
    ),
    ("post", "task-attempts/{attempt}/follow-up", {"prompt": "x"}),
    ("patch", "processes/{run}", {"prompt": "y"}),
    ("post", "processes/{run}/stop", None),
    ("delete", "processes/{run}", None),
    ("patch", "projects/{project}", {"name": "Mine"}),
    ("delete", "projects/{project}", None),
]


def test_who_is_no_member_reads_and_changes_nothing_of_a_run(
    as_member: Client, run: ExecutionProcess
) -> None:
    assert as_member.get("/api/task-attempts").json() == as_member.get("/api/processes").json() == []
    for method, path, body in [*(("get", path, None) for path in READS), *CHANGES]:
        answer = as_member.generic(
            method.upper(), of_run(run, path), json.dumps(body or {}), "application/json"
        )
        assert (path, answer.status_code) == (path, 404)


def test_a_member_needs_a_permission_for_each_change(
    as_member: Client, member: User, project: Project, run: ExecutionProcess
) -> None:
    project.members.add(member)
    for method, path, body in [*CHANGES, ("post", "projects", {"repo_path": project.repo_path})]:
        answer = as_member.generic(
            method.upper(), of_run(run, path), json.dumps(body or {}), "application/json"
        )
        assert (path, answer.status_code) == (path, 403)
        assert "permission tasks." in answer.json()["detail"]


def test_agents_and_scripts_need_the_same_permission(
    member: User, project: Project, run: ExecutionProcess
) -> None:
    project.members.add(member)
    with pytest.raises(PermissionDenied):
        actions.start_attempt(member, run.task_attempt.task_id, "demo")
    with pytest.raises(PermissionDenied):
        actions.follow_up(member, run.task_attempt_id, "x")
    with pytest.raises(PermissionDenied):
        actions.stop(member, run.pk)


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
    member.user_permissions.set([Permission.objects.get(codename="run_script")])
    names = as_member.get("/api/executors").json()
    assert {"demo", "script"} <= set(names)
    assert as_member.post("/api/task-attempts", start, content_type="application/json").status_code == 201


def test_a_start_does_not_follow_its_task_into_another_project(
    as_member: Client,
    member: User,
    project: Project,
    task: Task,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    project.members.add(member)
    member.user_permissions.add(Permission.objects.get(codename="start_run"))
    repository = str(make_repository(tmp_path / "other"))
    other = Project.objects.create(name="Not theirs", repo_path=repository, target_branch="main")
    check = git.check_repository

    def moved_meanwhile(*arguments: Any) -> git.RepoInfo:
        Task.objects.filter(pk=task.pk).update(project=other)
        return check(*arguments)

    monkeypatch.setattr(git, "check_repository", moved_meanwhile)
    start = {"task_id": str(task.id), "executor": "demo"}
    assert as_member.post("/api/task-attempts", start, content_type="application/json").status_code == 409
    assert not TaskAttempt.objects.exists()


def test_what_a_script_says_is_edited_with_the_script_permission_only(
    as_member: Client, member: User, project: Project, task: Task
) -> None:
    project.members.add(member)
    member.user_permissions.add(Permission.objects.get(codename="start_run"))
    attempt = TaskAttempt.objects.create(task=task, executor="script", branch="x", target_branch="main")
    run = ExecutionProcess.objects.create(task_attempt=attempt, run_reason="codingagent", prompt="true")
    address = f"/api/processes/{run.pk}"
    refused = as_member.patch(address, {"prompt": "rm -rf /"}, content_type="application/json")
    assert refused.status_code == 403
    member.user_permissions.add(Permission.objects.get(codename="run_script"))
    changed = as_member.patch(address, {"prompt": "false"}, content_type="application/json")
    assert changed.json()["prompt"] == "false"


def test_project_scripts_need_the_script_permission(
    as_member: Client, member: User, project: Project
) -> None:
    project.members.add(member)
    member.user_permissions.add(Permission.objects.get(codename="change_project"))
    address = f"/api/projects/{project.id}"
    refused = as_member.patch(address, {"setup_script": "rm -rf /"}, content_type="application/json")
    assert refused.status_code == 403
    assert as_member.patch(address, {"name": "New"}, content_type="application/json").status_code == 200
