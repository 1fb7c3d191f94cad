"""Processes as /proc shows them. A pid is never trusted without its start time: the system reuses pids."""

import contextlib
import os
import signal
from collections.abc import Iterator


class Process:
    def __init__(self, pid: int, parent: int, group: int, session: int, start_time: int) -> None:
        self.pid = pid
        self.parent = parent
        self.group = group
        self.session = session
        self.start_time = start_time  # clock ticks since boot


def look(pid: int) -> Process | None:
    """One process, or None where there is none (a zombie is none: it only waits to be reaped) or it is another
    account's and /proc hides those."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name, in brackets, may itself hold brackets and spaces.
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    if not fields or fields[0] in b"ZX":
        return None
    parent, group, session = int(fields[1]), int(fields[2]), int(fields[3])
    return Process(pid, parent, group, session, int(fields[19]))


def newest_first() -> Iterator[Process]:
    """All processes, each as it is at the moment when it is yielded."""
    for pid in sorted((int(name) for name in os.listdir("/proc") if name.isdigit()), reverse=True):
        if process := look(pid):
            yield process


def everything() -> dict[int, Process]:
    return {process.pid: process for process in newest_first()}


def is_alive(pid: int, start_time: int) -> bool:
    process = look(pid)
    return process is not None and process.start_time == start_time


def descendants(root: int) -> list[Process]:
    """Children of `root`, their children, and so on; with a subreaper as root also those that double-forked."""
    children: dict[int, list[Process]] = {}
    for process in everything().values():
        children.setdefault(process.parent, []).append(process)
    found: list[Process] = []
    level = [root]
    while level:
        below = [child for pid in level for child in children.get(pid, [])]
        found += below
        level = [child.pid for child in below]
    return found


def of_run(marker: str, leader: tuple[int, int] | None = None) -> list[Process]:
    """Processes with `marker` ("NAME=value") in the environment they were started with, or in the session of this
    leader (pid and start time)."""
    wanted, found = marker.encode(), everything()
    members = _session(found, *leader) if leader else set()
    return [
        process
        for process in found.values()
        if process.pid != os.getpid() and (process.pid in members or wanted in _environment(process.pid))
    ]


def _session(found: dict[int, Process], leader: int, start_time: int) -> set[int]:
    """Its pids. Once all of it is gone, or the machine has started anew, its number may be another session's."""
    if leader in found and found[leader].start_time != start_time:
        return set()
    return {
        process.pid
        for process in found.values()
        if process.session == leader and process.start_time >= start_time
    }


def _environment(pid: int) -> list[bytes]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read().split(b"\0")
    except OSError:  # gone meanwhile, or another user's
        return []


def send(process: Process | tuple[int, int], number: signal.Signals) -> bool:
    """Signals the process only if it is still the one meant (pid and start time). True if it was."""
    pid, start_time = (process.pid, process.start_time) if isinstance(process, Process) else process
    try:
        descriptor = os.pidfd_open(pid)
    except (ProcessLookupError, OSError):
        return False
    try:
        if not is_alive(pid, start_time):
            return False
        signal.pidfd_send_signal(descriptor, number)
        return True
    except (ProcessLookupError, PermissionError):
        return False
    finally:
        os.close(descriptor)


def send_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
