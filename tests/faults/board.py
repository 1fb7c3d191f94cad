"""What the fault tests do to a live server, by its REST interface."""

import json
import os
from pathlib import Path
from typing import Any

import httpx

from tests.live import LiveServer
from tests.runs import wait_for

ENDED = ("completed", "failed", "killed", "interrupted")


class Board:
    def __init__(self, server: LiveServer, repository: Path) -> None:
        self.server = server
        self.token = server.token()
        self.http = httpx.Client(
            base_url=server.url,
            headers={"Authorization": f"Bearer {self.token}"},
            timeout=60,
            # A kept connection would be one to a server that was killed since.
            limits=httpx.Limits(max_keepalive_connections=0),
        )
        self.project = self.post("/api/projects", {"name": "Faults", "repo_path": str(repository)})

    def get(self, address: str) -> Any:
        answer = self.http.get(address)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, address: str, body: dict[str, Any] | None = None) -> Any:
        answer = self.http.post(address, json=body)
        assert answer.status_code < 300, answer.text
        return answer.json()

    def start(self, script: str, title: str = "A run") -> dict[str, Any]:
        """The agent's process of a new attempt that runs this shell script."""
        task = self.post("/api/tasks", {"project_id": self.project["id"], "title": title})
        body = {"task_id": task["id"], "executor": "script", "prompt": script}
        attempt = self.post("/api/task-attempts", body)
        found: dict[str, Any] = self.get(f"/api/processes?task_attempt_id={attempt['id']}")[-1]
        return found

    def process(self, run: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = self.get(f"/api/processes/{run['id']}")
        return found

    def ended(self, run: dict[str, Any]) -> dict[str, Any]:
        wait_for(lambda: self.process(run)["status"] in ENDED, "the end of the run")
        return self.process(run)

    def folder(self, run: dict[str, Any]) -> Path:
        return self.server.data / "runs" / str(run["id"])

    def state(self, run: dict[str, Any]) -> dict[str, Any]:
        """The pids of the supervisor and its child."""
        path = self.folder(run) / "supervisor.json"
        wait_for(lambda: path.exists() and json.loads(path.read_text())["child"], "the start of the run")
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    def records(self, run: dict[str, Any]) -> list[dict[str, Any]]:
        path = self.folder(run) / "log.jsonl"
        return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []

    def contents(self, run: dict[str, Any], kind: str = "stdout") -> list[str]:
        return [record["content"] for record in self.records(run) if record["type"] == kind]

    def text(self, run: dict[str, Any]) -> str:
        found = [record for record in self.records(run) if record["type"] == "stdout"]
        return "".join(one["content"] + ("" if one.get("partial") else "\n") for one in found)

    def wait_for_line(self, run: dict[str, Any], line: str) -> None:
        wait_for(lambda: line in self.contents(run), f"the line {line!r}")

    def kill(self, pid: int) -> None:
        os.kill(pid, 9)
