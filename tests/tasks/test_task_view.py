"""The page of a task as the server renders it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from tasks.models import ExecutionProcess, Project, Task, TaskAttempt

pytestmark = pytest.mark.django_db


@pytest.fixture
def task(tmp_path: Path) -> Task:
    project = Project.objects.create(name="Shop", repo_path=str(tmp_path), target_branch="main")
    project.members.add(User.objects.create_user("ada"))
    return Task.objects.create(project=project, title="Sell <things>", description="**Now** </script>")


@pytest.fixture
def run(task: Task) -> ExecutionProcess:
    attempt = TaskAttempt.objects.create(task=task, executor="script", branch="vibe/1", target_branch="main")
    return ExecutionProcess.objects.create(task_attempt=attempt, run_reason="codingagent", prompt="</script>")


@pytest.fixture
def ada(client: Client, task: Task) -> Client:
    client.force_login(User.objects.get(username="ada"))
    return client


def state_of(html: str) -> Any:
    found = re.search(r'<script id="task-state" type="application/json">(.*?)</script>', html, re.S)
    assert found
    return json.loads(found[1])


PAGES = ("task", "task-compare", "task-description", "task-history")


@pytest.mark.parametrize("name", PAGES)
def test_who_is_no_member_sees_no_task(name: str, client: Client, task: Task) -> None:
    address = reverse(name, args=[task.pk])
    assert client.get(address).status_code == 302
    client.force_login(User.objects.create_user("eve"))
    assert client.get(address).status_code == 404


@pytest.mark.parametrize("name", PAGES)
def test_a_member_does(name: str, ada: Client, task: Task) -> None:
    assert ada.get(reverse(name, args=[task.pk])).status_code == 200


def test_the_page_carries_its_records_and_the_cursor_they_are_of(
    ada: Client, task: Task, run: ExecutionProcess
) -> None:
    html = ada.get(reverse("task", args=[task.pk])).content.decode()
    state = state_of(html)
    assert state["cursor"]
    assert state["task"]["title"] == "Sell <things>"
    assert [one["id"] for one in state["processes"]] == [str(run.pk)]
    assert state["processes"][0]["prompt"] == "</script>"
    assert "Sell &lt;things&gt;" in html
    assert "<strong>Now</strong> &lt;/script&gt;" in html


def test_nothing_is_inline_that_the_policy_forbids(ada: Client, task: Task) -> None:
    html = ada.get(reverse("task", args=[task.pk])).content.decode()
    assert not re.search(r'<script(?![^>]*(?:src=|type="application/json"))|\sstyle="|\son\w+="', html)


def test_a_reader_without_the_permission_may_start_nothing(ada: Client, task: Task) -> None:
    state = state_of(ada.get(reverse("task", args=[task.pk])).content.decode())
    assert not state["may_start"]
    assert state["executors"] == []


def test_whose_output_is_a_conversation(ada: Client, task: Task) -> None:
    state = state_of(ada.get(reverse("task", args=[task.pk])).content.decode())
    assert {"claude", "codex", "gemini", "opencode"} <= set(state["conversational"])
    assert "script" not in state["conversational"]


@pytest.mark.parametrize(
    ("status", "outcome", "executor", "query", "ahead"),
    [
        ("running", "open", "script", "", True),
        ("failed", "open", "script", "", True),
        ("completed", "open", "script", "", False),
        ("completed", "open", "script", "?view=log", True),
        ("completed", "discarded", "script", "", True),
        ("running", "open", "claude", "", False),
        ("running", "open", "script", "?view=history", False),
        ("queued", "open", "script", "", False),
    ],
)
def test_the_log_is_asked_for_ahead_where_it_is_what_opens(
    ada: Client, run: ExecutionProcess, status: str, outcome: str, executor: str, query: str, ahead: bool
) -> None:
    ExecutionProcess.objects.filter(pk=run.pk).update(status=status)
    TaskAttempt.objects.update(outcome=outcome, executor=executor)
    html = ada.get(reverse("task", args=[run.task_attempt.task_id]) + query).content.decode()
    assert (reverse("log-lines", args=[run.pk]) in html) is ahead


class TestColour:
    def ask(self, client: Client, body: Any) -> Any:
        return client.post(reverse("highlight"), json.dumps(body), content_type="application/json")

    def test_each_line_of_each_block_gets_its_runs(self, ada: Client) -> None:
        answer = self.ask(ada, {"file": "a.py", "blocks": [["def f():", '    """doc"""'], ["x"]]})
        first, second = answer.json()["blocks"]
        assert first[0][0] == ["keyword", 3]
        assert first[1][-1][0] == "comment"
        assert len(second) == 1

    def test_signed_out_nobody_gets_any(self, client: Client, db: None) -> None:
        assert self.ask(client, {"file": "a.py", "blocks": []}).status_code == 302

    @pytest.mark.parametrize(
        "body",
        [{}, {"file": "a.py"}, {"file": "a.py", "blocks": [["x"] * 50_001]}, [], {"file": 1, "blocks": 2}],
    )
    def test_what_cannot_be_coloured_is_refused(self, ada: Client, body: Any) -> None:
        assert self.ask(ada, body).status_code == 422
