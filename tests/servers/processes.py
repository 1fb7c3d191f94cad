"""Servers as the tests start them: real processes on a free port."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.ports import free_port
from tests.zygote import Done, run, start

SERVERS = ("daphne", "uvicorn", "granian")
_APPLICATION = "tests.servers.site.asgi:application"


def command(server: str, port: int, application: str = _APPLICATION) -> list[str]:
    return {
        "daphne": ["-m", "tests.servers.site.daphne", str(port)],
        "stock daphne": ["-m", "daphne", "-p", str(port), "-v", "0", application],
        "daphne command": ["-m", "daphne", "-p", str(port), "-v", "0",
                           "tests.servers.site.commanded:application"],
        "uvicorn": ["-m", "uvicorn", application, "--port", str(port), "--log-level", "warning"],
        "granian": ["-m", "granian", "--interface", "asgi", "--port", str(port), "--log-level",
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
        self.process = start(command(server, self.port), environment, self.log)
        # One for all: each loads the certificates of the world, which takes longer than what is asked for.
        self.http = httpx.Client(base_url=self.base, timeout=30)
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + 40
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"{self.server} ended at once:\n{self.log.read_text()}")
            try:
                self.http.get("/state", timeout=5)
                return
            except httpx.TransportError:
                time.sleep(0.05)
        raise AssertionError(f"{self.server} did not answer:\n{self.log.read_text()}")

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = self.http.get("/state").json()
        return found

    def until(self, condition: Any, timeout: float = 30) -> dict[str, Any]:
        """The state, once it fulfils the condition."""
        deadline = time.monotonic() + timeout
        while not condition(state := self.state()):
            assert time.monotonic() < deadline, state
            time.sleep(0.05)
        return state

    def publish(self, stream: str, data: str, count: int = 1) -> str:
        answer = self.http.post("/publish", json={"stream": stream, "data": data, "count": count})
        cursor: str = answer.json()["cursor"]
        return cursor

    def manage(self, *arguments: str) -> Done:
        return run(["-m", "django", *arguments], self.environment)

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def close(self) -> None:
        self.http.close()
        if self.process.poll() is None:
            # granian serves in a child, which would go on; and complains when that one ends first.
            for one in (self.process, *psutil.Process(self.process.pid).children(recursive=True)):
                one.kill()
        self.process.wait()
