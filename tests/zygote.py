"""Starts Python programs, each in a fork of a process that has its libraries loaded: `manage.py` commands, or with
"-m" before it any module.

A program started like this has its own process, arguments, environment, standard streams and exit code, as when it
is typed, but not the half a second that it takes Python to load what all of them load.
"""

import atexit
import functools
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
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parent.parent
LIBRARIES = (
    "asyncio", "autobahn.websocket.protocol", "django.conf.urls", "django.contrib.admin",
    "django.contrib.auth.hashers", "django.core.cache", "django.core.handlers.asgi", "django.core.management",
    "django.db.backends.sqlite3.base", "django.db.migrations.executor", "django.db.models", "django.forms",
    "django.template", "django.test.signals", "django.views.debug", "environ", "httpx", "inotify_simple",
    "jsonpatch", "markdown_it", "nh3", "orjson", "prometheus_client", "pydantic.json_schema", "pygments.lexers",
    "twisted.internet.asyncioreactor", "twisted.internet.endpoints", "twisted.internet.tcp",
    "twisted.protocols.tls", "twisted.web.http", "watchfiles", "whitenoise.base",
)  # fmt: skip
"""What `manage.py serve` loads and what asks for no settings: those differ from fork to fork."""
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
    """`Zygote().start(["serve"], env, log)`; or `with Zygote(env) as manage:`, where Django is loaded too, with the
    settings of this environment, and `manage("vibe", "tasks")` costs a hundredth of a second.
    """

    def __init__(self, env: Mapping[str, str] | None = None) -> None:
        self._lock = threading.Lock()
        self._env = dict(env or os.environ)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.zygote", *(["django"] if env else [])],
            cwd=ROOT,
            env=self._env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> "Zygote":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()

    def __call__(self, *args: str, stdin: str = "", env: Mapping[str, str] | None = None) -> Done:
        return Done(**self.ask("run", args=args, stdin=stdin, env=dict(env or self._env)))

    def start(self, args: list[str], env: Mapping[str, str], log: Path) -> "Started":
        """Starts a command in a session of its own, with `log` taking both its outputs, and does not wait for it."""
        files = resource.getrlimit(resource.RLIMIT_NOFILE)
        return Started(self, args, self.ask("start", args=args, env=dict(env), log=str(log), files=files))

    def ask(self, do: str, **how: Any) -> Any:
        assert self._process.stdin and self._process.stdout
        with self._lock:
            self._process.stdin.write(json.dumps({"do": do, **how}) + "\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())


class Started:
    """A command that goes on by itself, with what the tests use of `subprocess.Popen`."""

    def __init__(self, zygote: Zygote, args: list[str], pid: int) -> None:
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


@functools.cache
def shared() -> Zygote:
    """The one that starts the servers of this process of the suite."""
    zygote = Zygote()
    atexit.register(zygote.close)
    return zygote


# --- the other side


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "vibe.settings")
    if sys.argv[1:] == ["django"]:
        import django

        django.setup()
        from tasks import actions  # noqa: F401 - what the commands would load one by one
    else:
        load_libraries()
    # What is here is shared with all forks, and no collection of theirs needs to look at it.
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        asked = json.loads(line)
        answer = {"run": run, "start": start, "poll": poll}[asked.pop("do")](**asked)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def load_libraries() -> None:
    for name in LIBRARIES:
        __import__(name)
    # Asks for the settings while it is loaded, for names that only it uses. Each fork reads them anew.
    import ninja  # noqa: F401
    from django.conf import settings
    from django.utils.functional import empty

    settings._wrapped = empty
    for name in [name for name in sys.modules if name.partition(".")[0] == "vibe"]:
        del sys.modules[name]


def run(args: list[str], stdin: str, env: dict[str, str]) -> dict[str, Any]:
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


def start(args: list[str], env: dict[str, str], log: str, files: tuple[int, int]) -> int:
    resource.setrlimit(resource.RLIMIT_NOFILE, files)
    if args[0] == "-m":
        for name in LIBRARIES_OF.get(args[1], ()):
            __import__(name)
    with open(os.devnull) as nothing, open(log, "ab") as file:
        return fork(args, env, nothing.fileno(), file.fileno(), file.fileno(), session=True)


def poll(pid: int) -> int | None:
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
