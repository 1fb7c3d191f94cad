"""A full disk, a log that cannot be written, a clock that is set back: the supervisor alone, on a real small disk."""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.runs import launch
from tasks.supervision.folder import RunFolder
from tasks.supervision.main import Supervisor
from tasks.supervision.records import Clock
from tests.runs import Run, is_gone, wait_for

ROOM = 2 * 1024 * 1024


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes, where this account may make one; else a limit on files' sizes stands in."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(place)], capture_output=True
    )
    if made.returncode:
        pytest.skip("this account may not mount a small file system")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(disk: Path) -> Path:
    """Takes all the room that is left."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            return ballast


COUNT = "import sys\nfor i in range({count}): print(f'{{i:06d}} ' + 'y' * 92)\n"


def test_a_full_disk_makes_the_child_wait_and_nothing_is_lost(small_disk: Path) -> None:
    run = Run(small_disk / "run", sys.executable, "-c", COUNT.format(count=8000), disk_wait=60)
    (small_disk / "run" / "spec.json").write_text("{}")
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * (ROOM - 512 * 1024))
    run.start()
    wait_for(lambda: os.statvfs(small_disk).f_bavail == 0, "the full disk")
    assert not (small_disk / "run" / "exit.json").exists()
    ballast.unlink()
    assert run.finish()["exit_code"] == 0
    assert [int(line[:6]) for line in run.text().splitlines()] == list(range(8000))
    assert run.contents("system") == []


def test_a_disk_that_stays_full_stops_the_run_and_says_so(small_disk: Path) -> None:
    run = Run(small_disk / "run", sys.executable, "-c", COUNT.format(count=1_000_000), disk_wait=0.5)
    run.start()
    ended = run.finish()
    assert ended["reason"] == "log_failed"
    assert "No space left on device" in ended["message"]
    numbers = [int(line[:6]) for line in run.text().splitlines()]
    assert numbers == list(range(len(numbers))), "what is there is whole and in order"
    assert 5000 < len(numbers) < 1_000_000
    assert run.contents("system")[-1] == ended["message"]
    assert "were not kept" in run.contents("system")[-2]


def test_how_a_run_ended_is_recorded_even_on_a_full_disk(small_disk: Path) -> None:
    run = Run(small_disk / "run", "/bin/sh", "-c", "echo ready; read x < fifo; exit 9", disk_wait=0.5)
    os.mkfifo(small_disk / "run" / "fifo")
    run.start()
    wait_for(lambda: run.contents() == ["ready"], "the start")
    fill(small_disk)
    (small_disk / "run" / "fifo").write_text("go\n")
    ended = run.finish()
    assert (ended["exit_code"], ended["reason"]) == (9, "exited")


def test_a_last_line_without_an_end_waits_for_the_disk_too(small_disk: Path) -> None:
    code = "open('fifo').read(); print('z' * 60_000, end='')"
    run = Run(small_disk / "run", sys.executable, "-c", code, disk_wait=60)
    os.mkfifo(small_disk / "run" / "fifo")
    run.start()
    ballast = fill(small_disk)
    os.truncate(ballast, ballast.stat().st_size - 16 * 1024)
    (small_disk / "run" / "fifo").write_text("go\n")
    ended = run.folder / "exit.json"
    wait_for(lambda: os.statvfs(small_disk).f_bavail == 0 or ended.exists(), "the full disk")
    ballast.unlink()
    assert run.finish()["reason"] == "exited"
    assert run.contents() == ["z" * 60_000]


def test_a_stop_works_while_the_disk_is_full(small_disk: Path) -> None:
    run = Run(small_disk / "run", sys.executable, "-c", COUNT.format(count=1_000_000), disk_wait=600)
    run.start()
    wait_for(lambda: os.statvfs(small_disk).f_bavail == 0, "the full disk")
    state = run.state()
    launch.write_stop(RunFolder(run.folder), "Stopped by ada.")
    wait_for(lambda: is_gone(state["child"]), "the end of the child")
    assert run.finish()["reason"] == "stopped", "without waiting for the disk any more"


def test_a_log_over_the_system_limit_of_file_sizes_stops_the_run(tmp_path: Path) -> None:
    run = Run(tmp_path / "run", sys.executable, "-c", COUNT.format(count=100_000), disk_wait=0.3)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024 * 1024, before[1]))
    try:
        run.start()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    ended = run.finish()
    assert ended["reason"] == "log_failed"
    assert "File too large" in ended["message"]
    numbers = [int(line[:6]) for line in run.text().splitlines()]
    assert numbers == list(range(len(numbers)))


# -- the log file ------------------------------------------------------------------------------


def test_a_log_that_is_cut_within_a_record_loses_nothing_that_comes_after(tmp_path: Path) -> None:
    run = Run(
        tmp_path / "run", "/bin/sh", "-c", "echo a; echo b; while [ ! -e go ]; do sleep 0.1; done; echo after"
    )
    run.start()
    wait_for(lambda: run.contents() == ["a", "b"], "the start")
    log = tmp_path / "run" / "log.jsonl"
    size = log.stat().st_size
    os.truncate(log, size - 10)
    wait_for(lambda: b"Somebody cut" in log.read_bytes(), "the note")
    (tmp_path / "run" / "go").touch()
    assert run.finish()["exit_code"] == 0
    assert run.contents("system") == [f"Somebody cut this log: {size // 2} bytes of it are gone."]
    assert run.contents() == ["a", "after"]


def test_a_log_that_is_cut_says_how_much_is_gone(tmp_path: Path) -> None:
    run = Run(
        tmp_path / "run", "/bin/sh", "-c", "echo before; while [ ! -e go ]; do sleep 0.1; done; echo after"
    )
    run.start()
    wait_for(lambda: run.contents() == ["before"], "the start")
    size = (tmp_path / "run" / "log.jsonl").stat().st_size
    os.truncate(tmp_path / "run" / "log.jsonl", 0)
    wait_for(lambda: run.contents("system"), "the note")
    (tmp_path / "run" / "go").touch()
    assert run.finish()["exit_code"] == 0
    assert run.contents("system") == [f"Somebody cut this log: {size} bytes of it are gone."]
    assert run.contents() == ["after"]


def test_a_log_deleted_again_and_again_under_load_is_whole(tmp_path: Path) -> None:
    log, go = tmp_path / "run" / "log.jsonl", tmp_path / "go"
    wait = f"import os, time\nsys.stdout.flush()\nwhile not os.path.exists({str(go)!r}): time.sleep(0.05)\n"
    run = Run(tmp_path / "run", sys.executable, "-c", COUNT.format(count=100_000) + wait)
    run.start()
    for _ in range(3):
        log.unlink()
        wait_for(log.exists, "the log's return")
    go.touch()
    run.finish()
    assert [int(line[:6]) for line in run.text().splitlines()] == list(range(100_000))
    assert len(run.contents("system")) == 3


# -- the clock ---------------------------------------------------------------------------------


class Hands:
    """A clock that can be set; the steady clock beside it goes on."""

    def __init__(self) -> None:
        self.wall = 1_800_000_000.0
        self.steady = 50.0

    def clock(self) -> Clock:
        return Clock(lambda: self.wall, lambda: self.steady)

    def pass_by(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds


def test_times_never_go_back_when_the_clock_does() -> None:
    hands = Hands()
    clock = hands.clock()
    stamps = [clock.stamp()]
    for step in (1, 1, -3600, 0.5, 0.5, -10, 0, 2, 7300):
        hands.pass_by(1)
        hands.wall += step
        stamps.append(clock.stamp())
    assert stamps == sorted(stamps)
    assert len(set(stamps)) == len(stamps), "time goes on, by the steady clock"
    assert stamps[-1] == "2027-01-15T09:01:44.000000Z", "and follows the wall once that has caught up"
    assert 3600 < clock.stepped_back < 3620


def test_a_clock_set_back_is_noted_in_the_log_and_spoils_no_duration(tmp_path: Path) -> None:
    """The real loop on a real child, in a process of its own, with a clock that jumps back an hour at each look."""
    folder = tmp_path / "run"
    run = Run(folder, "/bin/sh", "-c", "echo one; sleep 1.5; echo two")
    pid = os.fork()
    if pid == 0:
        _supervise_with_a_jumping_clock(folder, run.spec)
    os.waitpid(pid, 0)
    ended = run.finish()
    stamps = [record["timestamp"] for record in run.records()]
    assert stamps == sorted(stamps)
    assert any("clock was set back" in text for text in run.contents("system"))
    assert run.contents() == ["one", "two"]
    assert 1.4 < ended["seconds"] < 30


def _supervise_with_a_jumping_clock(folder: Path, spec: dict[str, object]) -> None:
    import time

    began = time.monotonic()
    place = RunFolder(folder)
    supervisor = Supervisor(
        place,
        spec,
        lock=place.acquire() or -1,
        clock=Clock(lambda: 1_800_000_000 - 3600 * (time.monotonic() - began), time.monotonic),
    )
    supervisor.begin()
    supervisor.loop()
    os._exit(0)


def test_the_spec_of_a_run_is_no_secret_keeper(tmp_path: Path) -> None:
    run = Run(tmp_path / "run", "/bin/true")
    run.run()
    spec = json.loads((tmp_path / "run" / "spec.json").read_text())
    assert "env" not in spec
