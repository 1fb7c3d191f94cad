"""A suite in several processes tells the same as in one."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.zygote import ROOT

ONE = """
import os, time
from pathlib import Path

import pytest
from django.conf import settings

@pytest.fixture(scope="module", autouse=True)
def place():
    places = Path(os.environ["PLACES"])
    (places / str(os.getpid())).write_text(str(settings.VIBE_DATA))
    deadline = time.monotonic() + 30
    while len(list(places.iterdir())) < 2:
        assert time.monotonic() < deadline, "no other process came"
        time.sleep(0.01)

def test_passes():
    pass

def test_fails():
    print("printed before")
    assert [1, 2] == [1, 3]

def test_is_skipped():
    pytest.skip("not here")
"""


def suite(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "places").mkdir()
    usual = (
        f"-c {os.devnull} --rootdir {folder} --import-mode importlib -p tests.workers -p no:cacheprovider -rA"
    )
    return subprocess.run(
        [sys.executable, "-m", "pytest", *usual.split(), *options, str(folder)],
        cwd=ROOT,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PLACES": str(folder / "places")},
        capture_output=True,
        text=True,
    )


def test_each_module_is_told_of_and_has_its_process_and_data(tmp_path: Path) -> None:
    for name in ("test_a.py", "test_b.py", "test_c.py"):
        (tmp_path / name).write_text(ONE)
    done = suite(tmp_path, "--workers", "2")
    assert done.returncode == 1
    assert "3 failed, 3 passed, 3 skipped" in done.stdout
    for told in ("printed before", "assert [1, 2] == [1, 3]", "not here"):
        assert len(re.findall(re.escape(told), done.stdout)) >= 3, (told, done.stdout)
    data = [place.read_text() for place in (tmp_path / "places").iterdir()]
    assert len(data) == len(set(data)) == 2


def test_one_that_dies_is_told_with_its_test(tmp_path: Path) -> None:
    (tmp_path / "test_a.py").write_text("def test_kind(): pass\ndef test_deadly(): import os; os._exit(3)\n")
    (tmp_path / "test_b.py").write_text("def test_kind(): pass\n")
    done = suite(tmp_path, "--workers", "2")
    assert done.returncode == 1
    assert re.search("a worker ended with 3 at .*::test_deadly", done.stdout), done.stdout
