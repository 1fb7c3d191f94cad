"""The folder of one run and the files in it, as the supervisor and the server both see them.

| file | |
| --- | --- |
| spec.json | what to run; written before the supervisor starts |
| log.jsonl | the log: append-only, a record a line |
| supervisor.lock | locked by the supervisor as long as it lives: the one proof of its life |
| supervisor.json | pids and start times of the supervisor and its child |
| stop | a request to stop: its text goes into the log |
| exit.json | how it ended; written last, atomically |
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os

TYPE_CHECKING = False  # to load `typing` would take longer than all the rest of the supervisor
if TYPE_CHECKING:
    from typing import Any

LOG = "log.jsonl"
_EXIT_ROOM = 4096


class RunFolder:
    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self.log = self.file(LOG)
        self.spec = self.file("spec.json")
        self.state = self.file("supervisor.json")
        self.lock = self.file("supervisor.lock")
        self.stop = self.file("stop")
        self.exit = self.file("exit.json")

    def file(self, name: str) -> str:
        return os.path.join(self.path, name)

    def make(self) -> None:
        os.makedirs(self.path, mode=0o700, exist_ok=True)

    def acquire(self) -> int | None:
        """The descriptor of the supervisor's lock, or None where a living supervisor holds it."""
        self.make()
        descriptor = os.open(self.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    def reserve_exit(self) -> None:
        """Takes the room that exit.json needs now, so that a full disk cannot hide how a run ended."""
        with open(self.exit + ".new", "ab") as file, contextlib.suppress(OSError):
            os.posix_fallocate(file.fileno(), 0, _EXIT_ROOM)

    def write_exit(self, how: dict[str, Any]) -> None:
        self.make()
        data = json.dumps(how).encode()
        descriptor = os.open(self.exit + ".new", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, data)
            os.ftruncate(descriptor, len(data))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(self.exit + ".new", self.exit)
        self._sync()

    def write(self, path: str, content: dict[str, Any] | str) -> None:
        """Writes a small file so that nobody ever sees half of it."""
        new = f"{path}.{os.getpid()}"
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content if isinstance(content, str) else json.dumps(content))
        os.replace(new, path)

    def read(self, path: str, *numbers: str) -> dict[str, Any] | None:
        """The JSON object in the file, or None where there is no (whole) one, or one of `numbers` in it is none: a run
        can write here, too, and would hold up all others."""
        try:
            with open(path, encoding="utf-8", opener=at_once) as file:
                found = json.load(file)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError, RecursionError):
            return None
        if not isinstance(found, dict) or not all(
            is_number(found.get(name), 2**63 if "time" in name else 2**31) for name in numbers
        ):
            return None
        return found

    def _sync(self) -> None:
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def at_once(path: str, flags: int) -> int:
    """Opens it also where it is a pipe by now, with nobody at its other end."""
    return os.open(path, flags | os.O_NONBLOCK)


def is_number(value: object, most: int = 2**31) -> bool:
    """Whether a process, or the database, may have such a number."""
    return type(value) is int and abs(value) < most
