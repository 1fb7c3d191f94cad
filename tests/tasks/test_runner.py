"""The runner on real git, real processes and a real database."""

import os
import signal
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.utils import timezone

from tasks import worktrees
from tasks.errors import Refused
from tasks.models import ExecutionProcess, Executor, Project, Task, TaskAttempt
from tasks.runs import endings, launch, runfiles, runner
from tasks.runs.run_loop import Runner
from tasks.supervision.records import record
from tests.repositories import git, make_repository
from tests.runs import Run, is_gone, wait_for
from tests.tasks import attempts

pytestmark = pytest.mark.django_db(transaction=True)
Status = ExecutionProcess.Status


@pytest.fixture(autouse=True)
def data_folder(settings: Any, tmp_path: Path) -> Path:
    settings.VIBE_DATA = tmp_path / "data"
    settings.VIBE_STOP_GRACE_SECONDS = 0.5
    settings.VIBE_REPO_ROOTS = [tmp_path]
    return Path(settings.VIBE_DATA)


@pytest.fixture
def worker(data_folder: Path) -> Iterator[Runner]:
    runner.start()
    yield runner.runner
    runner.stop_runner()
    for process in ExecutionProcess.objects.filter(status=Status.RUNNING):
        launch.write_stop(runfiles.folder_of(process.pk), "The test is over.")
        launch.signal_stop(runfiles.folder_of(process.pk))
        wait_for(lambda p=process: os.path.exists(runfiles.folder_of(p.pk).exit), "the end of a left run")


@pytest.fixture
def project(tmp_path: Path, db: None) -> Project:
    repository = make_repository(tmp_path / "repository")
    return Project.objects.create(name="Test", repo_path=str(repository), target_branch="main")


@pytest.fixture
def task(project: Project) -> Task:
    return Task.objects.create(project=project, title="Say hello")


@pytest.fixture
def user(db: None) -> User:
    return User.objects.create_superuser("ada")


def start(task: Task, script: str, executor: str = "script") -> TaskAttempt:
    return runner.start_attempt(task, executor, script, None, None)


def agent(attempt: TaskAttempt, index: int = 0) -> ExecutionProcess:
    rows = attempt.processes.filter(run_reason="codingagent").order_by("created_at")
    return rows.select_related("task_attempt")[index]


def ended(process: ExecutionProcess) -> ExecutionProcess:
    def look() -> bool:
        process.refresh_from_db()
        return process.ended

    wait_for(look, f"the end of {process}")
    return process


def worktree_of(attempt: TaskAttempt) -> Path:
    def look() -> bool:
        attempt.refresh_from_db()
        return bool(attempt.worktree)

    wait_for(look, "the worktree")
    return Path(attempt.worktree or "")


