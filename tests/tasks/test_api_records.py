"""Projects and tasks over REST."""

from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from tasks.models import Project, Task
from tests.repositories import git, make_repository

JSON = "application/json"


def post(client: Client, address: str, **body: Any) -> Any:
    return client.post(address, body, content_type=JSON)


def patch(client: Client, address: str, **body: Any) -> Any:
    return client.patch(address, body, content_type=JSON)


class TestProjects:
    def test_the_repository_tells_name_and_branch(
        self, as_admin: Client, repository: Path, admin: User
    ) -> None:
        answer = post(as_admin, "/api/projects", repo_path=str(repository))
        assert answer.status_code == 201
        made = answer.json()
        assert (made["name"], made["target_branch"]) == (repository.name, "main")
        assert made["members"] == [admin.pk]
        assert as_admin.get(f"/api/projects/{made['id']}").json() == made

    def test_one_project_a_repository(self, as_admin: Client, project: Project) -> None:
        answer = post(as_admin, "/api/projects", name="Again", repo_path=project.repo_path)
        assert answer.status_code == 409
        assert "already" in answer.json()["detail"]

    def test_a_folder_that_is_no_repository(self, as_admin: Client, tmp_path: Path) -> None:
        answer = post(as_admin, "/api/projects", name="None", repo_path=str(tmp_path))
        assert answer.status_code == 422
        assert "git" in answer.json()["detail"]

    def test_a_folder_outside_the_roots(self, as_admin: Client) -> None:
        answer = post(as_admin, "/api/projects", name="Root", repo_path="/")
        assert answer.status_code == 422
        assert "VIBE_REPO_ROOTS" in answer.json()["detail"]

    def test_a_repository_without_a_commit(self, as_admin: Client, tmp_path: Path) -> None:
        git(tmp_path, "init", "-q")
        answer = post(as_admin, "/api/projects", name="Empty", repo_path=str(tmp_path))
        assert answer.status_code == 422
        assert "commit" in answer.json()["detail"]

    def test_a_branch_that_does_not_exist(self, as_admin: Client, repository: Path) -> None:
        answer = post(as_admin, "/api/projects", repo_path=str(repository), target_branch="nope")
        assert answer.status_code == 422
        assert "'nope'" in answer.json()["detail"]
        assert not Project.objects.exists()

    def test_only_the_named_fields_change(self, as_admin: Client, project: Project) -> None:
        answer = patch(as_admin, f"/api/projects/{project.id}", copy_files=".env")
        assert answer.status_code == 200
        assert (answer.json()["copy_files"], answer.json()["name"]) == (".env", "Test")

    def test_members_by_id_and_by_name(
        self, as_admin: Client, project: Project, admin: User, member: User
    ) -> None:
        answer = patch(as_admin, f"/api/projects/{project.id}", members=[admin.pk, "member"])
        assert sorted(answer.json()["members"]) == sorted([admin.pk, member.pk])
        for name in ("nobody", "a\x00b", "\ud800", 10**30):
            assert patch(as_admin, f"/api/projects/{project.id}", members=[name]).status_code == 422

    def test_delete_leaves_the_repository(self, as_admin: Client, project: Project, task: Task) -> None:
        assert as_admin.delete(f"/api/projects/{project.id}").status_code == 204
        assert not Task.objects.exists()
        assert (Path(project.repo_path) / "README.md").exists()


