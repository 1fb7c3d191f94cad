"""A run from the queue to its record, and what keeps it from starting."""

import errno
import os
import threading
import uuid
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.utils import timezone

from tasks import worktrees
from tasks.errors import Refused
from tasks.models import ExecutionProcess, Executor, Project, Task, TaskAttempt
from tasks.runs import endings, launch, run_loop, runfiles, runner
from tasks.runs.run_loop import Runner
from tasks.supervision.folder import RunFolder
from tasks.supervision.records import record
from tests.repositories import git
from tests.runs import wait_for
from tests.tasks import attempts
from tests.tasks.runner.conftest import (
    Status,
    agent,
    contents,
    ended,
    records,
    start,
    status_of,
    wait_for_line,
)

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_run_goes_from_queue_to_worktree_to_record(worker: Runner, task: Task) -> None:
    attempt = start(task, "echo hello; pwd; echo more > new.txt; git add . && git commit -qm work")
    assert status_of(task) == "inprogress"
    process = ended(agent(attempt))
    attempt.refresh_from_db()
    assert (process.status, process.exit_code) == (Status.COMPLETED, 0)
    assert contents(process) == ["hello", attempt.worktree]
    assert process.started_at and process.completed_at and process.started_at <= process.completed_at
    assert process.before_head_commit == attempt.base_commit
    assert process.after_head_commit == git(Path(attempt.worktree or ""), "rev-parse", "HEAD").strip()
    assert process.after_head_commit != process.before_head_commit
    assert status_of(task) == "inreview"


def test_a_failing_run_keeps_its_exit_code(worker: Runner, task: Task) -> None:
    process = ended(agent(start(task, "echo no >&2; exit 3")))
    assert (process.status, process.exit_code) == (Status.FAILED, 3)
    assert contents(process, "stderr") == ["no"]
    assert status_of(task) == "inreview"


def test_the_prompt_reaches_a_program_as_argument_or_on_standard_input(worker: Runner, task: Task) -> None:
    Executor.objects.create(name="says", argv=["/bin/echo", "it:{prompt}", "{session}"])
    Executor.objects.create(name="reads", argv=["/bin/cat"])
    said = ended(agent(start(task, "a {session} $HOME `x`", "says")))
    read = ended(agent(start(task, "line one\nline two", "reads")))
    assert contents(said) == ["it:a {session} $HOME `x` "]
    assert contents(read) == ["line one", "line two"]


