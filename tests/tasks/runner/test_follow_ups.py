"""What an attempt runs after its first agent, or beside it."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson
import pytest
from django.db import connection

from tasks import projects
from tasks.errors import Refused
from tasks.models import ExecutionProcess, Executor, Project, Task, TaskAttempt
from tasks.runs import runfiles, runner
from tasks.runs.run_loop import Runner
from tests.repositories import git
from tests.runs import wait_for
from tests.tasks.runner.conftest import (
    Status,
    agent,
    contents,
    ended,
    start,
    status_of,
    wait_for_line,
    worktree_of,
)

pytestmark = pytest.mark.django_db(transaction=True)


def test_what_follows_on_a_deleted_worktree_fails_and_its_log_says_why(
    worker: Runner, task: Task, project: Project
) -> None:
    project.dev_script = "echo serving"
    project.save()
    attempt = start(task, "true")
    ended(agent(attempt))
    folder = worktree_of(attempt)
    os.rename(folder, f"{folder}.away")
    for process in (runner.follow_up(attempt, "more", None), runner.start_devserver(attempt, None)):
        assert ended(process).status == Status.FAILED
        [said] = contents(process, "error")
        assert f"The worktree {folder} is gone: somebody deleted it." in said
    assert status_of(task) == "inreview"
    assert not folder.exists()


@pytest.mark.parametrize("cleanup", ["", "echo cleaned"])
def test_no_agent_starts_where_git_does_not_work(
    worker: Runner, task: Task, project: Project, cleanup: str
) -> None:
    project.cleanup_script = cleanup
    project.save()
    attempt = start(task, "true")
    ended(agent(attempt))
    os.rename(project.repo_path, f"{project.repo_path}.away")
    more = ended(runner.follow_up(attempt, "echo working", None))
    assert more.status == Status.FAILED
    assert "git cannot work in the worktree: not a git repository" in contents(more, "error")[0]
    assert not contents(more)


def test_the_cleanup_of_a_worktree_that_its_agent_deleted_says_so(
    worker: Runner, task: Task, project: Project
) -> None:
    project.cleanup_script = "echo cleaned"
    project.save()
    attempt = start(task, 'rm -rf "$PWD"')
    ended(agent(attempt))
    cleanup = ended(attempt.processes.get(run_reason="cleanupscript"))
    assert cleanup.status == Status.FAILED
    assert "is gone: somebody deleted it" in contents(cleanup, "error")[0]


def test_a_worktree_without_its_git_never_stands_for_the_repository_around_it(
    worker: Runner, task: Task, settings: Any
) -> None:
    around = Path(settings.VIBE_DATA)
    git(around, "init", "-q")
    try:
        attempt = start(
            task, "rm .git; git add -A . && git commit -q -m stolen; git rev-parse --show-toplevel"
        )
        first = ended(agent(attempt))
        assert first.status == "failed"
        assert "not a git repository" in "".join(contents(first, "stderr"))
        more = ended(runner.follow_up(attempt, "more", None))
        assert "is gone: somebody deleted it" in contents(more, "error")[0]
        assert not git(around, "ls-files") and not git(around, "for-each-ref")
        again = runner.start_attempt(task, "script", "while [ ! -e go ]; do sleep 0.1; done", None, None)
        waiting = runner.follow_up(again, "git add -A .", None)
        worktree_of(again).joinpath(".git").unlink()
        worktree_of(again).joinpath("go").touch()
        assert ended(waiting).status == "failed"
        assert "is gone: somebody deleted it" in contents(waiting, "error")[0]
        assert not git(around, "ls-files")
    finally:
        shutil.rmtree(around / ".git")


def test_a_follow_up_runs_in_the_same_worktree(worker: Runner, task: Task) -> None:
    attempt = start(task, "echo one > file")
    ended(agent(attempt))
    second = runner.follow_up(attempt, "cat file", None)
    assert status_of(task) == "inprogress"
    assert contents(ended(second)) == ["one"]
    assert status_of(task) == "inreview"


def test_one_follow_up_waits_and_can_be_edited_and_taken_back(worker: Runner, task: Task) -> None:
    attempt = start(task, "while [ ! -e go ]; do sleep 0.1; done")
    first = agent(attempt)
    wait_for(lambda: ExecutionProcess.objects.get(pk=first.pk).status == Status.RUNNING, "the first run")
    waiting = runner.follow_up(attempt, "echo once", None)
    with pytest.raises(Refused, match="waits already"):
        runner.follow_up(attempt, "echo twice", None)
    runner.withdraw(waiting)
    assert not ExecutionProcess.objects.filter(pk=waiting.pk).exists()
    waiting = runner.follow_up(attempt, "echo wrong", None)
    runner.edit_queued(waiting, "echo right")
    worktree_of(attempt).joinpath("go").touch()
    assert contents(ended(waiting)) == ["right"]
    with pytest.raises(Refused, match="does not wait any more"):
        runner.edit_queued(waiting, "echo late")
    with pytest.raises(Refused, match="does not wait any more"):
        runner.withdraw(waiting)


def test_a_follow_up_that_is_taken_back_leaves_the_card_in_review(task: Task) -> None:
    attempt = start(task, "true")
    attempt.processes.update(status=Status.COMPLETED)
    waiting = runner.follow_up(attempt, "more", None)
    assert status_of(task) == "inprogress"
    runner.withdraw(waiting)
    assert status_of(task) == "inreview"


def test_a_card_that_a_start_moves_stands_where_one_that_a_person_moves_would(task: Task) -> None:
    other = projects.create_task(task.project, {"title": "Other", "status": "inprogress"})
    start(task, "true")
    task.refresh_from_db()
    assert task.position == other.position + projects.GAP


def test_nothing_is_queued_in_an_attempt_that_was_merged_a_moment_ago(task: Task) -> None:
    Project.objects.update(dev_script="true")
    attempt = start(Task.objects.get(pk=task.pk), "true")
    attempt.processes.update(status=Status.COMPLETED)
    Task.objects.filter(pk=task.pk).update(status="done")

    def merge_first(execute: Any, sql: str, *arguments: Any) -> Any:
        if sql.startswith("BEGIN"):
            with ThreadPoolExecutor(1) as another:
                another.submit(merge).result(20)
        return execute(sql, *arguments)

    def merge() -> None:
        TaskAttempt.objects.filter(pk=attempt.pk).update(outcome="merged")
        connection.close()

    for queue in (
        lambda: runner.follow_up(attempt, "more", None),
        lambda: runner.start_devserver(attempt, None),
    ):
        TaskAttempt.objects.filter(pk=attempt.pk).update(outcome="open")
        with connection.execute_wrapper(merge_first), pytest.raises(Refused, match="is merged"):
            queue()
    assert status_of(task) == "done"
    assert not attempt.processes.filter(status=Status.QUEUED).exists()


@pytest.mark.parametrize("reason", ["setupscript", "cleanupscript", "devserver"])
def test_a_follow_up_that_is_taken_back_while_no_agent_runs_leaves_the_card_in_review(
    task: Task, reason: str
) -> None:
    attempt = start(task, "true")
    attempt.processes.update(status=Status.COMPLETED)
    ExecutionProcess.objects.create(task_attempt=attempt, run_reason=reason, status=Status.RUNNING)
    runner.withdraw(runner.follow_up(attempt, "more", None))
    assert status_of(task) == "inreview"


def test_a_development_server_that_is_taken_back_leaves_the_card_where_it_is(task: Task) -> None:
    Project.objects.update(dev_script="true")
    attempt = start(Task.objects.get(pk=task.pk), "true")
    attempt.processes.update(status=Status.COMPLETED)
    Task.objects.filter(pk=task.pk).update(status="todo")
    runner.withdraw(runner.start_devserver(attempt, None))
    assert status_of(task) == "todo"


def test_a_follow_up_waits_for_the_setup_that_failed_before(
    worker: Runner, task: Task, project: Project
) -> None:
    project.setup_script = "exit 2"
    project.save()
    attempt = start(task, "echo never")
    ended(agent(attempt))
    script = "echo begun; while [ ! -e go ]; do sleep 0.1; done"
    Project.objects.filter(pk=project.pk).update(setup_script=script)
    second = runner.follow_up(TaskAttempt.objects.get(pk=attempt.pk), "echo set up", None)
    setup = attempt.processes.filter(run_reason="setupscript").latest("created_at")
    wait_for_line(setup, "begun")
    second.refresh_from_db()
    assert second.status == Status.QUEUED
    worktree_of(attempt).joinpath("go").touch()
    assert contents(ended(second)) == ["set up"]


def test_a_follow_up_continues_the_agents_own_session(worker: Runner, task: Task) -> None:
    said = '{"type":"system","subtype":"init","session_id":"abc-1","model":"m"}'
    Executor.objects.create(
        name="talker",
        argv=["/bin/sh", "-c", f"echo '{said}'"],
        resume_argv=["/bin/echo", "resumed {session}: {prompt}"],
        output_format="claude",
    )
    attempt = start(task, "hello", "talker")
    ended(agent(attempt))
    attempt.refresh_from_db()
    assert attempt.session_id == "abc-1"
    assert contents(ended(runner.follow_up(attempt, "and now?", None))) == ["resumed abc-1: and now?"]


def test_a_dev_server_runs_beside_and_stops_with_the_attempt(
    worker: Runner, task: Task, project: Project, settings: Any
) -> None:
    settings.VIBE_MAX_RUNS = 2
    project.dev_script = "echo serving; exec sleep 600"
    project.save()
    attempt = start(task, "sleep 600")
    process = runner.start_devserver(attempt, None)
    with pytest.raises(Refused, match="runs already"):
        runner.start_devserver(attempt, None)
    wait_for_line(process, "serving")
    spec = orjson.loads(Path(runfiles.folder_of(process.pk).spec).read_bytes())
    assert spec["timeout"] is None, "a server has no time limit"
    assert contents(ended(agent(start(task, "echo there is a place")))) == ["there is a place"]
    attempt.outcome = TaskAttempt.Outcome.DISCARDED
    attempt.save()
    assert ended(process).status == Status.KILLED
    assert ended(agent(attempt)).status == Status.KILLED
