"""The doctor on good and bad machines. What it says of proxies is in tests/servers/test_proxies.py."""

import json
import os
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.http import QueryDict
from django.test import Client

from tasks.doctor import Level, machine, worst
from tasks.doctor.echo import Plan, plan
from tasks.models import Project
from tests.live import LiveServer
from tests.repositories import UNREACHABLE
from tests.zygote import run


def run_doctor(data: Path, *args: str, **env: str) -> tuple[int, dict[str, list[dict[str, str]]]]:
    """The exit code, and the findings by check."""
    done = run(["doctor", "--json", *args], {**os.environ, "VIBE_DATA": str(data), **env})
    assert "Traceback" not in done.stderr, done.stderr
    found: dict[str, list[dict[str, str]]] = {}
    for line in done.stdout.splitlines():
        finding = json.loads(line)
        found.setdefault(finding["check"], []).append(finding)
    return done.returncode, found


def test_beside_a_running_server_all_is_well(live_server_process: LiveServer) -> None:
    code, found = run_doctor(live_server_process.data)
    assert code == 0, found
    assert found["server"][0]["level"] == "ok"
    assert "WAL" in found["database"][0]["message"]
    assert "demo" in found["agents"][0]["message"]
    assert "git version" in found["git"][0]["message"]


def test_a_server_whose_runner_crashes_again_and_again_is_not_taken_for_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine.runner, "is_running", lambda: False)
    monkeypatch.setattr(machine.control, "ask", lambda: [{"pid": 1, "streams": []}])
    found = next(machine.server())
    assert found.level is Level.WARNING and "A server runs" in found.message


def test_an_empty_data_folder_wants_migrations_and_a_server(tmp_path: Path) -> None:
    code, found = run_doctor(tmp_path / "new")
    assert code == 1
    assert any("migrate" in finding["advice"] for finding in found["database"])
    assert found["server"][0]["level"] == "warning" and "make run" in found["server"][0]["advice"]


def test_without_git_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    (finding,) = machine.git()
    assert finding.level == Level.PROBLEM and "not on PATH" in finding.message


@pytest.mark.parametrize("program", ["no program", "#!/bin/sh\nexit 1", "#!/bin/sh\nexec sleep 20"])
def test_of_a_git_that_does_not_work_it_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str
) -> None:
    (tmp_path / "git").write_text(program)
    (tmp_path / "git").chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(machine, "PATIENCE_SECONDS", 0.2)
    (finding,) = machine.git()
    assert finding.level == Level.PROBLEM and "does not work" in finding.message


@pytest.mark.django_db
def test_a_repository_that_cannot_be_reached_is_said() -> None:
    Project.objects.create(name="Far", repo_path=UNREACHABLE, target_branch="main")
    (finding,) = machine.projects(Project.objects.all())
    assert "'Far' is no longer at" in finding.message


@pytest.mark.django_db(transaction=True)
def test_the_command_prints_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("doctor")
    said = capsys.readouterr().out
    assert "ok       git: git version" in said
    assert "warning  server: No server runs on this data folder.\n           Start it: make run" in said


def test_a_database_that_is_none_is_said(tmp_path: Path) -> None:
    (tmp_path / "db.sqlite3").write_bytes(b"this is no database, but it is long enough to be looked at" * 100)
    code, found = run_doctor(tmp_path)
    assert code == 1
    assert "not a database" in found["database"][0]["message"]


def test_small_inotify_limits_are_said_with_the_line_to_type(tmp_path: Path) -> None:
    (tmp_path / "max_user_watches").write_text("8192\n")
    (tmp_path / "max_user_instances").write_text("512\n")
    watches, instances = machine.watches(tmp_path)
    assert watches.level == Level.WARNING and "sysctl -w fs.inotify.max_user_watches=524288" in watches.advice
    assert instances.level == Level.OK
    assert [finding.level for finding in machine.watches(tmp_path / "none")] == [Level.OK]


