"""The admin as a person uses it."""

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from tasks.models import ExecutionProcess, Executor, Project, Task, TaskAttempt


@pytest.fixture
def client(admin: User) -> Client:
    client = Client()
    client.force_login(admin)
    return client


@pytest.fixture
def run(task: Task) -> ExecutionProcess:
    attempt = TaskAttempt.objects.create(task=task, executor="demo", branch="vibe/x", target_branch="main")
    return ExecutionProcess.objects.create(task_attempt=attempt, run_reason="codingagent", status="completed")


@pytest.mark.parametrize(
    "model", ["project", "task", "taskattempt", "executionprocess", "executor", "apitoken"]
)
def test_lists_can_be_searched(client: Client, run: ExecutionProcess, model: str) -> None:
    page = client.get(reverse(f"admin:tasks_{model}_changelist"), {"q": "x"} if model != "apitoken" else {})
    assert page.status_code == 200


def test_a_run_links_to_its_attempt_and_task_and_shows_its_log(client: Client, run: ExecutionProcess) -> None:
    page = client.get(reverse("admin:tasks_executionprocess_change", args=[run.pk])).content.decode()
    assert reverse("admin:tasks_task_change", args=[run.task_attempt.task_id]) in page
    assert reverse("admin:tasks_taskattempt_change", args=[run.task_attempt_id]) in page
    assert f'data-process="{run.pk}"' in page
    attempt = client.get(
        reverse("admin:tasks_taskattempt_change", args=[run.task_attempt_id])
    ).content.decode()
    assert f'data-attempt="{run.task_attempt_id}"' in attempt


def test_what_the_runner_wrote_is_only_read(client: Client, run: ExecutionProcess) -> None:
    address = reverse("admin:tasks_executionprocess_change", args=[run.pk])
    assert client.post(address, {"status": "failed"}).status_code == 403
    run.refresh_from_db()
    assert run.status == "completed"


def test_a_project_goes_with_all_its_records(client: Client, run: ExecutionProcess, project: Project) -> None:
    client.post(reverse("admin:tasks_project_delete", args=[project.pk]), {"post": "yes"})
    assert not Project.objects.exists()
    assert not ExecutionProcess.objects.exists()


def test_staff_change_a_projects_scripts_with_the_permission_for_scripts_only(project: Project) -> None:
    staff = User.objects.create_user("staff", is_staff=True)
    staff.user_permissions.add(Permission.objects.get(codename="change_project"))
    client = Client()
    client.force_login(staff)
    form = {
        "name": "New",
        "repo_path": project.repo_path,
        "target_branch": "main",
        "setup_script": "rm -rf /",
    }
    form |= {"members": project.members.values_list("pk", flat=True)}
    address = reverse("admin:tasks_project_change", args=[project.pk])
    assert client.post(address, form).status_code == 302
    project.refresh_from_db()
    assert (project.name, project.setup_script) == ("New", "")
    staff.user_permissions.add(Permission.objects.get(codename="run_script"))
    client.post(address, form)
    project.refresh_from_db()
    assert project.setup_script == "rm -rf /"


def test_a_project_of_many_tasks_is_changed(client: Client, project: Project, task: Task) -> None:
    Task.objects.bulk_create(Task(project=project, title=f"Task {number}") for number in range(200))
    form = {"name": "Renamed", "repo_path": project.repo_path, "target_branch": "main"}
    form |= {"members": project.members.values_list("pk", flat=True)}
    form |= {"tasks-TOTAL_FORMS": 201, "tasks-INITIAL_FORMS": 201}
    for number, one in enumerate(project.tasks.all()):
        fields = {"id": one.pk, "project": project.pk, "title": one.title, "status": one.status}
        form |= {f"tasks-{number}-{name}": value for name, value in fields.items()}
        form[f"tasks-{number}-position"] = one.position
    assert client.post(reverse("admin:tasks_project_change", args=[project.pk]), form).status_code == 302
    project.refresh_from_db()
    assert project.name == "Renamed"


def test_nothing_is_deleted_while_it_runs(client: Client, run: ExecutionProcess, task: Task) -> None:
    ExecutionProcess.objects.update(status="running")
    page = client.post(reverse("admin:tasks_task_delete", args=[task.pk]), {"post": "yes"})
    assert "stop it first" in page.content.decode()
    selected = {"action": "delete_selected", "_selected_action": [str(task.pk)], "post": "yes"}
    client.post(reverse("admin:tasks_task_changelist"), selected)
    assert Task.objects.exists()


class TestExecutors:
    address = "/admin/tasks/executor/add/"

    def test_an_argument_list_is_stored_as_given(self, client: Client) -> None:
        form = {
            "name": "echo",
            "argv": '["echo", "a b", "{prompt}"]',
            "resume_argv": "[]",
            "output_format": "text",
        }
        client.post(self.address, {**form, "environment": "[]", "enabled": "on"})
        assert Executor.objects.get().argv == ["echo", "a b", "{prompt}"]

    @pytest.mark.parametrize("argv", ['"echo hello"', "[]", '[""]', "[1]", '{"a": 1}', "echo"])
    def test_anything_else_is_refused_with_an_example(self, client: Client, argv: str) -> None:
        page = client.post(
            self.address, {"name": "bad", "argv": argv, "output_format": "text", "enabled": "on"}
        )
        assert page.status_code == 200
        assert not Executor.objects.exists()

    def test_staff_without_superuser_rights_never_get_there(self, db: None) -> None:
        staff = Client()
        staff.force_login(User.objects.create_user("staff", is_staff=True))
        assert staff.get(self.address).status_code == 403
