"""Runners that end, crash or come back, and runs that go on, or end, without them."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tasks.models import ExecutionProcess, Task
from tasks.runs import launch, runfiles
from tasks.runs.run_loop import Runner
from tasks.supervision import processes
from tests.runs import Run, goes_on, is_gone, wait_for
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
    assert status_of(task) == "inreview"
    assert "supervisor died" in contents(process, "system")[-1]
    wait_for(lambda: is_gone(state["child"]), "the end of the child")
    for pid in contents(process)[:2]:
        wait_for(
            lambda pid=pid: is_gone(int(pid)), "the end of a grandchild, found by its session or environment"
        )


@pytest.mark.parametrize(
    ("name", "forged"),
    [
        ("exit.json", '{"reason": "exited", "exit_code": "x", "ended_at": "2026-13-01T00:00:00Z"}'),
        ("exit.json", '{"exit_code": 1e99, "ended_at": []}'),
        ("supervisor.json", '{"pid": "x", "child": [], "child_start_time": {}}'),
        ("supervisor.json", "[" * 100_000),
        ("supervisor.json", ""),
    ],
)
def test_what_a_run_writes_beside_its_log_holds_up_no_other(task: Task, name: str, forged: str) -> None:
    process = agent(start(task, "echo never"))
    ExecutionProcess.objects.filter(pk=process.pk).update(status=Status.RUNNING)
    folder = runfiles.folder_of(process.pk)
    folder.make()
    if forged:
        Path(folder.file(name)).write_text(forged)
    else:
        os.mkfifo(folder.file(name))
        os.mkfifo(folder.log)
        Path(folder.exit).mkdir()
    Runner().recover()
    process.refresh_from_db()
    assert process.status != Status.RUNNING


@pytest.mark.parametrize("leader_lives", [True, False])
def test_a_session_that_has_the_number_of_an_ended_one_is_left_alone(task: Task, leader_lives: bool) -> None:
    """As after a new start of the machine, which gives the same numbers again."""
    process = agent(start(task, "true"))
    ExecutionProcess.objects.filter(pk=process.pk).update(status=Status.RUNNING)
    script = "sleep 600 & echo $!" + ("; wait" if leader_lives else "")
    leader = subprocess.Popen(["sh", "-c", script], start_new_session=True, stdout=subprocess.PIPE, text=True)
    assert leader.stdout is not None
    stranger = int(leader.stdout.readline())
    if not leader_lives:
        leader.wait()
    born = processes.everything()[stranger].start_time + (1 if leader_lives else 1000)
    folder = runfiles.folder_of(process.pk)
    folder.make()
    folder.write(folder.state, {"pid": 2**22, "start_time": 1, "child": leader.pid, "child_start_time": born})
    worker = Runner()
    worker.start()
    try:
        assert ended(process).status == Status.INTERRUPTED
        assert goes_on(stranger)
    finally:
        worker.stop()
        os.kill(stranger, signal.SIGKILL)
        leader.wait()


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
