"""A run that prints as fast as it can: all of it arrives, and the server stays small and answers others."""

import logging
import threading
import time
from pathlib import Path

import httpx
import orjson

from tests.faults.board import Board
from tests.live import LiveServer
from tests.repositories import make_repository
from tests.scale import scaled

LINES = scaled(1_000_000, 50_000)


def memory(pid: int) -> float:
    """What a process holds, in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


class Visitor(threading.Thread):
    """Asks for a page again and again, and keeps the longest wait."""

    def __init__(self, board: Board) -> None:
        super().__init__(daemon=True)
        self.board = board
        self.over = threading.Event()
        self.longest = 0.0
        self.visits = 0
        self.memory = 0.0

    def run(self) -> None:
        while not self.over.wait(0.05):
            began = time.monotonic()
            self.board.get("/api/projects")
            self.longest = max(self.longest, time.monotonic() - began)
            self.visits += 1
            process = self.board.server.process
            self.memory = max(self.memory, memory(process.pid) if process else 0.0)


def test_much_output_arrives_whole_while_others_are_served(tmp_path: Path) -> None:
    program = (
        f"import sys; w = sys.stdout.write\nfor i in range({LINES}): w(f'{{i:08d}} ' + 'x' * 90 + chr(10))"
    )
    with LiveServer(tmp_path / "data") as server:
        board = Board(server, make_repository(tmp_path / "repository"))
        assert board.ended(board.start("echo warm"))["status"] == "completed"
        before = memory(server.process.pid) if server.process else 0.0
        visitor = Visitor(board)
        visitor.start()
        run = board.start(f'python3 -c "{program}"')
        url = f"{server.url}/api/events/processes/{run['id']}/logs"
        began, expected = time.monotonic(), 0
        with httpx.stream(
            "GET", url, headers={"Authorization": f"Bearer {board.token}"}, timeout=60
        ) as response:
            rest, begun, event_id = b"", "", b""
            for chunk in response.iter_raw():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    if line.startswith(b"id: "):
                        event_id = line
                    if line.startswith(b'data: {"type":"stdout"'):
                        record = orjson.loads(line[6:])
                        begun += record["content"]
                        if not event_id.endswith(b"p"):  # where the child paused in the middle of a line
                            assert begun == f"{expected:08d} " + "x" * 90
                            begun, expected = "", expected + 1
        took = time.monotonic() - began
        visitor.over.set()
        visitor.join()
        found = board.process(run)
    assert found["status"] == "completed"
    assert expected == LINES
    assert visitor.visits > 0
    assert visitor.longest < max(5, took / 2), "generous, for a machine under load"
    assert visitor.memory - before < 120, f"{before:.0f} MB before, {visitor.memory:.0f} MB at most"
    figures = f"{LINES / took:,.0f} lines/s, longest wait {visitor.longest * 1000:.0f} ms"
    logging.getLogger(__name__).info("%s, memory %.0f -> %.0f MB", figures, before, visitor.memory)
