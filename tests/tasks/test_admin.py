"""The admin as a person uses it."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.forms import ModelForm
from django.test import Client
from django.urls import reverse

from tasks.models import ExecutionProcess, Executor, Project, Task, TaskAttempt, Webhook, WebhookDelivery
from tasks.tokens import issue_token
from tests.repositories import git, make_repository
from tests.tasks.attempts import folder


@pytest.fixture
def client(admin: User) -> Client:
    client = Client()
    client.force_login(admin)
    return client


@pytest.fixture
def run(task: Task) -> ExecutionProcess:
    attempt = TaskAttempt.objects.create(task=task, executor="demo", branch="vibe/x", target_branch="main")
    return ExecutionProcess.objects.create(task_attempt=attempt, run_reason="codingagent", status="completed")


LISTS = ["project", "task", "taskattempt", "executionprocess", "executor", "webhook", "webhookdelivery"]


@pytest.mark.parametrize("model", LISTS)
def test_lists_can_be_searched(client: Client, run: ExecutionProcess, model: str) -> None:
    page = client.get(reverse(f"admin:tasks_{model}_changelist"), {"q": "x"})
    assert page.status_code == 200
    assert page.context["cl"].search_fields


@pytest.mark.parametrize("model", [*LISTS, "apitoken"])
def test_lists_can_be_filtered(
    client: Client, run: ExecutionProcess, admin: User, member: User, model: str
) -> None:
    other = Project.objects.create(name="Other", repo_path="/other", target_branch="main")
    other.members.add(member)
    elsewhere = TaskAttempt.objects.create(
        task=Task.objects.create(project=other, title="x"), executor="demo", branch="y", target_branch="main"
    )
    ExecutionProcess.objects.create(task_attempt=elsewhere, run_reason="codingagent")
    for user in admin, member:  # Where there is only one choice, a filter is not shown.
        issue_token(user)
        webhook = Webhook.objects.create(url=f"http://localhost/{user}")
        WebhookDelivery.objects.create(webhook=webhook, event="task.done", payload={})
    address = reverse(f"admin:tasks_{model}_changelist")
    changes = client.get(address).context["cl"]
    assert changes.list_filter
    assert len(changes.filter_specs) == len(changes.list_filter)
    for spec in changes.filter_specs:
        for choice in spec.choices(changes):
            page = client.get(address + choice["query_string"])
            assert page.status_code == 200, choice


def test_projects_are_found_by_member(client: Client, project: Project, admin: User, member: User) -> None:
    Project.objects.create(name="Other", repo_path="/other", target_branch="main").members.add(member)
    page = client.get(reverse("admin:tasks_project_changelist"), {"members__id__exact": admin.pk})
    assert list(page.context["cl"].result_list) == [project]


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
    project.members.add(staff)
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


@pytest.fixture
def staff(member: User) -> Client:
    """One of the staff who may do everything with records, and is a member of no project of the admin's."""
    member.is_staff = True
    member.save()
    member.user_permissions.set(Permission.objects.filter(content_type__app_label__in=("tasks", "events")))
    client = Client()
    client.force_login(member)
    return client


@pytest.mark.parametrize("model", ["project", "task", "taskattempt", "executionprocess"])
def test_staff_see_the_projects_they_are_members_of(
    staff: Client, run: ExecutionProcess, member: User, model: str
) -> None:
    run.prompt = "Hidden words"
    run.save()
    record = {
        "project": run.task_attempt.task.project,
        "task": run.task_attempt.task,
        "taskattempt": run.task_attempt,
        "executionprocess": run,
    }[model]
    listed = reverse(f"admin:tasks_{model}_changelist")
    for action in ("change", "delete", "history"):
        answer = staff.get(reverse(f"admin:tasks_{model}_{action}", args=[record.pk]))
        assert answer.status_code == 302, "sent home, with a message that there is none"
    page = staff.get(listed)
    assert list(page.context["cl"].result_list) == []
    assert run.task_attempt.task.project.name not in page.content.decode()
    run.task_attempt.task.project.members.add(member)
    assert list(staff.get(listed).context["cl"].result_list) == [record]
    assert staff.get(reverse(f"admin:tasks_{model}_change", args=[record.pk])).status_code == 200


def test_staff_put_tasks_only_into_projects_they_see(staff: Client, project: Project, member: User) -> None:
    form = {"project": project.pk, "title": "Mine", "status": "todo", "position": 1, "labels": "[]"}
    form |= {"attempts-TOTAL_FORMS": 0, "attempts-INITIAL_FORMS": 0}
    address = reverse("admin:tasks_task_add")
    assert project.name not in staff.get(address).content.decode()
    assert "Select a valid choice" in staff.post(address, form).content.decode()
    project.members.add(member)
    assert staff.post(address, form).status_code == 302
    assert Task.objects.get().title == "Mine"


