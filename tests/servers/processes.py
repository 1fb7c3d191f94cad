"""Servers as the tests start them: real processes on a free port."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parent.parent.parent
SERVERS = ("daphne", "uvicorn", "granian")
_APPLICATION = "tests.servers.site.asgi:application"


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def command(server: str, port: int, application: str = _APPLICATION) -> list[str]:
    return {
        "daphne": [sys.executable, "-m", "tests.servers.site.daphne", str(port)],
        "stock daphne": [sys.executable, "-m", "daphne", "-p", str(port), "-v", "0", application],
        "uvicorn": [sys.executable, "-m", "uvicorn", application, "--port", str(port), "--log-level", "warning"],
        "granian": [sys.executable, "-m", "granian", "--interface", "asgi", "--port", str(port), "--log-level",
                    "warning", "--backlog", "4096", "--backpressure", "20000", application],
    }[server]  # fmt: skip


class Site:
    """The small site, served by one of the servers."""

    def __init__(self, server: str, folder: Path, **settings: object) -> None:
        self.server = server
        self.port = free_port()
        self.base = f"http://127.0.0.1:{self.port}"
        self.log = folder / f"{server}-{self.port}.log"
        environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.servers.site.settings"}
        environment["SITE_DATABASE"] = str(folder / "site.sqlite3")
        self.environment = environment
        environment |= {f"SITE_{name.upper()}": str(value) for name, value in settings.items()}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command(server, self.port), cwd=ROOT, env=environment, stdout=log, stderr=log
            )
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + 40
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"{self.server} ended at once:\n{self.log.read_text()}")
            try:
                httpx.get(f"{self.base}/state", timeout=5)
                return
            except httpx.TransportError:
                time.sleep(0.05)
        raise AssertionError(f"{self.server} did not answer:\n{self.log.read_text()}")

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = httpx.get(f"{self.base}/state", timeout=20).json()
        return found

    def until(self, condition: Any, timeout: float = 30) -> dict[str, Any]:
        """The state, once it fulfils the condition."""
        deadline = time.monotonic() + timeout
        while not condition(state := self.state()):
            assert time.monotonic() < deadline, state
            time.sleep(0.05)
        return state

    def publish(self, stream: str, data: str, count: int = 1) -> str:
        answer = httpx.post(
            f"{self.base}/publish", json={"stream": stream, "data": data, "count": count}, timeout=30
        )
        cursor: str = answer.json()["cursor"]
        return cursor

    def manage(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "django", *arguments],
            cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
