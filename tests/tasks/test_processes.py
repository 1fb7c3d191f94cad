"""Processes and supervisors are known by pid and start time: the system gives a pid to somebody else one day."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.runs.watched import Watched
from tasks.supervision import processes
from tasks.supervision.folder import RunFolder
from tests.runs import wait_for


@pytest.fixture
def sleeper() -> Iterator["subprocess.Popen[bytes]"]:
    child = subprocess.Popen(["sleep", "600"])
    yield child
    child.kill()
    child.wait()


def start_time(pid: int) -> int:
    found = processes.look(pid)
    assert found
    return found.start_time


def test_who_has_the_pid_now_is_not_who_had_it(sleeper: "subprocess.Popen[bytes]") -> None:
    began = start_time(sleeper.pid)
    assert processes.is_alive(sleeper.pid, began)
    assert not processes.is_alive(sleeper.pid, began - 1)
    assert not processes.send((sleeper.pid, began - 1), signal.SIGKILL)
    assert sleeper.poll() is None
    assert processes.send((sleeper.pid, began), signal.SIGTERM)
    assert sleeper.wait(20) == -signal.SIGTERM


def test_what_waits_to_be_reaped_is_no_process(sleeper: "subprocess.Popen[bytes]") -> None:
    began = start_time(sleeper.pid)
    sleeper.kill()
    wait_for(lambda: processes.look(sleeper.pid) is None, "the end")
    assert Path(f"/proc/{sleeper.pid}").exists()
    assert not processes.send((sleeper.pid, began), signal.SIGTERM)


def test_what_a_proc_hides_is_passed_over(
    sleeper: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with `hidepid=1`, and `ProtectProc=noaccess` of systemd: all pids are listed, others' cannot be read."""

    def look_at_mine(path: str, *how: str) -> Any:
        if path == f"/proc/{sleeper.pid}/stat":
            raise PermissionError
        return open(path, *how)

    monkeypatch.setattr(processes, "open", look_at_mine, raising=False)
    found = processes.everything()
    assert os.getpid() in found
    assert sleeper.pid not in found


def test_a_supervisor_whose_pid_is_another_process_now_is_known_by_its_lock(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.make()
    began = start_time(os.getpid())
    folder.write(folder.state, {"pid": os.getpid(), "start_time": began})
    mine = Watched(folder)
    assert mine.descriptor >= 0
    assert not mine.has_ended()
    mine.close()
    folder.write(folder.state, {"pid": os.getpid(), "start_time": began - 1})
    another = Watched(folder)
    assert another.descriptor == -1
    assert another.has_ended()
    lock = folder.acquire()
    assert lock is not None
    assert not another.has_ended()
    os.close(lock)