class TestTasks:
    def test_a_new_task_stands_last_in_its_column(self, as_admin: Client, project: Project) -> None:
        first = post(as_admin, "/api/tasks", project_id=project.id, title="One").json()
        second = post(as_admin, "/api/tasks", project_id=project.id, title="Two").json()
        assert second["position"] > first["position"]
        assert (first["status"], first["description"], first["labels"]) == ("todo", "", [])

    def test_a_new_task_may_name_its_place(self, as_admin: Client, project: Project) -> None:
        answer = post(as_admin, "/api/tasks", project_id=project.id, title="One", position=7.5)
        assert (answer.status_code, answer.json()["position"]) == (201, 7.5)

    @pytest.mark.parametrize(
        "body",
        [
            {"title": ""},
            {"title": "   "},
            {"title": "x" * 501},
            {"title": None},
            {"title": "a\x00b"},
            {"status": "later"},
            {"position": "high"},
            {"position": 1e300},
            {"labels": ["x" * 51]},
            {"colour": "red"},
        ],
    )
    def test_bad_input_is_422_and_changes_nothing(
        self, as_admin: Client, project: Project, task: Task, body: dict[str, Any]
    ) -> None:
        before = Task.objects.values().get()
        assert patch(as_admin, f"/api/tasks/{task.id}", **body).status_code == 422
        assert Task.objects.values().get() == before
        made = {"project_id": str(project.id), "title": "Good", **body}
        assert post(as_admin, "/api/tasks", **made).status_code == 422
        assert Task.objects.count() == 1

    def test_broken_json_is_a_client_error(self, as_admin: Client) -> None:
        answer = as_admin.post("/api/tasks", "{", content_type=JSON)
        assert answer.status_code == 400
        assert "detail" in answer.json()

    def test_an_edit_of_an_older_text_is_refused_and_loses_nothing(
        self, as_admin: Client, task: Task
    ) -> None:
        address = f"/api/tasks/{task.id}"
        assert patch(as_admin, address, title="First", expected={"title": "A task"}).status_code == 200
        late = patch(as_admin, address, title="Second", expected={"title": "A task"})
        assert late.status_code == 409
        assert as_admin.get(address).json()["title"] == "First"
        # A move in the meantime is no conflict for an edit of the title.
        patch(as_admin, address, status="done")
        assert patch(as_admin, address, title="Third", expected={"title": "First"}).status_code == 200

    def test_a_card_moves_between_two_others(self, as_admin: Client, project: Project) -> None:
        ids = [post(as_admin, "/api/tasks", project_id=project.id, title=name).json()["id"] for name in "abc"]
        places = [task["position"] for task in as_admin.get("/api/tasks").json()]
        patch(as_admin, f"/api/tasks/{ids[2]}", position=(places[0] + places[1]) / 2)
        assert [task["title"] for task in as_admin.get("/api/tasks").json()] == ["a", "c", "b"]

    def test_two_cards_on_one_position_are_spread(self, as_admin: Client, project: Project) -> None:
        for name in "ab":
            post(as_admin, "/api/tasks", project_id=project.id, title=name)
        first, second = as_admin.get("/api/tasks").json()
        patch(as_admin, f"/api/tasks/{second['id']}", position=first["position"])
        positions = [task["position"] for task in as_admin.get("/api/tasks").json()]
        assert len(set(positions)) == 2

    def test_a_change_of_column_goes_to_its_end(self, as_admin: Client, project: Project, task: Task) -> None:
        done = post(as_admin, "/api/tasks", project_id=project.id, title="Done", status="done").json()
        moved = patch(as_admin, f"/api/tasks/{task.id}", status="done").json()
        assert moved["position"] > done["position"]

    def test_a_task_moves_to_another_project(self, as_admin: Client, task: Task, tmp_path: Path) -> None:
        other = post(as_admin, "/api/projects", repo_path=str(make_repository(tmp_path / "other"))).json()
        moved = patch(as_admin, f"/api/tasks/{task.id}", project_id=other["id"])
        assert moved.json()["project_id"] == other["id"]
        assert [found["id"] for found in as_admin.get(f"/api/tasks?project_id={other['id']}").json()] == [
            str(task.id)
        ]
        assert patch(as_admin, f"/api/tasks/{task.id}", project_id=str(task.id)).status_code == 404

    def test_a_task_with_attempts_stays_where_their_branches_are(
        self, as_admin: Client, task: Task, tmp_path: Path
    ) -> None:
        other = post(as_admin, "/api/projects", repo_path=str(make_repository(tmp_path / "other"))).json()
        task.attempts.create(executor="demo", branch="vibe/x", target_branch="main")
        assert patch(as_admin, f"/api/tasks/{task.id}", project_id=other["id"]).status_code == 409
        same = patch(as_admin, f"/api/tasks/{task.id}", project_id=str(task.project_id), title="New")
        assert same.json()["title"] == "New"

    def test_delete(self, as_admin: Client, task: Task) -> None:
        assert as_admin.delete(f"/api/tasks/{task.id}").status_code == 204
        assert as_admin.get(f"/api/tasks/{task.id}").status_code == 404


def test_the_api_page_needs_no_other_host(as_admin: Client) -> None:
    page = as_admin.get("/api/docs")
    assert page.status_code == 200
    assert b"//cdn" not in page.content
    assert as_admin.get("/api/openapi.json").status_code == 200