def test_a_run_sees_no_secrets_of_the_server(
    worker: Runner, task: Task, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.setup_script = "env"
    project.save()
    for name in ("SECRET_KEY", "DATABASE_URL", "ANTHROPIC_API_KEY", "GIT_DIR", "ALLOWED_ONE"):
        monkeypatch.setenv(name, "hidden-word")
    Executor.objects.create(name="shows", argv=["/usr/bin/env"], env=["ALLOWED_*"])
    attempt = start(task, "", "shows")
    process, setup = ended(agent(attempt)), attempt.processes.get(run_reason="setupscript")
    assert [line for line in contents(process) if "hidden-word" in line] == ["ALLOWED_ONE=hidden-word"]
    assert f"VIBE_RUN={setup.pk}" in contents(setup)
    assert "hidden-word" not in str(contents(setup)), "what an agent is allowed is not for scripts"


def test_last_words_follow_whole_records_and_are_for_no_other_account() -> None:
    process = ExecutionProcess(pk=uuid.uuid4())
    folder = runfiles.folder_of(process.pk)
    folder.make()
    whole = record("stdout", "whole", "2999-01-01T00:00:00.000000Z")
    Path(folder.log).write_bytes(whole + whole[:20])
    runfiles.append(folder, "system", "The end,\nas git says.")
    assert [found["content"] for found in records(process)] == ["whole", "The end,", "as git says."]
    assert records(process)[1]["timestamp"] >= records(process)[0]["timestamp"], "though the clock went back"
    assert os.stat(folder.path).st_mode & 0o077 == 0


@pytest.mark.parametrize("prompt", [None, " \n"])
def test_without_a_prompt_the_agent_gets_title_and_description(task: Task, prompt: str | None) -> None:
    task.description = "In French."
    task.save()
    assert agent(runner.start_attempt(task, "demo", prompt, None, None)).prompt == "Say hello\n\nIn French."


def test_setup_then_agent_then_cleanup(
    worker: Runner, task: Task, project: Project, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_loop, "_POLL_SECONDS", 600)
    settings.VIBE_MAX_RUNS = 1
    project.setup_script, project.cleanup_script = "echo setup > order", "echo cleanup >> order"
    project.save()
    attempt = start(task, "echo agent >> order")
    next_one = start(task, "true")
    ended(agent(attempt))
    cleanup = wait_for(lambda: attempt.processes.filter(run_reason="cleanupscript").first(), "the cleanup")
    ended(cleanup)
    attempt.refresh_from_db()
    assert Path(attempt.worktree or "", "order").read_text().split() == ["setup", "agent", "cleanup"]
    assert [p.run_reason for p in attempt.processes.order_by("started_at")] == [
        "setupscript",
        "codingagent",
        "cleanupscript",
    ]
    begun = next_one.processes.exclude(started_at=None)
    wait_for(begun.exists, "the start of the next attempt")
    cleanup.refresh_from_db()
    assert cleanup.started_at < begun.get().started_at, "the cleanup belongs to a run that has had its turn"


def test_no_cleanup_after_an_agent_that_changed_nothing(worker: Runner, task: Task, project: Project) -> None:
    project.setup_script, project.cleanup_script = "echo setup > order", "echo cleanup >> order"
    project.save()
    attempt = start(task, "cat order")
    assert ended(agent(attempt)).status == Status.COMPLETED
    ended(agent(start(task, "true")))  # by now the cleanup would have run
    assert not attempt.processes.filter(run_reason="cleanupscript").exists()


@pytest.mark.parametrize(
    ("setup", "does", "cleanups"),
    [("", "true", 0), ("", "git commit -q --allow-empty -m new", 1), ("echo > new", "true", 1)],
)
def test_a_cleanup_that_is_younger_than_the_run_follows_what_is_not_in_its_first_commit(
    worker: Runner, task: Task, project: Project, tmp_path: Path, setup: str, does: str, cleanups: int
) -> None:
    project.setup_script = setup
    project.save()
    run = agent(start(task, f'while [ ! -e "{tmp_path}/gate" ]; do sleep 0.05; done; {does}'))
    wait_for(lambda: runfiles.folder_of(run.pk).read(runfiles.folder_of(run.pk).state), "the start")
    Project.objects.filter(pk=project.pk).update(cleanup_script="true")
    (tmp_path / "gate").touch()
    ended(run)
    assert run.task_attempt.processes.filter(run_reason="cleanupscript").count() == cleanups


@pytest.mark.parametrize("cleanup", ["", "echo cleaned"])
def test_a_git_filter_that_does_not_end_holds_up_the_runner_only_for_a_while(
    worker: Runner, task: Task, project: Project, cleanup: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endings, "PATIENCE", 1.0)
    Project.objects.filter(pk=project.pk).update(cleanup_script=cleanup)
    process = agent(
        start(task, "git config filter.stuck.clean 'sleep 600'; echo '* filter=stuck' > .gitattributes")
    )
    assert ended(process).status == Status.COMPLETED
    followed = process.task_attempt.processes.filter(run_reason="cleanupscript")
    assert followed.exists() == bool(cleanup)
    if cleanup:
        assert contents(ended(followed.get())) == ["cleaned"]


def test_an_agent_does_not_start_after_a_failed_setup(worker: Runner, task: Task, project: Project) -> None:
    project.setup_script = "echo broken >&2; exit 2"
    project.save()
    process = ended(agent(start(task, "echo never")))
    assert process.status == Status.FAILED
    assert contents(process, "error") == ["Not started: the setup script failed. Its log says why."]
    wait_for(lambda: status_of(task) == "inreview", "the task's move")


def test_stop_ends_a_run_once_however_often_it_is_asked(worker: Runner, task: Task, user: User) -> None:
    process = agent(start(task, "trap '' INT TERM; echo ready; while :; do sleep 0.1; done"))
    wait_for_line(process, "ready")
    threads = [threading.Thread(target=_stop_in_thread, args=(process, user)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ended(process).status == Status.KILLED
    assert contents(process, "system") == ["Stopped by ada."]
    runner.stop(process, user)
    assert ended(process).status == Status.KILLED
    assert status_of(task) == "inreview"


def _stop_in_thread(process: ExecutionProcess, user: User) -> None:
    try:
        runner.stop(process, user)
    finally:
        connection.close()


def test_a_waiting_run_can_be_stopped_before_it_starts(worker: Runner, task: Task, settings: Any) -> None:
    settings.VIBE_MAX_RUNS = 1
    first, second = agent(start(task, "sleep 60")), agent(start(task, "echo never"))
    wait_for(lambda: ExecutionProcess.objects.get(pk=first.pk).status == Status.RUNNING, "the first run")
    runner.stop(second, None)
    assert ended(second).status == Status.KILLED
    assert contents(second, "system") == ["Stopped by the board before it started."]
    runner.stop(first, None)
    ended(first)


def test_a_waiting_run_ends_once_however_many_end_it(worker: Runner, task: Task, settings: Any) -> None:
    settings.VIBE_MAX_RUNS = 1
    first, second = agent(start(task, "sleep 60")), agent(start(task, "echo never"))
    wait_for(lambda: ExecutionProcess.objects.get(pk=first.pk).status == Status.RUNNING, "the first run")
    waiting = ExecutionProcess.objects.get(pk=second.pk)
    threads = [threading.Thread(target=_end_in_thread, args=(waiting,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ended(second).status == Status.KILLED
    assert contents(second, "system") == ["Stopped before it started."]
    runner.stop(first, None)
    ended(first)


def _end_in_thread(process: ExecutionProcess) -> None:
    try:
        launch.end_waiting(process)
    finally:
        connection.close()


@pytest.mark.parametrize("waits", [True, False])
def test_a_stop_that_cannot_be_carried_out_yet_does_not_keep_the_runner_busy(
    task: Task, monkeypatch: pytest.MonkeyPatch, waits: bool
) -> None:
    attempt = start(task, "never")
    run = runfiles.folder_of(agent(attempt).pk)
    attempt.processes.update(
        status=Status.QUEUED if waits else Status.RUNNING, stop_requested_at=timezone.now()
    )

    def on_a_full_disk(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(RunFolder, "write", on_a_full_disk)
    held = run.acquire()
    assert held is not None
    worker = Runner()
    worker.recover()
    assert worker.step() is False
    os.close(held)


def test_runs_above_the_limit_wait_in_order(worker: Runner, task: Task, settings: Any) -> None:
    settings.VIBE_MAX_RUNS = 2
    attempts = [start(task, "sleep 0.4") for _ in range(5)]
    most = 0

    def all_ended() -> bool:
        nonlocal most
        most = max(most, ExecutionProcess.objects.filter(status=Status.RUNNING).count())
        return not ExecutionProcess.objects.filter(status__in=[Status.QUEUED, Status.RUNNING]).exists()

    wait_for(all_ended, "the end of all runs")
    assert most == 2
    order = ExecutionProcess.objects.order_by("started_at").values_list("task_attempt", flat=True)
    assert list(order) == [attempt.pk for attempt in attempts]


def test_a_waiting_run_is_stopped_without_a_runner_and_by_who_asked_first(task: Task) -> None:
    process = agent(start(task, "echo never"))
    launch.write_stop(runfiles.folder_of(process.pk), "Stopped by ada.")
    runner.stop(process, None)
    process.refresh_from_db()
    assert process.status == Status.KILLED
    assert contents(process, "system") == ["Stopped by ada before it started."]


def test_a_run_is_claimed_once_and_not_after_it_was_stopped(task: Task) -> None:
    first, second = agent(start(task, "true")), agent(start(task, "true"))
    ExecutionProcess.objects.filter(pk=second.pk).update(stop_requested_at=timezone.now())
    assert [launch.claim(first), launch.claim(first), launch.claim(second)] == [True, False, False]


def test_a_run_ends_at_its_time_limit(worker: Runner, task: Task, settings: Any) -> None:
    settings.VIBE_RUN_TIMEOUT_SECONDS = 0.5
    process = ended(agent(start(task, "sleep 60")))
    assert process.status == Status.FAILED
    assert contents(process, "system") == ["The run was stopped after its time limit of 0.5 seconds."]


@pytest.mark.parametrize("status", ["done", "cancelled"])
def test_a_run_that_ends_leaves_a_finished_task_where_it_is(task: Task, status: str) -> None:
    attempt = TaskAttempt.objects.create(task=task, executor="demo", branch="x", target_branch="main")
    run = attempt.processes.create(run_reason="codingagent", status="running")
    Task.objects.filter(pk=task.pk).update(status=status)
    assert endings.record_end(run, {"reason": "exited", "exit_code": 0})
    task.refresh_from_db()
    assert task.status == status


@pytest.fixture
def cleaned(task: Task, project: Project) -> ExecutionProcess:
    """A run of an agent that a cleanup script is to follow."""
    project.cleanup_script = "true"
    project.save()
    run = attempts.start(task).processes.create(run_reason="codingagent", status="running")
    runfiles.folder_of(run.pk).make()
    return run


def cleanups_after(run: ExecutionProcess, **how: Any) -> int:
    assert endings.record_end(run, how)
    return run.task_attempt.processes.filter(run_reason="cleanupscript").count()


@pytest.mark.parametrize(("reason", "cleanups"), [("stopped", 0), ("timeout", 1)])
def test_the_cleanup_does_not_follow_an_agent_that_was_stopped(
    cleaned: ExecutionProcess, reason: str, cleanups: int
) -> None:
    endings.remember_before(cleaned, runfiles.folder_of(cleaned.pk))
    Path(cleaned.task_attempt.worktree or "", "new").touch()
    assert cleanups_after(cleaned, reason=reason) == cleanups


def test_no_cleanup_follows_where_the_worktree_was_removed_meanwhile(cleaned: ExecutionProcess) -> None:
    endings.remember_before(cleaned, runfiles.folder_of(cleaned.pk))
    cleaned.task_attempt.worktree = None
    assert cleanups_after(cleaned, reason="exited", exit_code=1) == 0


@pytest.mark.parametrize("began", [True, False])
def test_a_cleanup_follows_a_run_that_began_also_on_a_branch_without_a_commit(
    cleaned: ExecutionProcess, began: bool
) -> None:
    worktree = Path(cleaned.task_attempt.worktree or "")
    git(worktree, "checkout", "-q", "--orphan", "empty")
    folder = runfiles.folder_of(cleaned.pk)
    if began:
        folder.write(folder.state, {})
    assert cleanups_after(cleaned, reason="exited", exit_code=0) == began


# -- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "words"), [("no-such", "There is no executor called 'no-such'"), ("off", "off")]
)
def test_an_executor_that_cannot_be_started_is_refused(task: Task, name: str, words: str) -> None:
    Executor.objects.create(name="off", argv=["/bin/true"], enabled=False)
    with pytest.raises(Refused, match=words):
        start(task, "x", name)
    assert not TaskAttempt.objects.exists()


def test_a_shipped_agent_that_is_not_installed_is_refused(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    with pytest.raises(Refused, match="'opencode' is not installed: opencode is not on the PATH"):
        start(task, "x", "opencode")


def test_a_program_that_cannot_start_fails_with_a_line_in_its_log(worker: Runner, task: Task) -> None:
    Executor.objects.create(name="broken", argv=["/no/such/program"])
    attempt = start(task, "x", "broken")
    process = ended(agent(attempt))
    assert (process.status, process.exit_code) == (Status.FAILED, None)
    assert contents(process, "error") == ["Cannot start /no/such/program: No such file or directory."]
    assert status_of(task) == "inreview"


def test_an_unknown_target_branch_is_refused(task: Task) -> None:
    with pytest.raises(Refused, match="no branch 'nowhere'"):
        runner.start_attempt(task, "script", "x", "nowhere", None)


def test_a_branch_that_vanishes_meanwhile_fails_the_run_and_leaves_nothing(
    task: Task, project: Project, data_folder: Path
) -> None:
    repository = Path(project.repo_path)
    git(repository, "branch", "gone")
    attempt = runner.start_attempt(task, "script", "x", "gone", None)
    git(repository, "branch", "-D", "gone")
    worker = Runner()
    worker.start()
    process = ended(agent(attempt))
    worker.stop()
    attempt.refresh_from_db()
    assert process.status == Status.FAILED
    assert "no branch 'gone'" in contents(process, "error")[0]
    assert attempt.worktree is None
    assert not list(data_folder.glob("worktrees/*"))
    assert "vibe/" not in git(repository, "branch", "--list")


def test_a_branch_that_exists_fails_the_runs_and_stays_as_it_is(
    task: Task, project: Project, data_folder: Path
) -> None:
    project.setup_script = "true"
    project.save()
    repository = Path(project.repo_path)
    attempt = start(task, "true")
    branch = worktrees.branch_of(attempt.pk, task.title)
    tree = git(repository, "rev-parse", "main^{tree}").strip()
    mine = git(repository, "commit-tree", "-m", "mine", "-p", "main", tree).strip()
    git(repository, "update-ref", f"refs/heads/{branch}", mine)
    worker = Runner()
    worker.start()
    process, setup = ended(agent(attempt)), attempt.processes.get(run_reason="setupscript")
    worker.stop()
    assert process.status == setup.status == Status.FAILED
    why = f"There is a branch {branch} with commits of its own already."
    assert (contents(setup, "error"), contents(process, "error")) == ([why], [f"Not started: {why}"])
    assert git(repository, "rev-parse", branch).strip() == mine
    assert not list(data_folder.glob("worktrees/*"))
