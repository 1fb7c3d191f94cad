"""Runs the real supervisor on real children, for tests."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import psutil

ROOT = Path(__file__).resolve().parent.parent
DEADLINE = 60.0


def wait_for(condition: Callable[[], Any], what: str, deadline: float = DEADLINE, pause: float = 0.02) -> Any:
    """The first true value of `condition`; fails, naming what was awaited, when it never comes."""
    end = time.monotonic() + deadline
    longest = max(pause, 0.1)
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(pause)
        pause = min(pause * 1.5, longest)
    raise AssertionError(f"{what} did not happen within {deadline:g} s")


def goes_on(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


class Run:
    """One supervised child in a folder of its own."""

    def __init__(self, folder: Path, *argv: str, **spec: Any) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.spec = {
            "argv": list(argv),
            "cwd": str(folder),
            "stdin": None,
            "timeout": None,
            "graces": [0.5, 0.5],
            "max_message_bytes": 1024 * 1024,
            "max_log_bytes": 1024**3,
            "disk_wait": 2,
            **spec,
        }

    def launch(self, *options: str, **env: str) -> subprocess.CompletedProcess[str]:
        """The first process of the supervisor; `options` are of Python."""
        (self.folder / "spec.json").write_text(json.dumps(self.spec))
        return subprocess.run(
            [sys.executable, "-I", "-S", *options, str(ROOT / "tasks" / "supervisor.py"), str(self.folder)],
            env={"PATH": os.environ["PATH"], **env},
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        )

    def start(self, **env: str) -> "Run":
        done = self.launch(**env)
        assert done.returncode == 0, done.stderr
        return self

    def finish(self, deadline: float = DEADLINE) -> dict[str, Any]:
        """Waits for the end; what exit.json says."""
        path = self.folder / "exit.json"
        wait_for(path.exists, "the end of the run", deadline)
        return dict(json.loads(path.read_text()))

    def run(self) -> dict[str, Any]:
        return self.start().finish()

    def state(self) -> dict[str, Any]:
        path = self.folder / "supervisor.json"
        wait_for(path.exists, "the supervisor's start")
        return dict(json.loads(path.read_text()))

    def stop(self, words: str = "Stopped by a test.", *, tell: bool = True) -> None:
        """Without `tell` the supervisor finds out by itself, within a second."""
        new = self.folder / "stop.new"
        new.write_text(words)
        new.rename(self.folder / "stop")
        if tell:
            os.kill(self.state()["pid"], signal.SIGUSR1)

    def records(self) -> list[dict[str, Any]]:
        path = self.folder / "log.jsonl"
        return [orjson.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []

    def contents(self, kind: str = "stdout") -> list[str]:
        return [record["content"] for record in self.records() if record["type"] == kind]

    def text(self, kind: str = "stdout") -> str:
        """What the child printed, put together again."""
        found = [record for record in self.records() if record["type"] == kind]
        return "".join(record["content"] + ("" if record.get("partial") else "\n") for record in found)


def is_gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state in "ZX"
