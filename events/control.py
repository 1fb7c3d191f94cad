"""How a command on the same machine asks a running server: a socket that only its account can open.

Each server process listens on a socket in a folder of its own (mode 0700), and leaves the socket's path in the
folder that the setting EVENTS_CONTROL names, in a file called after its process id. The detour is for the length:
a socket's path holds a hundred characters, which a data folder may exceed. What a server that was killed left of
both is removed by whoever comes upon it next: a command, or another server when it starts.
"""

import asyncio
import logging
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
from django.conf import settings

from events.monitor import active_streams

logger = logging.getLogger("events")

PATIENCE_SECONDS = 10


class Control:
    """The server's side."""

    def __init__(self) -> None:
        self._server: asyncio.AbstractServer | None = None
        self._note: Path | None = None
        self._folder = ""
        self._opening: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Listens, soon. Called on the event loop."""
        self._opening = asyncio.get_running_loop().create_task(self._open())

    async def _open(self) -> None:
        try:
            await self._listen()
        except OSError as error:
            logger.warning("`manage.py streams` will not see this server: %s", error)

    async def _listen(self) -> None:
        # Before it leaves its own: a note of one that was killed may be called the same.
        _sweep()
        self._folder = tempfile.mkdtemp(prefix="events-")
        path = os.path.join(self._folder, "socket")
        self._server = await asyncio.start_unix_server(_answer, path)
        folder = _folder()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._note = folder / str(os.getpid())
        self._note.write_text(path)

    def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        if self._note is not None:
            self._note.unlink(missing_ok=True)
        shutil.rmtree(self._folder, ignore_errors=True)


async def _answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(orjson.dumps({"pid": os.getpid(), "streams": active_streams()}))
    writer.close()
    await writer.wait_closed()


def ask() -> list[dict[str, Any]]:
    """The answers of all running servers of this project: `{"pid", "streams": […]}` each. Raises TimeoutError."""
    return list(_answers())


def _answers() -> Iterator[dict[str, Any]]:
    _sweep()
    for note in _notes():
        # It has just ended, maybe in the middle of its answer.
        with suppress(FileNotFoundError, ConnectionError, orjson.JSONDecodeError):
            yield orjson.loads(_read(note.read_text()))


def _read(path: str) -> bytes:
    with socket.socket(socket.AF_UNIX) as one:
        one.settimeout(PATIENCE_SECONDS)
        one.connect(path)
        parts = []
        while part := one.recv(1 << 16):
            parts.append(part)
    return b"".join(parts)


def _sweep() -> None:
    """Removes what servers left that were killed: their notes and their sockets' folders."""
    for note in _notes():
        with suppress(OSError):  # another sweeps too
            text = note.read_text()
            path = Path(text)
            if text and not _is_open(path):  # an empty one is being written
                note.unlink()
                path.unlink(missing_ok=True)
                path.parent.rmdir()


def _is_open(path: Path) -> bool:
    """Whether a process has this socket. It is not disturbed: no connection of this kind comes about."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        try:
            one.connect(os.fspath(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError:  # of another kind than this one
            return True
    return True


def _folder() -> Path:
    return Path(settings.EVENTS_CONTROL)


def _notes() -> list[Path]:
    folder = _folder()
    return sorted(folder.iterdir()) if folder.is_dir() else []