def test_staff_see_a_project_that_they_make(staff: Client, tmp_path: Path, member: User) -> None:
    form = {"name": "Mine", "repo_path": str(make_repository(tmp_path / "mine")), "target_branch": "main"}
    form |= {"tasks-TOTAL_FORMS": 0, "tasks-INITIAL_FORMS": 0}
    assert staff.post(reverse("admin:tasks_project_add"), form).status_code == 302
    assert list(Project.objects.get().members.all()) == [member]


def test_staff_see_the_changes_that_their_stream_shows(staff: Client, task: Task, member: User) -> None:
    address = reverse("admin:events_databasechange_changelist")
    task.title = "Changed"
    task.save()
    assert list(staff.get(address).context["cl"].result_list) == []
    task.project.members.add(member)
    assert [
        row.object_id for row in staff.get(address).context["cl"].result_list if row.path == "/title"
    ] == [str(task.pk)]


def test_staff_give_nobody_permissions_or_passwords(staff: Client, member: User) -> None:
    member.user_permissions.set(Permission.objects.all())
    for path in ("", f"user/{member.pk}/change/", f"user/{member.pk}/password/", "user/add/", "group/add/"):
        assert staff.get(f"/admin/auth/{path}").status_code in (403, 404), path


def test_a_project_of_many_tasks_is_changed(client: Client, project: Project, task: Task) -> None:
    Task.objects.bulk_create(Task(project=project, title=f"Task {number}") for number in range(200))
    form = {"name": "Renamed", "repo_path": project.repo_path, "target_branch": "main"}
    form |= {"members": project.members.values_list("pk", flat=True)}
    form |= {"tasks-TOTAL_FORMS": 201, "tasks-INITIAL_FORMS": 201}
    for number, one in enumerate(project.tasks.all()):
        fields = {"id": one.pk, "project": project.pk, "title": one.title, "status": one.status}
        form |= {f"tasks-{number}-{name}": value for name, value in fields.items()}
        form[f"tasks-{number}-position"] = one.position
    form["tasks-0-DELETE"] = "on"  # a box that nobody is offered
    assert client.post(reverse("admin:tasks_project_change", args=[project.pk]), form).status_code == 302
    project.refresh_from_db()
    assert project.name == "Renamed"
    assert project.tasks.count() == 201


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("", []),
        ("null", []),
        ('[" bug "]', ["bug"]),
        ("5", None),
        ("[1]", None),
        ("[1e400]", None),
        ('{"a": 1}', None),
        ('["\\u0000"]', None),
    ],
)
def test_labels_are_a_list_of_words(client: Client, task: Task, given: str, kept: list[str] | None) -> None:
    Task.objects.update(labels=["as before"])
    form = {"project": task.project_id, "title": "x", "status": "todo", "position": 1, "labels": given}
    form |= {"attempts-TOTAL_FORMS": 0, "attempts-INITIAL_FORMS": 0}
    answer = client.post(reverse("admin:tasks_task_change", args=[task.pk]), form)
    assert answer.status_code == (200 if kept is None else 302)
    assert kept is not None or "a JSON list" in answer.content.decode()
    task.refresh_from_db()
    assert task.labels == (["as before"] if kept is None else kept)


def test_nothing_is_deleted_while_it_runs(client: Client, run: ExecutionProcess, task: Task) -> None:
    ExecutionProcess.objects.update(status="running")
    page = client.post(reverse("admin:tasks_task_delete", args=[task.pk]), {"post": "yes"})
    assert "stop it first" in page.content.decode()
    selected = {"action": "delete_selected", "_selected_action": [str(task.pk)], "post": "yes"}
    client.post(reverse("admin:tasks_task_changelist"), selected)
    assert Task.objects.exists()


@pytest.mark.parametrize("status", ["queued", "running"])
@pytest.mark.parametrize("model", ["taskattempt", "executionprocess"])
def test_no_attempt_or_run_is_deleted_while_it_runs(
    client: Client, run: ExecutionProcess, model: str, status: str
) -> None:
    ExecutionProcess.objects.update(status=status)
    key = str(run.task_attempt_id if model == "taskattempt" else run.pk)
    page = client.post(reverse(f"admin:tasks_{model}_delete", args=[key]), {"post": "yes"})
    assert "still runs: stop it first" in page.content.decode()
    selected = {"action": "delete_selected", "_selected_action": [key], "post": "yes"}
    page = client.post(reverse(f"admin:tasks_{model}_changelist"), selected)
    assert "still runs: stop it first" in page.content.decode()
    assert ExecutionProcess.objects.exists()


def test_a_run_that_has_ended_is_deleted_though_another_runs(client: Client, run: ExecutionProcess) -> None:
    other = ExecutionProcess.objects.create(
        task_attempt=run.task_attempt, run_reason="devserver", status="running"
    )
    client.post(reverse("admin:tasks_executionprocess_delete", args=[run.pk]), {"post": "yes"})
    assert list(ExecutionProcess.objects.all()) == [other]


