"""kill -9 of a supervisor, of a child, of a grandchild; files taken away; each on a live server."""

import os
import shutil
import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.board import Board
from tests.live import LiveServer
from tests.repositories import make_repository
from tests.runs import is_gone, wait_for


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    folder = tmp_path_factory.mktemp("faults")
    with LiveServer(folder / "data", env={"VIBE_STOP_GRACE_SECONDS": "0.5"}) as server:
        yield Board(server, make_repository(folder / "repository"))


def test_a_killed_supervisor_interrupts_the_run_and_nothing_of_it_stays(board: Board) -> None:
    run = board.start("setsid sleep 600 & echo $!; echo ready; sleep 600")
    board.wait_for_line(run, "ready")
    state = board.state(run)
    os.kill(state["pid"], signal.SIGKILL)
    found = board.ended(run)
    assert (found["status"], found["exit_code"]) == ("interrupted", None)
    assert "The run's supervisor died" in board.contents(run, "system")[-1]
    wait_for(lambda: is_gone(state["child"]), "the end of the child")
    wait_for(lambda: is_gone(int(board.contents(run)[0])), "the end of the grandchild")


@pytest.fixture(scope="module")
def restarted(board: Board, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Runs of before a kill -9 of the server, to each of which something happened while it was down."""
    go = tmp_path_factory.mktemp("go") / "go"
    waiting = f"echo before; while [ ! -e {go} ]; do sleep 0.1; done; echo after; exit 4"
    scripts = {
        "killed": "echo before; sleep 600",
        "pid reused": "echo before; sleep 600",
        "folder deleted": waiting,
        "to be stopped": "trap '' INT; echo before; while :; do sleep 0.1; done",
        "ended": "echo before; sleep 2; exit 6",
    }
    runs = {name: board.start(script, name) for name, script in scripts.items()}
    for run in runs.values():
        board.wait_for_line(run, "before")
    shutil.rmtree(board.folder(runs["folder deleted"]))
    board.wait_for_line(runs["folder deleted"], "before")
    board.server.kill()
    for name in ("killed", "pid reused"):
        os.kill(board.state(runs[name])["pid"], signal.SIGKILL)
    # As if the system had given the supervisor's pid to somebody else: to this test.
    path = board.folder(runs["pid reused"]) / "supervisor.json"
    pid = board.state(runs["pid reused"])["pid"]
    path.write_text(path.read_text().replace(f'"pid": {pid}', f'"pid": {os.getpid()}'))
    wait_for((board.folder(runs["ended"]) / "exit.json").exists, "the end of a run without a server")
    board.server.start()
    go.touch()
    return runs


@pytest.mark.parametrize("name", ["killed", "pid reused"])
def test_a_supervisor_killed_while_the_server_is_down(
    board: Board, restarted: dict[str, dict[str, Any]], name: str
) -> None:
    assert board.ended(restarted[name])["status"] == "interrupted"


def test_a_run_that_ended_while_the_server_was_down(
    board: Board, restarted: dict[str, dict[str, Any]]
) -> None:
    found = board.ended(restarted["ended"])
    assert (found["status"], found["exit_code"]) == ("failed", 6)


def test_a_deleted_run_folder_comes_back(board: Board, restarted: dict[str, dict[str, Any]]) -> None:
    found = board.ended(restarted["folder deleted"])
    assert (found["status"], found["exit_code"]) == ("failed", 4)
    assert board.contents(restarted["folder deleted"]) == ["before", "after"]


def test_a_stop_reaches_a_run_of_before_the_restart(
    board: Board, restarted: dict[str, dict[str, Any]]
) -> None:
    run = restarted["to be stopped"]
    for _ in range(3):
        board.post(f"/api/processes/{run['id']}/stop")
    assert board.ended(run)["status"] == "killed"
    assert board.contents(run, "system") == ["Stopped by admin."]
    assert board.post(f"/api/processes/{run['id']}/stop")["status"] == "killed"


def test_a_killed_child_fails_the_run_with_its_signal(board: Board) -> None:
    run = board.start("echo ready; exec sleep 600")
    board.wait_for_line(run, "ready")
    os.kill(board.state(run)["child"], signal.SIGKILL)
    found = board.ended(run)
    assert (found["status"], found["exit_code"]) == ("failed", -9)
    assert board.contents(run, "system") == ["The program was ended by the signal SIGKILL."]


def test_a_killed_grandchild_is_the_childs_own_matter(board: Board) -> None:
    run = board.start("sleep 600 & echo $!; wait $!; echo code $?; exit 5")
    wait_for(lambda: board.contents(run), "the grandchild")
    os.kill(int(board.contents(run)[0]), signal.SIGKILL)
    assert board.ended(run)["exit_code"] == 5
    assert board.contents(run)[-1] == "code 137"


def test_a_deleted_log_comes_back(board: Board) -> None:
    run = board.start("echo before; while [ ! -e go ]; do sleep 0.1; done; echo after")
    board.wait_for_line(run, "before")
    (board.folder(run) / "log.jsonl").unlink()
    board.wait_for_line(run, "before")
    Path(board.get(f"/api/task-attempts/{run['task_attempt_id']}")["worktree"], "go").touch()
    assert board.ended(run)["status"] == "completed"
    assert board.contents(run) == ["before", "after"]
    assert board.contents(run, "system") == [
        "Somebody deleted this log while the run went on. It is whole again."
    ]


def test_a_deleted_worktree_ends_in_words(board: Board, tmp_path: Path) -> None:
    run = board.start(
        f"echo ready; while [ ! -e {tmp_path}/go ]; do sleep 0.1; done; touch file && echo made"
    )
    board.wait_for_line(run, "ready")
    attempt = board.get(f"/api/task-attempts/{run['task_attempt_id']}")
    shutil.rmtree(attempt["worktree"])
    (tmp_path / "go").touch()
    found = board.ended(run)
    assert found["status"] == "failed", "the program itself finds that its folder is gone"
    assert board.contents(run, "stderr")
    answer = board.http.post(f"/api/task-attempts/{attempt['id']}/follow-up", json={"prompt": "more"})
    assert answer.status_code == 201
    assert board.ended(answer.json())["status"] == "failed"
    assert "somebody deleted it" in board.contents(answer.json(), "error")[0]


def test_a_supervisor_that_cannot_start_fails_the_run_in_words(board: Board) -> None:
    """The folder of runs takes no new files: no log, no supervisor; the record still says how it ended."""
    runs = board.server.data / "runs"
    runs.mkdir(exist_ok=True)
    moved = runs.with_name("runs.away")
    runs.rename(moved)
    runs.write_text("a file where a folder should be")
    try:
        found = board.ended(board.start("echo never"))
        assert (found["status"], found["exit_code"]) == ("failed", None)
    finally:
        runs.unlink()
        moved.rename(runs)
    assert stat.S_ISDIR(runs.stat().st_mode)
    run = board.start("echo again")
    assert board.ended(run)["status"] == "completed"
