"""kill -9 of the server at random moments, between commit and publish too: no change is lost, none comes twice."""

import random
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import jsonpatch

from tests.live import LiveServer
from tests.repositories import make_repository
from tests.runs import wait_for
from tests.scale import scaled
from tests.sse_client import EventStream, connect

KILLS = scaled(50, 2)
WRITERS = 3


class Follower(threading.Thread):
    """A client that always comes back with its last id, and applies strictly what it gets."""

    def __init__(self, server: LiveServer, token: str) -> None:
        super().__init__(daemon=True)
        self.server = server
        self.token = token
        self.document: dict[str, Any] = {}
        self.titles: dict[str, list[int]] = {}
        self.full_states = 0
        self.connections = 0
        self.failure: Exception | None = None
        self.stopped = False
        self.last_id: str | None = None

    def run(self) -> None:
        while not self.stopped and self.failure is None:
            try:
                with connect(f"{self.server.url}/api/events/", self.token, last_id=self.last_id) as stream:
                    self.connections += 1
                    self._follow(stream)
            except (httpx.HTTPError, OSError, AssertionError):
                time.sleep(0.05)

    def _follow(self, stream: EventStream) -> None:
        for event in stream:
            if event.event == "message":
                try:
                    self.document = jsonpatch.apply_patch(self.document, [event.json])
                except jsonpatch.JsonPatchException as failure:
                    self.failure = failure
                    return
                self._note(event.json)
                self.last_id = event.id

    def _note(self, operation: dict[str, Any]) -> None:
        path = operation["path"].split("/")
        self.full_states += operation["path"] == ""
        if path[-1] == "title":
            self.titles.setdefault(path[2], []).append(int(operation["value"]))


class Writer(threading.Thread):
    """Counts up in the title of one task, and never goes on before the server has said yes."""

    def __init__(self, server: LiveServer, token: str, task: str) -> None:
        super().__init__(daemon=True)
        self.api = httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {token}"}, timeout=30)
        self.task = task
        self.number = 0
        self.stopped = False

    def run(self) -> None:
        while not self.stopped:
            try:
                answer = self.api.patch(f"/api/tasks/{self.task}", json={"title": str(self.number + 1)})
            except httpx.HTTPError:
                time.sleep(0.02)
                continue
            if answer.status_code == 200:
                self.number += 1


def test_no_change_is_lost_or_doubled_by_kills(tmp_path: Path) -> None:
    with LiveServer(tmp_path / "data") as server:
        token = server.token()
        with httpx.Client(
            base_url=server.url, headers={"Authorization": f"Bearer {token}"}, timeout=60
        ) as api:
            repository = make_repository(tmp_path / "repository")
            made = api.post("/api/projects", json={"name": "p", "repo_path": str(repository)})
            body = {"project_id": made.json()["id"], "title": "0"}
            tasks = [api.post("/api/tasks", json=body).json()["id"] for _ in range(WRITERS)]
        follower = Follower(server, token)
        follower.start()
        wait_for(lambda: follower.document.get("tasks"), "the first full state")
        writers = [Writer(server, token, task) for task in tasks]
        for writer in writers:
            writer.start()
        for number in range(KILLS):
            wait_for(lambda number=number: follower.connections > number, "the follower")
            goal = [writer.number + 3 for writer in writers]
            wait_for(
                lambda goal=goal: all(w.number >= g for w, g in zip(writers, goal, strict=True)), "writes"
            )
            time.sleep(random.uniform(0, 0.1))
            server.kill()
            server.start()
        for writer in writers:
            writer.stopped = True
        for writer in writers:
            writer.join(60)
        wait_for(
            lambda: (
                follower.failure
                or all(follower.document["tasks"][w.task]["title"] == str(w.number) for w in writers)
            ),
            "the last titles",
        )
        follower.stopped = True
    assert follower.failure is None
    assert follower.full_states == 1
    assert follower.connections > KILLS
    for writer in writers:
        # A request whose answer was lost is made again, and changes nothing.
        assert follower.titles[writer.task] == list(range(1, writer.number + 1))
