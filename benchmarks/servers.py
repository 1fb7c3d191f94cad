"""The servers that are measured, each a process of its own on a free port."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "var" / "bench"
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin")
NGINX_MODULES = "/usr/lib/nginx/modules"
# Pinned, so that a difference between two runs is ours.
PEER_PACKAGES = (
    "sse-starlette==3.7.0",
    "django-eventstream==5.3.4",
    "uvicorn==0.54.0",
    "uvloop==0.23.0",
    "httptools==0.9.0",
)


@dataclass
class Server:
    """One running server: where its room is, and how a message gets into it."""

    name: str
    port: int
    process: "subprocess.Popen[bytes]"
    room: str = "/room/{key}"
    headers: dict[str, str] = field(default_factory=dict)
    ours: bool = False
    keeps_history: bool = True
    posts: bool = False
    """Published to by HTTP requests, each a message (nchan); the others publish from inside."""

    def resident(self) -> int:
        """Bytes, of the process and its children."""
        process = psutil.Process(self.process.pid)
        return sum(one.memory_info().rss for one in (process, *process.children(recursive=True)))


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextlib.contextmanager
def running(
    name: str, command: list[str], port: int, environment: dict[str, str] | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **(environment or {})}, stdout=log, stderr=log
        )
    try:
        _wait(process, port, name)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: "subprocess.Popen[bytes]", port: int, name: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            time.sleep(0.5)
            return
        time.sleep(0.05)
    raise RuntimeError(f"{name} does not answer: see {FOLDER / f'{name}.log'}")


# --- ours


def _site_environment() -> dict[str, str]:
    return {
        "VIBE_DATA": str(FOLDER / "data"),
        "DJANGO_SETTINGS_MODULE": "benchmarks.site.settings",
        "LOG_LEVEL": "WARNING",
        "EVENTS_MAX_STREAMS": "12000",
    }


def sign_in() -> str:
    """A session cookie of the site."""
    found = subprocess.run(
        [sys.executable, "-m", "benchmarks.site.prepare"],
        cwd=ROOT, env={**os.environ, **_site_environment()}, stdout=subprocess.PIPE, check=True, text=True,
    )  # fmt: skip
    return found.stdout.strip().splitlines()[-1]


def _our_command(server: str, port: int) -> list[str]:
    application = "benchmarks.site.asgi:application"
    return {
        "daphne": [sys.executable, "-m", "benchmarks.site.daphne", str(port)],
        "uvicorn": [sys.executable, "-m", "uvicorn", application, "--port", str(port), "--log-level", "warning",
                    "--no-access-log", "--backlog", "4096"],
        "granian": [sys.executable, "-m", "granian", "--interface", "asgi", "--port", str(port), "--no-log",
                    "--backlog", "4096", "--backpressure", "20000", application],
    }[server]  # fmt: skip


@contextlib.contextmanager
def ours(server: str) -> Iterator[Server]:
    cookie, port = sign_in(), free_port()
    with running(f"ours-{server}", _our_command(server, port), port, _site_environment()) as process:
        yield Server(f"ours on {server}", port, process, headers={"Cookie": cookie}, ours=True)


# --- peers


def peer_python() -> str:
    """The interpreter of the peers' own environment, which is made once."""
    folder = FOLDER / "venv"
    python = folder / "bin" / "python"
    stamp = folder / "installed"
    wanted = "\n".join(PEER_PACKAGES)
    if not stamp.exists() or stamp.read_text() != wanted:
        venv.create(folder, with_pip=True, clear=True)
        with (FOLDER / "pip.log").open("wb") as log:
            command = [python, "-m", "pip", "install", *PEER_PACKAGES]
            subprocess.run(command, check=True, stdout=log, stderr=log)
        stamp.write_text(wanted)
    return str(python)


@contextlib.contextmanager
def bare() -> Iterator[Server]:
    port = free_port()
    with running("bare", [sys.executable, "-m", "benchmarks.peers.bare", str(port)], port) as process:
        yield Server("bare asyncio", port, process)


@contextlib.contextmanager
def starlette() -> Iterator[Server]:
    port = free_port()
    command = _uvicorn("benchmarks.peers.starlette_app:app", port)
    with running("sse-starlette", command, port) as process:
        yield Server("sse-starlette", port, process, keeps_history=False)


@contextlib.contextmanager
def eventstream() -> Iterator[Server]:
    port = free_port()
    command = _uvicorn("benchmarks.peers.eventstream_app:application", port)
    with running(
        "django-eventstream", command, port, {"BENCH_DATABASE": str(FOLDER / "eventstream.sqlite3")}
    ) as process:
        yield Server("django-eventstream", port, process, room="/room/{key}/", keeps_history=False)


def _uvicorn(application: str, port: int) -> list[str]:
    return [peer_python(), "-m", "uvicorn", application, "--port", str(port), "--log-level", "warning",
            "--no-access-log", "--backlog", "4096"]  # fmt: skip


@contextlib.contextmanager
def nchan() -> Iterator[Server]:
    port, folder = free_port(), FOLDER / "nginx"
    folder.mkdir(parents=True, exist_ok=True)
    template = (ROOT / "benchmarks" / "peers" / "nginx.conf").read_text()
    configuration = folder / "nginx.conf"
    configuration.write_text(template.format(folder=folder, modules=NGINX_MODULES, port=port))
    with running("nchan", [str(NGINX), "-c", str(configuration), "-p", str(folder)], port) as process:
        yield Server("nginx + nchan", port, process, posts=True)


def has_nchan() -> bool:
    return NGINX is not None and (Path(NGINX_MODULES) / "ngx_nchan_module.so").exists()
