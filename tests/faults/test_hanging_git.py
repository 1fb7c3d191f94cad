"""SIGTERM while git waits for a program of the user's that never ends."""

import threading
import time
from pathlib import Path

import httpx

from tasks import git
from tests.faults.board import Board
from tests.live import LiveServer
from tests.repositories import git as plain
from tests.repositories import make_repository
from tests.runs import is_gone, wait_for
from tests.sse_client import connect

FILTER = """#!/bin/sh
if [ -e {place}/hang ]; then echo $$ >> {place}/pids-$1; exec sleep 600; fi
cat
"""


def test_the_server_ends_with_git_and_a_start_goes_on(tmp_path: Path) -> None:
    program = tmp_path / "filter"
    program.write_text(FILTER.format(place=tmp_path))
    program.chmod(0o755)
    repository = make_repository(tmp_path / "repository")
    (repository / ".git/info/attributes").write_text("*.md filter=slow\n")
    for way in ("clean", "smudge"):
        plain(repository, "config", f"filter.slow.{way}", f"{program} {way}")
    with LiveServer(tmp_path / "data", typed=True) as server:
        board = Board(server, repository)
        first = board.start("echo more >> README.md")
        board.ended(first)
        address = f"{server.url}/api/events/task-attempts/{first['task_attempt_id']}/diff"
        (tmp_path / "hang").touch()
        threading.Thread(target=follow, args=(address, board.token), daemon=True).start()
        second = board.start("cat README.md")
        hanging = [tmp_path / "pids-clean", tmp_path / "pids-smudge"]
        wait_for(lambda: all(file.exists() for file in hanging), "git that hangs in both")
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < git.LAST_SECONDS + 10
        pids = [int(pid) for file in hanging for pid in file.read_text().split()]
        wait_for(lambda: all(map(is_gone, pids)), "the end of what was killed", deadline=git.LAST_SECONDS)
        (tmp_path / "hang").unlink()
        server.typed = False
        server.start()
        assert board.ended(second)["status"] == "completed"
        assert "# Test" in board.text(second)
        with connect(address, board.token) as stream:
            found = stream.until(lambda event: event.event == "ready")
        assert [event.json["file"] for event in found if event.event == "message"] == ["README.md"]


def follow(address: str, token: str) -> None:
    try:
        with connect(address, token) as stream:
            for _ in stream:
                continue
    except httpx.HTTPError:
        return
