"""Runs many `manage.py` commands as programs of their own, each in a fork of one process that has loaded Django.

A command run like this has its own process, arguments, standard streams and exit code, as when it is typed, but
costs a hundredth of a second and not a second.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.live import ROOT


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


class Zygote:
    """`with Zygote(env) as manage:` and then `manage("vibe", "tasks")`."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.zygote"],
            cwd=ROOT,
            env=dict(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> "Zygote":
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()

    def __call__(self, *args: str, stdin: str = "") -> Done:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps({"args": args, "stdin": stdin}) + "\n")
        self._process.stdin.flush()
        return Done(**json.loads(self._process.stdout.readline()))


def main() -> None:
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "vibe.settings")
    django.setup()
    from tasks import actions  # noqa: F401 - what the commands would load one by one

    for line in sys.stdin:
        sys.stdout.write(json.dumps(run(**json.loads(line))) + "\n")
        sys.stdout.flush()


def run(args: list[str], stdin: str) -> dict[str, Any]:
    with (
        tempfile.TemporaryFile("w+") as given,
        tempfile.TemporaryFile("w+") as out,
        tempfile.TemporaryFile("w+") as err,
    ):
        given.write(stdin)
        given.flush()
        given.seek(0)
        child = os.fork()
        if child == 0:
            for number, file in enumerate((given, out, err)):
                os.dup2(file.fileno(), number)
            become(["manage.py", *args])
        _, status = os.waitpid(child, 0)
        out.seek(0)
        err.seek(0)
        return {"returncode": os.waitstatus_to_exitcode(status), "stdout": out.read(), "stderr": err.read()}


def become(argv: list[str]) -> None:
    """Runs the command and ends this process with its exit code."""
    from django.core.management import execute_from_command_line

    sys.argv, code = argv, 0
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - the parent's has read ahead
    try:
        execute_from_command_line(argv)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
