"""A real server in a process of its own, as `make run` starts it, on a data folder of its own."""

import fcntl
import functools
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from tests.ports import free_port
from tests.zygote import ROOT, Started, run, shared, start

DEADLINE = 60.0


@functools.cache
def migrated() -> list[Path]:
    """The files of an empty database, made once for all of the suite: it takes as long as all the rest of a start."""
    folder = shared() / "migrated"
    with open(f"{folder}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            making = folder.with_suffix(".new")
            done = run(["migrate", "--verbosity", "0"], {**os.environ, "VIBE_DATA": str(making)})
            assert done.returncode == 0, done.stderr
            making.rename(folder)
    return list(folder.glob("db.sqlite3*"))


class LiveServer:
    """`with LiveServer(folder) as server:` — then `server.url`, `server.sign_in_link`, `server.token()`.

    `kill()` is kill -9, `stop()` is SIGTERM; `start()` after either is a restart on the same data and port.
    `typed`: started as a person types it; otherwise what it needs is loaded already (tests/zygote.py).
    `through`: the words of a command that becomes the one that it is given; typed too.
    `new`: as on a new machine, without a database.
    """

    def __init__(
        self,
        data: Path,
        env: Mapping[str, str] | None = None,
        *,
        typed: bool = False,
        through: Sequence[str] = (),
        new: bool = False,
    ) -> None:
        self.data = data
        self.through = through
        self.new = new
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.typed = typed or bool(through)
        self.env = {
            **os.environ,
            "VIBE_DATA": str(data),
            "PORT": str(self.port),
            "HOST": "127.0.0.1",
            "VIBE_REPO_ROOTS": tempfile.gettempdir(),
            "PYTHONUNBUFFERED": "1",
            **(env or {}),
        }
        self.process: subprocess.Popen[bytes] | Started | None = None
        self.log = data / "server.log"
        self.sign_in_link = ""

    def __enter__(self) -> "LiveServer":
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            self.stop()
        finally:
            self._end_runs()

    def _end_runs(self) -> None:
        """Runs outlive their server, which is the point of them; they are not to outlive the test."""
        mine = str(self.data)
        for process in psutil.process_iter():
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                command = process.cmdline()
                if (
                    len(command) > 1
                    and command[-2].endswith("supervisor.py")
                    and command[-1].startswith(mine)
                ):
                    for one in [*process.children(recursive=True), process]:
                        with suppress(psutil.NoSuchProcess):
                            one.kill()

    def start(self) -> None:
        self.data.mkdir(parents=True, exist_ok=True)
        if not self.new and "DATABASE_URL" not in self.env and not (self.data / "db.sqlite3").exists():
            for file in migrated():
                shutil.copy(file, self.data)
        seen = self.log.stat().st_size if self.log.exists() else 0
        self.process = self._typed() if self.typed else start(["serve"], self.env, self.log)
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            found = re.search(rb"Sign in: (http\S+)", self.log.read_bytes()[seen:])
            if found:
                self.sign_in_link = found[1].decode()
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise AssertionError(f"the server did not start:\n{self.output()}")

    def _typed(self) -> "subprocess.Popen[bytes]":
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [*self.through, sys.executable, "manage.py", "serve"],
                cwd=ROOT,
                env=self.env,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        return self._end(signal.SIGTERM)

    def kill(self) -> int:
        """kill -9 of the server alone, as a crash would."""
        return self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> int:
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            code = self.process.wait(timeout=DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"the server did not end:\n{self.output()}") from None
        self.process = None
        return code

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def manage(self, *args: str) -> str:
        """What `manage.py ARGS` prints in the server's environment; fails with its output where it fails."""
        done = run(args, self.env)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def token(self, username: str = "admin") -> str:
        return self.manage("token", username).strip()
