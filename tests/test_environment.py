"""A bad setting stops the start with a message that quotes it."""

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import distributions
from pathlib import Path

import pytest

from tests.live import ROOT
from tests.zygote import Done, run
from vibe import environment


def test_all_that_is_installed_is_pinned() -> None:
    """Also what packages bring along: a newer Twisted, say, would be another server."""
    lists = "requirements.txt", "requirements-dev.txt", "constraints.txt"
    pins = {
        (name.replace("_", "-").lower(), version)
        for file in lists
        for name, version in re.findall(r"(?m)^([\w.-]+)(?:\[.*\])?==([^;\s]+)", (ROOT / file).read_text())
    }
    installed = {(one.name.replace("_", "-").lower(), one.version) for one in distributions()}
    assert {one for one in installed if one[0] not in ("pip", "setuptools", "wheel")} <= pins


def start(tmp_path: Path, **settings: str) -> Done:
    return run(["check"], {**os.environ, "VIBE_DATA": str(tmp_path), **settings})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EVENTS_HEARTBEAT_SECONDS", "often"),
        ("EVENTS_BUFFER_BYTES", "-1"),
        ("EVENTS_MAX_STREAMS", "1.5"),
        ("EVENTS_MAX_STREAMS", "inf"),
        ("EVENTS_KEEP_DAYS", "1000000"),
        ("EVENTS_URL", "redis://localhost"),
        ("DEBUG", "perhaps"),
        ("DATABASE_URL", "mysql://localhost/x"),
        ("DATABASE_URL", "postgres://"),
        ("DATABASE_URL", "sqlite://"),
        ("DATABASE_URL", "sqlite://:memory:"),
        ("VIBE_REPO_ROOTS", "/nowhere/at/all"),
        ("VIBE_REPO_ROOTS", "~nobody-of-this-name"),
        ("VIBE_REPO_ROOTS", "/" + "a" * 300),
        ("VIBE_DATA", "/dev/null/data"),
        ("VIBE_DATA", "/sys"),
        ("VIBE_DATA", "~nobody-of-this-name/data"),
        ("VIBE_COMPRESS_LOGS_AFTER_HOURS", "99999999"),
        ("VIBE_DEMO_SECONDS", "soon"),
        ("ALLOWED_HOSTS", "https://board.example.com"),
        ("SECRET_KEY", "short"),
        ("PUBLIC_URL", "board.example.com"),
        ("PUBLIC_URL", "https://board.example.com?x"),
        ("LOG_LEVEL", "loud"),
    ],
)
def test_a_bad_value_is_quoted(tmp_path: Path, name: str, value: str) -> None:
    done = start(tmp_path, **{name: value})
    assert done.returncode != 0
    (line,) = done.stderr.splitlines()
    assert line.startswith(name)
    assert value in line


@pytest.mark.parametrize("value", ["http", "65536", "²"])
def test_a_bad_port_is_quoted(tmp_path: Path, value: str) -> None:
    done = run(["serve"], {**os.environ, "VIBE_DATA": str(tmp_path), "PORT": value})
    assert done.returncode != 0
    assert f"PORT={value!r} is not a port number" in done.stderr


def test_the_secret_key_is_made_once_and_private(tmp_path: Path) -> None:
    assert start(tmp_path).returncode == 0
    key = tmp_path / "secret_key"
    first = key.read_text()
    assert len(first) > 50
    assert key.stat().st_mode & 0o077 == 0
    assert start(tmp_path).returncode == 0
    assert key.read_text() == first


@pytest.mark.parametrize("is_new", [True, False])
def test_the_database_is_private_in_a_folder_that_is_open_to_all(tmp_path: Path, is_new: bool) -> None:
    file = tmp_path / "db.sqlite3"
    if not is_new:
        file.write_bytes(b"")
        file.chmod(0o644)
    tmp_path.chmod(0o755)
    environment.database("VIBE_NO_DATABASE", file)
    assert file.stat().st_mode & 0o777 == 0o600


def test_an_empty_secret_key_is_made_anew(tmp_path: Path) -> None:
    key = tmp_path / "secret_key"
    key.touch()
    assert start(tmp_path).returncode == 0
    assert len(key.read_text()) > 50
    assert key.stat().st_mode & 0o077 == 0


def test_those_who_make_the_secret_key_at_once_have_the_same(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as many:
        keys = set(many.map(lambda _: environment.secret_key(tmp_path), range(64)))
    assert len(keys) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["secret_key"]


def test_a_secret_key_that_cannot_be_read_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "secret_key").mkdir()
    (line,) = start(tmp_path).stderr.splitlines()
    assert line.startswith(f"VIBE_DATA='{tmp_path}'") and "secret_key" in line


@pytest.mark.parametrize("name", ["a#b", "a?b", "a%20b"])
def test_the_database_lies_in_the_data_folder_whatever_that_is_called(tmp_path: Path, name: str) -> None:
    data = tmp_path / name
    assert run(["migrate", "contenttypes"], {**os.environ, "VIBE_DATA": str(data)}).returncode == 0
    assert (data / "db.sqlite3").exists()


def test_an_account_without_a_home_folder_starts(tmp_path: Path) -> None:
    places = (
        "from vibe import environment; environment.os.path.expanduser = str; print(environment.folders('X'))"
    )
    assert subprocess.check_output([sys.executable, "-c", places], text=True).strip() == "[]"


def test_a_database_that_cannot_be_used_is_named_without_its_password(tmp_path: Path) -> None:
    database = "postgres://me:hidden@127.0.0.1:1/vibe"
    env = {**os.environ, "VIBE_DATA": str(tmp_path), "DATABASE_URL": database}
    done = run(["serve"], env)
    assert done.returncode != 0
    assert "DATABASE_URL='postgres://me:…@127.0.0.1:1/vibe'" in done.stderr
    assert "hidden" not in done.stderr


def test_a_database_without_tables_is_said_in_one_line(tmp_path: Path) -> None:
    done = run(["token", "admin"], {**os.environ, "VIBE_DATA": str(tmp_path)})
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "auth_user" in line and "manage.py migrate" in line


@pytest.mark.parametrize("command", [["vibe", "tasks", "--project"], ["token"], ["executor", "x", "--"]])
def test_an_argument_that_is_not_utf8_is_refused_in_one_line(tmp_path: Path, command: list[str]) -> None:
    done = run([*command, "caf\udce9"], {**os.environ, "VIBE_DATA": str(tmp_path)})
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("An argument is not UTF-8: ") and r"caf\udce9" in line
