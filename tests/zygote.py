"""Starts Python programs, each in a fork of a process that has its libraries loaded: `manage.py` commands, or with
"-m" before it any module.

A program started like this has its own process, arguments, environment, standard streams and exit code, as when it
is typed, but not the half a second that it takes Python to load what all of them load.
"""

import atexit
import gc
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn
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


class Zygote:
    """A process with the libraries of one settings module, which forks when asked to."""

    def __init__(self, settings: str) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.zygote"],
            cwd=ROOT,
            env={**os.environ, "DJANGO_SETTINGS_MODULE": settings},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def close(self) -> None:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()

    def ask(self, do: str, **how: Any) -> Any:
        assert self._process.stdin and self._process.stdout
        with self._lock:
            self._process.stdin.write(json.dumps({"do": do, **how}) + "\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())


class Started:
    """A command that goes on by itself, with what the tests use of `subprocess.Popen`."""

    def __init__(self, zygote: Zygote, args: Sequence[str], pid: int) -> None:
        self.pid = pid
        self.args = args
        self.returncode: int | None = None
        self._zygote = zygote

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._zygote.ask("poll", pid=self.pid)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        deadline = time.monotonic() + (float("inf") if timeout is None else timeout)
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            time.sleep(0.01)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def run(args: Sequence[str], env: Mapping[str, str], stdin: str = "") -> Done:
    """Runs a program to its end."""
    return Done(**_zygote(env).ask("run", args=args, stdin=stdin, env=dict(env)))


def start(args: Sequence[str], env: Mapping[str, str], log: Path) -> Started:
    """Starts a program in a session of its own, with `log` taking both its outputs, and does not wait for it."""
    zygote = _zygote(env)
    files = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Started(zygote, args, zygote.ask("start", args=args, env=dict(env), log=str(log), files=files))


_zygotes: dict[str, Zygote] = {}


def _zygote(env: Mapping[str, str]) -> Zygote:
    """The one that starts what has these settings for this process of the suite."""
    name = env["DJANGO_SETTINGS_MODULE"]
    if name not in _zygotes:
        _zygotes[name] = Zygote(name)
        atexit.register(_zygotes[name].close)
    return _zygotes[name]


# --- the other side


def main() -> None:
    load()
    # What is here is shared with all forks, and no collection of theirs needs to look at it.
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        asked = json.loads(line)
        answer = {"run": run_fork, "start": start_fork, "poll": poll_fork}[asked.pop("do")](**asked)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


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


def run_fork(args: list[str], stdin: str, env: dict[str, str]) -> dict[str, Any]:
    with (
        tempfile.TemporaryFile("w+") as given,
        tempfile.TemporaryFile("w+") as out,
        tempfile.TemporaryFile("w+") as err,
    ):
        given.write(stdin)
        given.flush()
        given.seek(0)
        child = fork(args, env, given.fileno(), out.fileno(), err.fileno())
        _, status = os.waitpid(child, 0)
        out.seek(0)
        err.seek(0)
        return {"returncode": os.waitstatus_to_exitcode(status), "stdout": out.read(), "stderr": err.read()}


def start_fork(args: list[str], env: dict[str, str], log: str, files: tuple[int, int]) -> int:
    resource.setrlimit(resource.RLIMIT_NOFILE, files)
    if args[0] == "-m":
        for name in LIBRARIES_OF.get(args[1], ()):
            __import__(name)
    with open(os.devnull) as nothing, open(log, "ab") as file:
        return fork(args, env, nothing.fileno(), file.fileno(), file.fileno(), session=True)


def poll_fork(pid: int) -> int | None:
    found, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def fork(args: list[str], env: dict[str, str], *streams: int, session: bool = False) -> int:
    child = os.fork()
    if child == 0:
        for number, descriptor in enumerate(streams):
            os.dup2(descriptor, number)
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
