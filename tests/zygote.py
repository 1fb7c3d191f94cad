"""Starts Python programs, each in a fork of a process that has its libraries loaded: `manage.py` commands, or with
"-m" before it any module.

A program started like this has its own process, arguments, environment, standard streams and exit code, as when it
is typed, but not the half a second that it takes Python to load what all of them load.
"""

import atexit
import fcntl
import functools
import gc
import json
import os
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent
SERVING = (
    "autobahn.websocket.protocol", "django.core.handlers.asgi", "twisted.internet.asyncioreactor",
    "twisted.internet.endpoints", "twisted.internet.tcp", "twisted.protocols.tls", "twisted.web.http",
)  # fmt: skip
LIBRARIES = {
    "vibe.settings": (
        *SERVING, "autobahn.rawsocket.util", "autobahn.wamp.auth", "autobahn.wamp.websocket",
        "django.contrib.auth.admin", "django.contrib.auth.backends", "django.contrib.auth.middleware",
        "django.contrib.messages.middleware", "django.contrib.sessions.backends.db",
        "django.contrib.sessions.middleware", "django.contrib.staticfiles.handlers",
        "django.contrib.staticfiles.views", "django.core.management.commands.migrate",
        "django.core.management.commands.runserver", "django.core.management.commands.shell",
        "django.db.migrations.executor", "django.db.models.sql.compiler", "django.middleware.clickjacking",
        "django.middleware.common", "django.middleware.security", "django.test.signals", "django.views.debug",
        "events.admin", "events.admission", "events.asgi", "events.control", "events.monitor", "events.pruning",
        "manage", "tasks.actions", "tasks.admin", "tasks.api", "tasks.demo", "tasks.diffs.log",
        "tasks.logs.log_views", "tasks.logs.logstream", "tasks.management.commands.serve",
        "tasks.management.commands.token", "tasks.records", "tasks.urls", "tasks.webhooks.service",
        "twisted.application.service", "vibe.middleware", "vibe.urls", "watchfiles", "whitenoise.base",
    ),
    "tests.servers.site.settings": (
        *SERVING, "django.core.management", "django.db.backends.sqlite3.base", "django.db.models",
        "django.template", "django.test.signals", "django.views.debug", "httpx", "inotify_simple", "jsonpatch",
        "orjson", "prometheus_client", "watchfiles",
    ),
}  # fmt: skip
"""What programs with these settings load."""
LIBRARIES_OF = {
    "granian": ("granian.cli", "granian.server", "psutil"),
    "tests.servers.site.daphne": ("psutil",),
    "uvicorn": ("psutil", "uvicorn.lifespan.on", "uvicorn.loops.uvloop", "uvicorn.main",
                "uvicorn.protocols.http.httptools_impl"),
}  # fmt: skip
"""What a module needs besides, loaded when it is first asked for."""


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


class Started:
    """A program that goes on by itself, with what the tests use of `subprocess.Popen`."""

    def __init__(
        self, args: Sequence[str], env: Mapping[str, str], streams: Sequence[int], **how: bool
    ) -> None:
        self.args = args
        self.returncode: int | None = None
        self._zygote = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._zygote.connect(zygote(env.get("DJANGO_SETTINGS_MODULE", "vibe.settings")))
        files = resource.getrlimit(resource.RLIMIT_NOFILE)
        asked = json.dumps({"args": args, "env": dict(env), "files": files, **how})
        socket.send_fds(self._zygote, [asked.encode()], streams)
        self.pid = int(self._zygote.recv(16))

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            self._zygote.settimeout(timeout)
            try:
                self.returncode = int(self._zygote.recv(16))
            except (BlockingIOError, TimeoutError):
                raise subprocess.TimeoutExpired(self.args, timeout or 0) from None
            self._zygote.close()
        return self.returncode

    def poll(self) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def run(args: Sequence[str], env: Mapping[str, str], stdin: str = "") -> Done:
    """Runs a program to its end."""
    with (
        tempfile.TemporaryFile("w+") as given,
        tempfile.TemporaryFile("w+") as out,
        tempfile.TemporaryFile("w+") as err,
    ):
        given.write(stdin)
        given.seek(0)
        code = Started(args, env, [given.fileno(), out.fileno(), err.fileno()]).wait()
        out.seek(0)
        err.seek(0)
        return Done(code, out.read(), err.read())


def start(args: Sequence[str], env: Mapping[str, str], log: Path) -> Started:
    """Starts a program in a session of its own, with `log` taking both its outputs, and does not wait for it."""
    with open(os.devnull) as nothing, open(log, "ab") as file:
        return Started(args, env, [nothing.fileno(), file.fileno(), file.fileno()], session=True)


