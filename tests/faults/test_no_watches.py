"""A system whose inotify instances are used up: for this server alone, as the other tests watch files as well."""

from pathlib import Path

from tests.faults.board import Board
from tests.live import LiveServer
from tests.repositories import make_repository
from tests.sse_client import connect

# A user namespace has limits of its own.
NONE_LEFT = ("unshare", "-Ur", "sh", "-c", 'echo 0 >/proc/sys/user/max_inotify_instances && exec "$@"', "sh")


def test_changes_are_looked_for_again_and_again_and_the_page_is_told(tmp_path: Path) -> None:
    with LiveServer(tmp_path / "data", through=NONE_LEFT) as server:
        board = Board(server, make_repository(tmp_path / "repository"))
        attempt = board.ended(board.start("true"))["task_attempt_id"]
        worktree = Path(board.get(f"/api/task-attempts/{attempt}")["worktree"])
        with connect(f"{server.url}/api/events/task-attempts/{attempt}/diff?status=1", board.token) as stream:
            events = stream.until(lambda event: event.event == "ready")
            assert "cannot watch" in next(event.json["message"] for event in events if event.event == "note")
            (worktree / "late").write_text("1\n")
            stream.until(lambda event: event.json.get("file") == "late")
