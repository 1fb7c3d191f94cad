"""A throw-away PostgreSQL cluster in a temporary folder, owned by an account that may run one."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.needs import POSTGRES_BIN
from tests.ports import free_port

_SPEED = "fsync=off", "full_page_writes=off", "max_connections=40", "deadlock_timeout=200ms"


def _as_owner(command: list[str]) -> list[str]:
    """PostgreSQL refuses to run as root: as `postgres` then."""
    if os.geteuid() != 0:
        return command
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--", *command]


def _run(*command: str) -> None:
    subprocess.run(_as_owner(list(command)), check=True, capture_output=True, cwd="/")


@contextmanager
def cluster() -> Iterator[str]:
    """The URL of an empty database."""
    # Not under pytest's folder: that is closed to other accounts, and too long a name for a socket.
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    programs = Path(str(POSTGRES_BIN))
    data = str(folder / "data")
    port = free_port()
    place = "listen_addresses=127.0.0.1", f"port={port}", f"unix_socket_directories={folder}"
    options = " ".join(f"-c {option}" for option in (*_SPEED, *place))
    try:
        _run(str(programs / "initdb"), "-D", data, "-U", "vibe", "-A", "trust", "-E", "UTF8", "--no-sync")
        _run(str(programs / "pg_ctl"), "-D", data, "-w", "-l", str(folder / "log"), "-o", options, "start")
        try:
            _run(str(programs / "createdb"), "-h", "127.0.0.1", "-p", str(port), "-U", "vibe", "vibe")
            yield f"postgres://vibe@127.0.0.1:{port}/vibe"
        finally:
            _run(str(programs / "pg_ctl"), "-D", data, "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