@functools.cache
def shared() -> Path:
    """A folder that all processes of the suite have in common; where there is no suite, this one's own."""
    if "VIBE_TESTS" in os.environ:
        return Path(os.environ["VIBE_TESTS"])
    folder = tempfile.mkdtemp(prefix="vibe-shared-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


@functools.cache
def zygote(settings: str) -> str:
    """Where the one listens that starts what has these settings, for all of the suite: who asks first starts it."""
    path = shared() / f"zygote-{settings}"
    with open(f"{path}.lock", "w") as lock, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            listener.bind(str(path))
            listener.listen()
            suite = os.environ.get("VIBE_TESTS_PID", str(os.getpid()))
            env = {**os.environ, "DJANGO_SETTINGS_MODULE": settings}
            command = [sys.executable, "-m", "tests.zygote", suite]
            _zygotes.append(subprocess.Popen(command, cwd=ROOT, env=env, stdin=listener))
    return str(path)


_zygotes: list[subprocess.Popen[bytes]] = []


# --- the other side


def main() -> None:
    """Forks when asked to, until the first process of the suite has ended."""
    signal.signal(signal.SIGINT, lambda *_: None)  # those who ask have what they started to clean up
    suite = os.pidfd_open(int(sys.argv[1]))
    load()
    # What is here is shared with all forks, and no collection of theirs needs to look at it.
    gc.collect()
    gc.freeze()
    listener = socket.socket(fileno=os.dup(0))
    running: dict[int, tuple[int, socket.socket]] = {}
    while suite not in (ready := select.select([suite, listener, *running], [], [])[0]):
        for ended in running.keys() & ready:
            child, asker = running.pop(ended)
            os.close(ended)
            answer(asker, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            asker.close()
        if listener in ready:
            asker, _ = listener.accept()
            asked, streams, *_ = socket.recv_fds(asker, 1 << 20, 3)
            askers = [asker, *(other for _, other in running.values())]
            mine = [suite, listener.fileno(), *running, *(one.fileno() for one in askers)]
            child = fork(streams, mine, **json.loads(asked))
            for stream in streams:
                os.close(stream)
            answer(asker, child)
            running[os.pidfd_open(child)] = child, asker
    for child, _ in running.values():
        for kill in (os.killpg, os.kill):
            with suppress(ProcessLookupError):
                kill(child, signal.SIGKILL)


def answer(asker: socket.socket, number: int) -> None:
    with suppress(OSError):  # it has been killed
        asker.send(b"%d" % number)


def load() -> None:
    """Loads all that asks for no settings, or asks for them each time it needs one: each fork has its own."""
    name = os.environ["DJANGO_SETTINGS_MODULE"]
    with tempfile.TemporaryDirectory() as nothing, mock.patch.dict(os.environ, VIBE_DATA=nothing):
        # Those of the site have daphne as an app, and loaded it cannot be shared.
        if name == "vibe.settings":
            load_apps()
        for library in LIBRARIES[name]:
            __import__(library)
        if name == "vibe.settings":
            load_what_is_the_same_for_all()
    forget_settings(name)


def load_apps() -> None:
    """All of `django.setup()` but its last step, for which each fork has the settings: what apps do when ready."""
    import django
    from django.apps import apps

    def make_ready(installed: object) -> None:
        del apps.populate
        for config in apps.get_app_configs():
            config.ready()

    with mock.patch.object(apps, "get_app_configs", list):
        django.setup()
    apps.populate = make_ready


def load_what_is_the_same_for_all() -> None:
    from django.db.migrations.loader import MigrationLoader

    from vibe import static

    MigrationLoader(None)
    static.version()


def forget_settings(name: str) -> None:
    from django.conf import settings
    from django.core.cache import caches
    from django.db import connections
    from django.utils.functional import empty

    settings._wrapped = empty
    sys.modules.pop(name, None)
    for handler in (caches, connections):
        vars(handler).pop("settings", None)
        handler.__init__()


def fork(
    streams: list[int],
    mine: list[int],
    args: list[str],
    env: dict[str, str],
    files: tuple[int, int],
    session: bool = False,
) -> int:
    if args[0] == "-m":
        for name in LIBRARIES_OF.get(args[1], ()):
            __import__(name)
    child = os.fork()
    if child == 0:
        for number, descriptor in enumerate(streams):
            os.dup2(descriptor, number)
        for descriptor in (*streams, *mine):
            os.close(descriptor)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        resource.setrlimit(resource.RLIMIT_NOFILE, files)
        if session:
            os.setsid()
        os.environ.clear()
        os.environ.update(env)
        become(args)
    return child


def become(args: list[str]) -> NoReturn:
    """Runs the program and ends this process with its exit code."""
    import runpy
    import traceback

    import manage

    code: int = 1
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - the parent's has read ahead
    try:
        if args[0] == "-m":
            sys.argv = args[1:]
            runpy.run_module(args[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = ["manage.py", *args]
            manage.main()
        code = 0
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)  # noqa: T201 - as the interpreter does
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - as the interpreter does
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
