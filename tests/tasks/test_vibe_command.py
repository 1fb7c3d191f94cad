"""`manage.py vibe`, run as scripts run it, beside a running server and without one."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live import ROOT, LiveServer
from tests.repositories import git


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with LiveServer(tmp_path_factory.mktemp("vibe"), {"VIBE_DEMO_SECONDS": "1"}) as running:
        yield running


def vibe(server: LiveServer, *args: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", "vibe", *args],
        cwd=ROOT,
        env=server.env,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
    )


def new_task(server: LiveServer, title: str, *args: str) -> str:
    done = vibe(server, "task", "create", title, *args)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_script_creates_starts_follows_and_reads_the_diff(server: LiveServer, tmp_path: Path) -> None:
    task = new_task(server, "From a script", "--label", "cli", "--description", "-", "--status", "todo")
    started = vibe(server, "start", task, "--executor", "demo", "--follow")
    assert started.returncode == 0, started.stderr
    attempt, *lines = started.stdout.splitlines()
    assert re.fullmatch(r"[0-9a-f-]{36}", attempt) and len(lines) > 5
    assert vibe(server, "logs", attempt).stdout.splitlines() == lines

    shown = vibe(server, "task", "show", task).stdout
    assert "inreview" in shown and "completed (exit code 0)" in shown and "#cli" in shown
    patch = vibe(server, "diff", attempt).stdout
    record = json.loads(vibe(server, "task", "show", task, "--json").stdout)["attempts"][0]
    project = json.loads(vibe(server, "projects", "--json").stdout)
    copy = tmp_path / "copy"
    git(tmp_path, "clone", "-q", project["repo_path"], str(copy))
    git(copy, "checkout", "-q", record["base_commit"])
    (tmp_path / "patch").write_text(patch)
    git(copy, "apply", "--stat", str(tmp_path / "patch"))
    assert vibe(server, "diff", attempt, "--stat").stdout.count("\n") == patch.count("diff --git")


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("echo out; echo err >&2; exit 7", 7)])
def test_following_ends_with_the_runs_exit_code(server: LiveServer, script: str, code: int) -> None:
    task = new_task(server, "A script")
    done = vibe(server, "start", task, "--executor", "script", "--prompt", "-", "--follow", stdin=script)
    assert done.returncode == code, done.stderr
    if code:
        assert "out" in done.stdout.splitlines() and "err" in done.stderr.splitlines()


def test_following_a_run_that_is_stopped_fails(server: LiveServer) -> None:
    task = new_task(server, "Stopped")
    attempt = vibe(
        server, "start", task, "--executor", "script", "--prompt", "echo on; sleep 60"
    ).stdout.strip()
    following = subprocess.Popen(
        [sys.executable, "manage.py", "vibe", "logs", attempt, "--follow"],
        cwd=ROOT,
        env=server.env,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert following.stdout and following.stdout.readline() == "on\n"
    run = json.loads(vibe(server, "task", "show", task, "--json").stdout)["attempts"][0]["runs"][0]
    assert vibe(server, "stop", run["id"]).returncode == 0
    assert following.wait(60) != 0
    following.stdout.close()
    assert "killed" in vibe(server, "task", "show", task).stdout


def test_ctrl_c_ends_the_following_and_not_the_run(server: LiveServer) -> None:
    task = new_task(server, "Left alone")
    attempt = vibe(
        server, "start", task, "--executor", "script", "--prompt", "echo on; sleep 3; echo off"
    ).stdout.strip()
    following = subprocess.Popen(
        [sys.executable, "manage.py", "vibe", "logs", attempt, "--follow"],
        cwd=ROOT,
        env=server.env,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert following.stdout and following.stdout.readline() == "on\n"
    following.send_signal(signal.SIGINT)
    assert following.wait(30) == 130
    following.stdout.close()
    followed = vibe(server, "logs", attempt, "--follow")
    assert followed.returncode == 0 and followed.stdout.splitlines()[-1] == "off"


def test_tail_and_json(server: LiveServer) -> None:
    task = new_task(server, "Lines")
    attempt = vibe(
        server, "start", task, "--executor", "script", "--prompt", "seq 2500", "--follow"
    ).stdout.split()[0]
    run = json.loads(vibe(server, "task", "show", task, "--json").stdout)["attempts"][0]["runs"][0]["id"]
    assert vibe(server, "logs", run, "--tail", "2").stdout.split() == ["2499", "2500"]
    assert vibe(server, "logs", attempt).stdout.split() == [str(number) for number in range(1, 2501)]
    records = [json.loads(line) for line in vibe(server, "logs", run, "--json").stdout.splitlines()]
    assert [record["content"] for record in records if record["type"] == "stdout"][-1] == "2500"


def test_a_closed_pipe_ends_it_quietly(server: LiveServer) -> None:
    task = new_task(server, "Head")
    attempt = vibe(
        server, "start", task, "--executor", "script", "--prompt", "seq 90000", "-f"
    ).stdout.split()[0]
    program = f"{sys.executable} manage.py vibe logs {attempt} | head -1"
    done = subprocess.run(
        ["sh", "-c", program], cwd=ROOT, env=server.env, capture_output=True, text=True, timeout=60
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
def test_a_mistake_is_said_in_one_line(server: LiveServer, arguments: list[str], words: str) -> None:
    done = vibe(server, *arguments)
    assert done.returncode == 1 and words in done.stderr
    assert "Traceback" not in done.stderr and done.stderr.count("\n") == 1


def test_an_executor_that_is_not_there_changes_nothing(server: LiveServer) -> None:
    task = new_task(server, "Not started")
    done = vibe(server, "start", task, "--executor", "nobody")
    assert done.returncode == 1 and "no executor called 'nobody'" in done.stderr
    assert json.loads(vibe(server, "task", "show", task, "--json").stdout)["attempts"] == []


def test_what_is_started_without_a_server_runs_when_one_comes(tmp_path: Path) -> None:
    with LiveServer(tmp_path / "data") as server:
        server.stop()
        task = new_task(server, "Later")
        started = vibe(server, "start", task, "--executor", "script", "--prompt", "echo late")
        assert started.returncode == 0 and "No server runs" in started.stderr
        server.start()
        deadline = time.monotonic() + 30
        followed = vibe(server, "logs", started.stdout.strip(), "--follow")
        assert followed.returncode == 0 and "late" in followed.stdout and time.monotonic() < deadline
