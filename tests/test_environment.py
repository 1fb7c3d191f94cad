"""A bad setting stops the start with a message that quotes it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.live import ROOT


def start(tmp_path: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "VIBE_DATA": str(tmp_path), **settings}
    return subprocess.run(
        [sys.executable, "manage.py", "check"], cwd=ROOT, env=env, capture_output=True, text=True
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EVENTS_HEARTBEAT_SECONDS", "often"),
        ("EVENTS_BUFFER_BYTES", "-1"),
        ("EVENTS_MAX_STREAMS", "1.5"),
        ("EVENTS_URL", "redis://localhost"),
        ("DEBUG", "perhaps"),
        ("DATABASE_URL", "mysql://localhost/x"),
        ("VIBE_REPO_ROOTS", "/nowhere/at/all"),
    ],
)
def test_a_bad_value_is_quoted(tmp_path: Path, name: str, value: str) -> None:
    done = start(tmp_path, **{name: value})
    assert done.returncode != 0
    assert name in done.stderr
    assert value in done.stderr


def test_the_secret_key_is_made_once_and_private(tmp_path: Path) -> None:
    assert start(tmp_path).returncode == 0
    key = tmp_path / "secret_key"
    first = key.read_text()
    assert len(first) > 50
    assert key.stat().st_mode & 0o077 == 0
    assert start(tmp_path).returncode == 0
    assert key.read_text() == first
