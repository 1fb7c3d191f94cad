"""docs/events.md, done to the letter: a new project, the blocks of its text, a real server."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.servers.clients import messages, opened
from tests.zygote import ROOT

BLOCK = re.compile(r"```python\n# (\S+)\n(.*?)```", re.DOTALL)
# The commands that a person types one after the other, two at a time: each Python loads Django anew.
START = """
from django.core.management import call_command
call_command("startproject", "mysite", ".")
call_command("startapp", "notes")
"""
MIGRATE = """
from django.core.management import call_command
call_command("makemigrations", "notes")
call_command("migrate")
"""
SIGN_IN = """
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
user = User.objects.create_user("reader")
session = SessionStore()
session[SESSION_KEY] = str(user.pk)
session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
session[HASH_SESSION_KEY] = user.get_session_auth_hash()
session.save()
print("session", session.session_key)
"""


def blocks() -> list[tuple[str, str]]:
    return BLOCK.findall((ROOT / "docs" / "events.md").read_text())


class Project:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            **{name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"},
            "PYTHONPATH": str(ROOT),
        }
        self.run("-c", START)
        for name, text in blocks():
            path = folder / name
            # Settings and addresses are added to; the rest of what startapp made is empty.
            before = path.read_text() if name.endswith(("settings.py", "urls.py")) else ""
            path.write_text(before + "\n" + text)
        self.shell(MIGRATE)

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def shell(self, code: str) -> str:
        return self.run("manage.py", "shell", "-v", "0", "-c", code)

    @contextmanager
    def open_shell(self) -> Iterator[Callable[[str], None]]:
        """A shell that stays open, and what types a line into it."""
        read = "import sys\nfor line in sys.stdin: exec(line)"
        command = [sys.executable, "manage.py", "shell", "-v", "0", "-c", read]
        with subprocess.Popen(
            command, cwd=self.folder, env=self.environment, stdin=subprocess.PIPE, text=True
        ) as shell:
            assert shell.stdin
            yield lambda line: print(line, file=shell.stdin, flush=True)
        assert shell.returncode == 0


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture
def port(project: Project) -> Iterator[int]:
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "mysite.asgi:application", "--port", str(port)],
        cwd=project.folder, env=project.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        try:
            with opened(port, "/api/events/") as stream:
                stream.read()
            break
        except ConnectionRefusedError:
            time.sleep(0.1)
    yield port
    server.terminate()
    assert server.wait(20) == 0
    assert server.stdout is not None
    log = server.stdout.read().decode()
    assert "Traceback" not in log, log


def test_it_takes_twenty_lines():
    lines = [line for _, text in blocks() for line in text.splitlines() if line.strip()]
    assert len(lines) <= 20


def test_another_project_streams_its_own_model(project, port):
    with opened(port, "/api/events/") as stranger:
        while not stranger.status:
            stranger.read()
        assert stranger.status == 401
    session = project.shell(SIGN_IN).split("session ")[1].strip()
    with opened(port, "/api/events/", headers={"Cookie": f"sessionid={session}"}) as stream:
        stream.until(b'"path":""')
        assert messages(stream.body) == ['{"op":"replace","path":"","value":{"notes":{}}}']
        with project.open_shell() as type_in:
            type_in("from notes.models import Note; Note.objects.create(text='first')")
            stream.until(b'"op":"add"')
            type_in("Note.objects.update(text='second')")
            stream.until(b'"value":"second"')
            type_in("Note.objects.all().delete()")
            stream.until(b'"op":"remove"')