@pytest.mark.parametrize("selected", [False, True])
def test_an_attempt_goes_with_its_worktree_and_its_work_is_kept(
    client: Client, attempt: TaskAttempt, repository: Path, selected: bool
) -> None:
    ExecutionProcess.objects.create(task_attempt=attempt, run_reason="codingagent", status="completed")
    (folder(attempt) / "new").write_text("precious")
    if selected:
        form = {"action": "delete_selected", "_selected_action": [str(attempt.pk)], "post": "yes"}
        client.post(reverse("admin:tasks_taskattempt_changelist"), form)
    else:
        client.post(reverse("admin:tasks_taskattempt_delete", args=[attempt.pk]), {"post": "yes"})
    assert not TaskAttempt.objects.exists()
    assert Task.objects.exists()
    assert not folder(attempt).exists()
    assert git(repository, "show", f"refs/vibe/kept/{attempt.pk}:new") == "precious"
    assert git(repository, "branch", "--list", attempt.branch)


class TestRepositoryOfAProject:
    add = "/admin/tasks/project/add/"

    def form(self, repo_path: Path | str, target_branch: str = "main", **fields: str) -> dict[str, Any]:
        given = {"name": "New", "repo_path": str(repo_path), "target_branch": target_branch}
        return given | {"tasks-TOTAL_FORMS": 0, "tasks-INITIAL_FORMS": 0} | fields

    def errors(self, client: Client, address: str, form: dict[str, Any]) -> dict[str, list[str]]:
        page = client.post(address, form)
        assert page.status_code == 200
        shown: ModelForm = page.context["adminform"].form
        return {name: list(messages) for name, messages in shown.errors.items()}

    @pytest.mark.parametrize(
        ("name", "why"),
        [
            ("plain", "is not a git repository"),
            ("empty", "has no branch with a commit yet"),
            ("missing", "There is no folder"),
            ("/", "lies outside the folders"),
            ("repository/inner", "give its top folder"),
        ],
    )
    @pytest.mark.parametrize("change", [False, True])
    def test_one_that_cannot_be_used_is_refused_beside_its_field(
        self, client: Client, project: Project, repository: Path, name: str, why: str, change: bool
    ) -> None:
        for made in "plain", "empty", "repository/inner":
            (repository.parent / made).mkdir()
        git(repository.parent / "empty", "init", "-q")
        address = reverse("admin:tasks_project_change", args=[project.pk]) if change else self.add
        errors = self.errors(client, address, self.form(repository.parent / name))
        assert list(errors) == ["repo_path"]
        assert why in errors["repo_path"][0]
        assert Project.objects.get().repo_path == str(repository)

    def test_a_path_that_is_not_absolute(self, client: Client) -> None:
        assert "is not an absolute path" in self.errors(client, self.add, self.form("here"))["repo_path"][0]

    @pytest.mark.parametrize("change", [False, True])
    def test_a_branch_that_it_does_not_have(
        self, client: Client, project: Project, tmp_path: Path, change: bool
    ) -> None:
        path = project.repo_path if change else make_repository(tmp_path / "new")
        address = reverse("admin:tasks_project_change", args=[project.pk]) if change else self.add
        errors = self.errors(client, address, self.form(path, "nowhere"))
        assert errors == {"target_branch": ["The repository has no branch 'nowhere'. It has: main."]}

    def test_another_project_has_it(self, client: Client, project: Project, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(project.repo_path)
        errors = self.errors(client, self.add, self.form(tmp_path / "link"))
        assert errors == {"repo_path": ["There is a project on this repository already."]}

    def test_it_is_stored_as_the_board_stores_it(
        self, client: Client, repository: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "link").symlink_to(repository)
        assert client.post(self.add, self.form(f"{tmp_path}/link/", "")).status_code == 302
        project = Project.objects.get()
        assert (project.repo_path, project.target_branch) == (str(repository), "main")

    def test_other_fields_change_though_it_has_gone(self, client: Client, project: Project) -> None:
        shutil.rmtree(project.repo_path)
        address = reverse("admin:tasks_project_change", args=[project.pk])
        assert client.post(address, self.form(project.repo_path, copy_files=".env")).status_code == 302
        project.refresh_from_db()
        assert (project.name, project.copy_files) == ("New", ".env")

    def test_its_worktrees_find_it_where_it_was_moved(
        self, client: Client, attempt: TaskAttempt, repository: Path
    ) -> None:
        moved = repository.rename(repository.with_name("moved"))
        address = reverse("admin:tasks_project_change", args=[attempt.task.project_id])
        assert client.post(address, self.form(moved)).status_code == 302
        assert git(folder(attempt), "status", "--porcelain") == ""


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