def records(process: ExecutionProcess) -> list[dict[str, Any]]:
    path = Path(runfiles.folder_of(process.pk).log)
    return [orjson.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def contents(process: ExecutionProcess, kind: str = "stdout") -> list[str]:
    return [record["content"] for record in records(process) if record["type"] == kind]


def wait_for_line(process: ExecutionProcess, line: str) -> None:
    wait_for(lambda: line in contents(process), f"the line {line!r}")


def status_of(task: Task) -> str:
    task.refresh_from_db()
    return task.status


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
    runfiles.append(folder, "system", "The end.")
    assert [found["content"] for found in records(process)] == ["whole", "The end."]
    assert records(process)[1]["timestamp"] >= records(process)[0]["timestamp"], "though the clock went back"
    assert os.stat(folder.path).st_mode & 0o077 == 0


def test_without_a_prompt_the_agent_gets_title_and_description(task: Task) -> None:
    task.description = "In French."
    task.save()
    assert agent(runner.start_attempt(task, "demo", None, None, None)).prompt == "Say hello\n\nIn French."


def test_setup_then_agent_then_cleanup(worker: Runner, task: Task, project: Project, settings: Any) -> None:
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


def test_a_branch_that_exists_fails_the_run_and_stays_as_it_is(
    task: Task, project: Project, data_folder: Path
) -> None:
    repository = Path(project.repo_path)
    attempt = start(task, "true")
    branch = worktrees.branch_of(attempt.pk, task.title)
    tree = git(repository, "rev-parse", "main^{tree}").strip()
    mine = git(repository, "commit-tree", "-m", "mine", "-p", "main", tree).strip()
    git(repository, "update-ref", f"refs/heads/{branch}", mine)
    worker = Runner()
    worker.start()
    process = ended(agent(attempt))
    worker.stop()
    assert process.status == Status.FAILED
    assert contents(process, "error") == [f"There is a branch {branch} with commits of its own already."]
    assert git(repository, "rev-parse", branch).strip() == mine
    assert not list(data_folder.glob("worktrees/*"))


def test_a_deleted_worktree_refuses_a_follow_up(worker: Runner, task: Task) -> None:
    attempt = start(task, "true")
    ended(agent(attempt))
    attempt.refresh_from_db()
    os.rename(attempt.worktree or "", f"{attempt.worktree}.away")
    with pytest.raises(Refused, match="is gone: somebody deleted it"):
        runner.follow_up(attempt, "more", None)


# -- follow-ups, dev server --------------------------------------------------------------------


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


# -- coming back -------------------------------------------------------------------------------


def test_a_new_runner_follows_what_the_old_one_left_running(worker: Runner, task: Task) -> None:
    process = agent(start(task, "echo ready; while [ ! -e go ]; do sleep 0.1; done; exit 4"))
    wait_for_line(process, "ready")
    worker.stop()
    process.refresh_from_db()
    assert process.status == Status.RUNNING
    worker.start()
    worktree_of(process.task_attempt).joinpath("go").touch()
    assert (ended(process).status, process.exit_code) == (Status.FAILED, 4)


def test_a_run_that_ended_meanwhile_gets_its_true_exit_code(worker: Runner, task: Task) -> None:
    process = agent(start(task, "echo ready; sleep 0.5; exit 6"))
    wait_for_line(process, "ready")
    worker.stop()
    wait_for(lambda: os.path.exists(runfiles.folder_of(process.pk).exit), "the end")
    worker.start()
    assert (ended(process).status, process.exit_code) == (Status.FAILED, 6)


@pytest.mark.parametrize("status", ["done", "cancelled"])
def test_a_run_that_ends_leaves_a_finished_task_where_it_is(task: Task, status: str) -> None:
    attempt = TaskAttempt.objects.create(task=task, executor="demo", branch="x", target_branch="main")
    run = attempt.processes.create(run_reason="codingagent", status="running")
    Task.objects.filter(pk=task.pk).update(status=status)
    assert endings.record_end(run, {"reason": "exited", "exit_code": 0})
    task.refresh_from_db()
    assert task.status == status


@pytest.mark.parametrize(("how", "cleanups"), [({"reason": "stopped"}, 0), ({"reason": "timeout"}, 1)])
def test_the_cleanup_does_not_follow_an_agent_that_was_stopped(
    task: Task, project: Project, how: dict[str, Any], cleanups: int
) -> None:
    project.cleanup_script = "true"
    project.save()
    attempt = attempts.start(task)
    run = attempt.processes.create(run_reason="codingagent", status="running")
    folder = runfiles.folder_of(run.pk)
    folder.make()
    endings.remember_before(run, folder)
    Path(attempt.worktree or "", "new").touch()
    assert endings.record_end(run, how)
    assert attempt.processes.filter(run_reason="cleanupscript").count() == cleanups


def test_a_run_claimed_but_never_started_waits_again(task: Task) -> None:
    attempt = start(task, "echo fine")
    process = agent(attempt)
    ExecutionProcess.objects.filter(pk=process.pk).update(status=Status.RUNNING)
    worker = Runner()
    worker.start()
    assert contents(ended(process)) == ["fine"]
    worker.stop()


def test_a_supervisor_that_is_late_to_say_so_has_started_all_the_same(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = agent(start(task, "true"))
    assert launch.claim(process)
    run = Run(Path(runfiles.folder_of(process.pk).path), "sleep", "600").start()
    monkeypatch.setattr(launch, "_START_SECONDS", 0)
    assert launch.launch(process)
    process.refresh_from_db()
    assert process.status == Status.RUNNING
    run.stop()
    assert run.finish()["reason"] == "stopped"


def test_a_run_whose_supervisor_was_killed_is_interrupted(worker: Runner, task: Task) -> None:
    process = agent(
        start(
            task,
            "(trap '' INT TERM HUP; setsid sleep 600) & echo $!; env -i sleep 600 & echo $!; echo ready; wait",
        )
    )
    wait_for_line(process, "ready")
    state = runfiles.folder_of(process.pk).read(runfiles.folder_of(process.pk).state) or {}
    os.kill(state["pid"], signal.SIGKILL)
    assert (ended(process).status, process.exit_code) == (Status.INTERRUPTED, None)
    assert "supervisor died" in contents(process, "system")[-1]
    wait_for(lambda: is_gone(state["child"]), "the end of the child")
    for pid in contents(process)[:2]:
        wait_for(
            lambda pid=pid: is_gone(int(pid)), "the end of a grandchild, found by its session or environment"
        )


def test_deleting_the_record_stops_the_run(worker: Runner, task: Task) -> None:
    process = agent(start(task, "echo ready; sleep 600"))
    wait_for_line(process, "ready")
    folder = runfiles.folder_of(process.pk)
    child = (folder.read(folder.state) or {})["child"]
    task.delete()
    # Well before the first round of tidying up, which would find it too.
    wait_for(lambda: is_gone(child), "the end of the child", 20)
    wait_for(lambda: worker.health.running == 0, "the end of watching it", 20)


def test_a_run_whose_record_was_ended_by_hand_is_watched_to_its_end(worker: Runner, task: Task) -> None:
    """And no longer: what has ended wakes the runner again and again for as long as it is watched."""
    process = agent(start(task, "echo ready; while [ ! -e go ]; do sleep 0.1; done"))
    wait_for_line(process, "ready")
    wait_for(lambda: worker.health.running == 1, "the watching")
    ExecutionProcess.objects.filter(pk=process.pk).update(status=Status.FAILED)
    worktree_of(process.task_attempt).joinpath("go").touch()
    wait_for(lambda: worker.health.running == 0, "the end of watching it", 20)
    assert os.path.exists(runfiles.folder_of(process.pk).exit)


def test_two_runners_take_turns(worker: Runner, task: Task) -> None:
    other = Runner()
    other.start()
    process = agent(start(task, "echo once"))
    assert contents(ended(process)) == ["once"]
    assert not other.health.alive
    other.stop()


def test_a_crash_is_seen_and_the_runner_starts_again(task: Task, data_folder: Path) -> None:
    class Stumbling(Runner):
        stumbled = False

        def step(self) -> bool:
            if not self.stumbled:
                self.stumbled = True
                raise RuntimeError("stumbled")
            return super().step()

    worker = Stumbling()
    worker.start()
    process = agent(start(task, "echo fine"))
    assert contents(ended(process)) == ["fine"]
    assert (worker.health.crashes, worker.health.last_error) == (1, "RuntimeError: stumbled")
    worker.stop()