def test_the_file_system_is_that_of_the_closest_mount(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(
        f"/dev/sda1 / ext4 rw 0 0\nserver:/x {tmp_path} nfs4 rw 0 0\ntmpfs {tmp_path}/a\\040b tmpfs rw 0 0\n"
    )
    (tmp_path / "a b").mkdir()
    assert machine.file_system_of(tmp_path / "db.sqlite3", mounts) == "nfs4"
    assert machine.file_system_of(tmp_path / "a b" / "db.sqlite3", mounts) == "tmpfs"
    assert machine.file_system_of(Path("/etc"), mounts) == "ext4"
    assert "nfs4" in machine.NETWORK_FILE_SYSTEMS


@pytest.mark.django_db
def test_a_repository_that_went_away_is_named(tmp_path: Path) -> None:
    Project.objects.create(name="Gone", repo_path=str(tmp_path / "gone"), target_branch="main")
    (finding,) = machine.projects(Project.objects.all())
    assert finding.level == Level.WARNING and "'Gone'" in finding.message
    assert worst([finding]) == Level.WARNING


@pytest.mark.django_db
def test_the_page_is_for_staff() -> None:
    browser = Client()
    assert browser.get("/doctor/").status_code == 302
    browser.force_login(User.objects.create_user("member"))
    assert browser.get("/doctor/").status_code == 403
    assert browser.post("/doctor/judge/").status_code == 403
    browser.force_login(User.objects.create_user("editor", is_staff=True))
    assert "git version" in browser.get("/doctor/").content.decode()


@pytest.mark.django_db
def test_the_page_names_no_project_that_its_reader_may_not_see() -> None:
    Project.objects.create(name="Theirs", repo_path="/nowhere/theirs", target_branch="main")
    browser = Client()
    for staff, names in (
        (User.objects.create_user("editor", is_staff=True), False),
        (User.objects.create_superuser("root"), True),
    ):
        browser.force_login(staff)
        assert ("theirs" in browser.get("/doctor/").content.decode()) == names


def echo(status: int = 200, late: float = 0, **more: Any) -> dict[str, Any]:
    beats = [{"sent": 100 + number / 4, "arrived": 7 + max(number / 4, late)} for number in range(8)]
    seen = {"scheme": "https", "host": "board.example.com", "last_event_id": "echo.doctor"}
    headers = {"content-type": "text/event-stream"}
    return {
        "status": status, "headers": headers, "beats": beats, "seen": seen, "ended": True, "seconds": 2, **more
    }  # fmt: skip


@pytest.mark.django_db
def test_what_a_browser_measured_is_judged_as_the_command_judges() -> None:
    browser = Client()
    browser.force_login(User.objects.create_user("editor", is_staff=True))

    def judge(first: object, **more: object) -> list[dict[str, str]]:
        body = {"url": "https://board.example.com", "first": first, **more}
        answer = browser.post("/doctor/judge/", body, content_type="application/json")
        assert answer.status_code == 200, answer.content
        found: list[dict[str, str]] = answer.json()["findings"]
        return found

    assert [finding["level"] for finding in judge(echo(), silent=echo(), idle=20)] == ["ok", "ok"]
    (held,) = judge(echo(late=1.75))
    assert "held back for up to 1.8 s" in held["message"]
    cut = judge(echo(), silent=echo(ended=False, seconds=10.04), idle=20)[-1]
    assert "after 10.0 s" in cut["message"] and "below 7" in cut["advice"]
    assert browser.post("/doctor/judge/", {"first": {}}, content_type="application/json").status_code == 422
    for body in ("[", "[" * 100_000, json.dumps({"url": "", "first": echo() | {"status": float("inf")}})):
        assert browser.post("/doctor/judge/", body, content_type="application/json").status_code == 422


def test_a_plan_keeps_its_bounds_whatever_is_taken_for_a_number() -> None:
    """A loop whose timers are due at no time at all would run others late."""
    assert plan(QueryDict("beats=9&interval=1&silence=2")) == Plan(9, 1, 2)
    assert plan(QueryDict("interval=nan&silence=nan")) == Plan(8, 0.01, 0)
    assert plan(QueryDict("beats=1000&interval=inf&silence=inf")) == Plan(100, 2, 300)


def test_the_echo_is_for_staff_and_keeps_its_bounds(live_server_process: LiveServer) -> None:
    url = f"{live_server_process.url}/api/events/echo"
    with httpx.Client(trust_env=False, timeout=30) as client:
        assert client.get(url).status_code == 401
        assert client.get(url, params={"key": "echo:forged:signature"}).status_code == 401
        client.headers["Authorization"] = f"Bearer {live_server_process.token()}"
        assert client.get(url, params={"beats": "many"}).status_code == 422
        started = time.monotonic()
        answer = client.get(url, params={"beats": 3, "interval": 0.1, "silence": -5})
        assert time.monotonic() - started < 5
        assert answer.headers["content-type"] == "text/event-stream"
        assert answer.headers["x-accel-buffering"] == "no"
        assert answer.text.count("data: ") == 4 and "event: end" in answer.text
