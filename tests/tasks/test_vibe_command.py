"""`manage.py vibe`, run as scripts run it, beside a running server and without one."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core import management

import manage
from tests.live import ROOT, LiveServer
from tests.repositories import git
from tests.runs import wait_for
from tests.zygote import Done, Started, run, start


class Site:
    """A server, and `manage.py vibe` on its data, in a process of its own for each call."""

    def __init__(self, server: LiveServer) -> None:
        self.server = server

    def __call__(self, *args: str, stdin: str = "") -> Done:
        return run(["vibe", *args], self.server.env, stdin)

    def new_task(self, title: str, *args: str) -> str:
        done = self("task", "create", title, *args)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def runs(self, task: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self("task", "show", task, "--json").stdout)["attempts"][0][
            "runs"
        ]
        return found

    def following(self, attempt: str, log: Path) -> Started:
        """The command that follows a log, which goes on by itself, when it has printed the first line."""
        started = start(["vibe", "logs", attempt, "--follow"], self.server.env, log)
        wait_for(lambda: log.read_text() == "on\n", "the first line")
        return started


@pytest.fixture(scope="module")
def vibe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    env = {"VIBE_DEMO_SECONDS": "1"}
    with LiveServer(tmp_path_factory.mktemp("vibe"), env) as server:
        yield Site(server)


def test_what_people_wrote_neither_begins_a_line_nor_steers_the_terminal(vibe: Site) -> None:
    task = vibe.new_task("One\x1b[2J\ntask", "--description", "two\n\x1b]0;lines\x07")
    listed, shown = vibe("tasks").stdout, vibe("task", "show", task).stdout
    assert f"{task}  todo        One [2J task\n" in listed
    assert shown.endswith("\ntwo\n ]0;lines \n")
    assert json.loads(vibe("task", "show", task, "--json").stdout)["title"] == "One\x1b[2J\ntask"


def test_a_script_creates_starts_follows_and_reads_the_diff(vibe: Site, tmp_path: Path) -> None:
    task = vibe.new_task("From a script", "--label", "cli", "--description", "-", "--status", "todo")
    started = vibe("start", task, "--executor", "demo", "--follow")
    assert started.returncode == 0, started.stderr
    attempt, *lines = started.stdout.splitlines()
    assert re.fullmatch(r"[0-9a-f-]{36}", attempt) and len(lines) > 5
    assert vibe("logs", attempt).stdout.splitlines() == lines

    shown = vibe("task", "show", task).stdout
    assert "inreview" in shown and "completed (exit code 0)" in shown and "#cli" in shown
    patch = vibe("diff", attempt).stdout
    record = json.loads(vibe("task", "show", task, "--json").stdout)["attempts"][0]
    project = json.loads(vibe("projects", "--json").stdout)
    copy = tmp_path / "copy"
    git(tmp_path, "clone", "-q", project["repo_path"], str(copy))
    git(copy, "checkout", "-q", record["base_commit"])
    (tmp_path / "patch").write_text(patch)
    git(copy, "apply", "--check", str(tmp_path / "patch"))
    assert vibe("diff", attempt, "--stat").stdout.count("\n") == patch.count("diff --git")


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("echo out; echo err >&2; exit 7", 7)])
def test_following_ends_with_the_runs_exit_code(vibe: Site, script: str, code: int) -> None:
    task = vibe.new_task("A script")
    done = vibe("start", task, "--executor", "script", "--prompt", "-", "--follow", stdin=script)
    assert done.returncode == code, done.stderr
    if code:
        assert "out" in done.stdout.splitlines() and "err" in done.stderr.splitlines()


def test_following_a_run_that_is_stopped_fails(vibe: Site, tmp_path: Path) -> None:
    task = vibe.new_task("Stopped")
    attempt = vibe("start", task, "--executor", "script", "--prompt", "echo on; sleep 600").stdout.strip()
    following = vibe.following(attempt, tmp_path / "log")
    run = vibe.runs(task)[0]
    assert vibe("stop", run["id"]).returncode == 0
    assert following.wait(60) != 0
    assert "killed" in vibe("task", "show", task).stdout


def test_ctrl_c_ends_the_following_and_not_the_run(vibe: Site, tmp_path: Path) -> None:
    task = vibe.new_task("Left alone")
    may_end = tmp_path / "may end"
    script = f"echo on; until [ -e '{may_end}' ]; do sleep 0.1; done; echo off"
    attempt = vibe("start", task, "--executor", "script", "--prompt", script).stdout.strip()
    following = vibe.following(attempt, tmp_path / "log")
    following.send_signal(signal.SIGINT)
    assert following.wait(30) == 130
    may_end.touch()
    followed = vibe("logs", attempt, "--follow")
    assert followed.returncode == 0 and followed.stdout.splitlines()[-1] == "off"


def test_ctrl_c_before_anything_has_begun_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(arguments: list[str]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(management, "execute_from_command_line", interrupted)
    with pytest.raises(SystemExit, match="130"):
        manage.main()


def test_tail_and_json(vibe: Site) -> None:
    task = vibe.new_task("Lines")
    attempt = vibe("start", task, "--executor", "script", "--prompt", "seq 1500", "--follow").stdout.split()[
        0
    ]
    run = vibe.runs(task)[0]["id"]
    assert vibe("logs", run, "--tail", "2").stdout.split() == ["1499", "1500"]
    assert vibe("logs", attempt).stdout.split() == [str(number) for number in range(1, 1501)]
    records = [json.loads(line) for line in vibe("logs", run, "--json").stdout.splitlines()]
    assert [record["content"] for record in records if record["type"] == "stdout"][-1] == "1500"


def test_a_closed_pipe_ends_it_quietly(vibe: Site) -> None:
    task = vibe.new_task("Head")
    attempt = vibe("start", task, "--executor", "script", "--prompt", "seq 20000", "-f").stdout.split()[0]
    program = f"{sys.executable} manage.py vibe logs {attempt} | head -1"
    done = subprocess.run(
        ["sh", "-c", program], cwd=ROOT, env=vibe.server.env, capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("1\n", "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["task", "show", "seven"], "is not an id"),
        (["task", "show", "00000000-0000-0000-0000-000000000000"], "There is no task"),
        (["task", "create", "x", "--project", "Nothing"], "no project 'Nothing'"),
        (["task", "create", " "], "title"),
        (["tasks", "--status", "lost"], "'lost' is not a status"),
        (["tasks", "--user", "nobody"], "no active user 'nobody'"),
    ],
)
def test_a_mistake_is_said_in_one_line(vibe: Site, arguments: list[str], words: str) -> None:
    done = vibe(*arguments)
    assert done.returncode == 1 and words in done.stderr
    assert "Traceback" not in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "words"),
    [("gone/db", "cannot be reached: unable to open database file"), ("db", "has not all its tables")],
)
def test_what_is_wrong_with_the_database_is_said_in_one_line(
    vibe: Site, tmp_path: Path, name: str, words: str
) -> None:
    done = run(["vibe", "projects"], {**vibe.server.env, "DATABASE_URL": f"sqlite:///{tmp_path}/{name}"})
    assert done.returncode == 1 and words in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("wanted", [True, False])
def test_colours_are_for_terminals_of_people_who_want_them(vibe: Site, wanted: bool) -> None:
    terminal, end = pty.openpty()
    env = {**vibe.server.env, "TERM": "xterm", "NO_COLOR": "" if wanted else "1"}
    assert Started(["vibe", "task", "show", "seven"], env, [end, end, end]).wait(30) == 1
    assert (b"\x1b" in os.read(terminal, 1000)) is wanted
    os.close(end)
    os.close(terminal)


def test_an_executor_that_is_not_there_changes_nothing(vibe: Site) -> None:
    task = vibe.new_task("Not started")
    done = vibe("start", task, "--executor", "nobody")
    assert done.returncode == 1 and "no executor called 'nobody'" in done.stderr
    assert json.loads(vibe("task", "show", task, "--json").stdout)["attempts"] == []


def test_what_is_started_without_a_server_runs_when_one_comes(vibe: Site) -> None:
    vibe.server.stop()
    task = vibe.new_task("Later")
    started = vibe("start", task, "--executor", "script", "--prompt", "echo late")
    assert started.returncode == 0 and "No server runs" in started.stderr
    vibe.server.start()
    followed = vibe("logs", started.stdout.strip(), "--follow")
    assert followed.returncode == 0 and "late" in followed.stdout
