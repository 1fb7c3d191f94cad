"""kill -9 of a server, and what it had in temporary folders."""

from pathlib import Path
from typing import Any

from tasks import scratch
from tests.faults.board import Board
from tests.live import LiveServer
from tests.repositories import make_repository
from tests.runs import wait_for
from tests.sse_client import connect


def test_the_next_start_removes_what_a_killed_server_left_and_nothing_of_the_living(
    tmp_path: Path, settings: Any
) -> None:
    data = tmp_path / "data"
    settings.VIBE_DATA = data
    with LiveServer(data) as server:
        board = Board(server, make_repository(tmp_path / "repository"))
        run = board.start("echo private > notes.txt")
        board.ended(run)
        address = f"{server.url}/api/events/task-attempts/{run['task_attempt_id']}/diff"
        with connect(address, board.token) as stream, scratch.folder("mine") as mine:
            stream.until(lambda event: event.event == "ready")
            left = [place for place in (data / "tmp").glob("diff-*") if (place / "index").exists()]
            assert left
            server.kill()
            server.start()
            wait_for(lambda: not any(place.exists() for place in left), "the removal of its folders")
            assert mine.is_dir()
        server.stop()
        assert [place.name for place in (data / "tmp").iterdir()] == [".lock"]
