"""kill -9 of the server at random moments, while runs print and clients follow."""

import random
import threading
import time
from pathlib import Path
from typing import Any

import httpx

from tests.faults.board import Board
from tests.live import LiveServer
from tests.repositories import make_repository
from tests.runs import wait_for
from tests.scale import scaled

RUNS = scaled(10, 3)
ROUNDS = scaled(50, 2)


class Follower(threading.Thread):
    """A client that follows one log for as long as it takes, and always comes back with its last id."""

    def __init__(self, url: str, token: str) -> None:
        super().__init__(daemon=True)
        self.url = url
        self.token = token
        self.last_id = ""
        self.lines: list[str] = []
        self.finished: Any = None
        self.resets = 0
        self.connections = 0

    def run(self) -> None:
        while self.finished is None:
            try:
                self._read()
            except (httpx.HTTPError, OSError):
                time.sleep(0.1)

    def _read(self) -> None:
        headers = {"Authorization": f"Bearer {self.token}"}
        if self.last_id:
            headers["Last-Event-ID"] = self.last_id
        with httpx.stream("GET", self.url, headers=headers, timeout=30) as response:
            if response.status_code != 200:
                time.sleep(0.1)
                return
            self.connections += 1
            event: dict[str, str] = {}
            for line in response.iter_lines():
                if line:
                    name, _, value = line.partition(": ")
                    event[name] = value
                    continue
                self._take(event)
                event = {}

    def _take(self, event: dict[str, str]) -> None:
        self.last_id = event.get("id", self.last_id)
        if event.get("event") == "reset":
            self.resets += 1
        elif event.get("event") == "finished":
            self.finished = httpx.Response(200, content=event["data"]).json()
        elif "data" in event and "event" not in event:
            record = httpx.Response(200, content=event["data"]).json()
            if record["type"] == "stdout":
                self.lines.append(record["content"])


def script(number: int, folder: Path) -> str:
    """Prints numbers until the file `stop` appears, then a last line and an exit code of its own."""
    return (
        f'i=0; while [ ! -e "{folder}/stop" ]; do i=$((i+1)); echo "{number}:$i"; sleep 0.02; done; '
        f'echo "last $i"; exit {number}'
    )


def test_runs_clients_and_records_survive_a_server_that_is_killed(tmp_path: Path) -> None:
    chance = random.Random(7)
    with LiveServer(tmp_path / "data", env={"VIBE_MAX_RUNS": str(RUNS)}) as server:
        board = Board(server, make_repository(tmp_path / "repository"))
        runs = [board.start(script(number, tmp_path), f"Run {number}") for number in range(RUNS)]
        followers = [
            Follower(f"{server.url}/api/events/processes/{run['id']}/logs", board.token) for run in runs[:3]
        ]
        for follower in followers:
            follower.start()
        for run in runs:
            board.state(run)
        children = {run["id"]: board.state(run)["child"] for run in runs}
        for number in range(ROUNDS):
            # Half of the kills at least cut off followers that had come back.
            wait_for(lambda n=number: all(f.connections > n // 2 for f in followers), "the followers")
            time.sleep(chance.uniform(0.1, 1.0))
            server.kill()
            time.sleep(chance.uniform(0.0, 0.3))
            server.start()
        assert {run["id"]: board.state(run)["child"] for run in runs} == children, (
            "each run is still the same"
        )
        (tmp_path / "stop").touch()
        for number, run in enumerate(runs):
            found = board.ended(run)
            assert (found["status"], found["exit_code"]) == ("failed" if number else "completed", number)
            *counted, last = board.text(run).splitlines()
            count = int(last.removeprefix("last "))
            assert counted == [f"{number}:{index}" for index in range(1, count + 1)], (
                "every line once, in order"
            )
        for run, follower in zip(runs, followers, strict=False):
            wait_for(lambda f=follower: f.finished, "the end of the stream")
            assert follower.lines == board.contents(run)
            assert follower.resets == 0
            assert follower.finished["exit_code"] == board.process(run)["exit_code"]
            assert follower.connections > ROUNDS // 2


def test_a_start_cut_off_by_a_kill_is_made_good(tmp_path: Path) -> None:
    """The server dies in the middle of starting runs: each starts once, or waits and starts once."""
    chance = random.Random(3)
    with LiveServer(tmp_path / "data", env={"VIBE_MAX_RUNS": "4"}) as server:
        board = Board(server, make_repository(tmp_path / "repository"))
        runs = []
        for number in range(scaled(30, 3)):
            runs.append(
                board.start(f"echo started >> {tmp_path}/{number}; sleep 0.2; exit 0", f"Run {number}")
            )
            if number == 1 or chance.random() < 0.34:
                time.sleep(chance.uniform(0, 0.2))
                server.kill()
                server.start()
        for run in runs:
            assert board.ended(run)["status"] == "completed", board.records(run)
        starts = [(tmp_path / str(number)).read_text().split() for number in range(len(runs))]
        assert starts == [["started"]] * len(runs), "no run started twice"
