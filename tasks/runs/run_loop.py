"""The worker behind tasks/runs/runner.py: small steps, and a short loop around them."""

import fcntl
import logging
import os
import select
import signal
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.db import connection

from tasks import scratch
from tasks.finishing import operations
from tasks.models import ExecutionProcess, RunReason
from tasks.runs import endings, housekeeping, launch, runfiles
from tasks.runs.watched import Watched
from tasks.supervision import processes
from tasks.supervision.folder import RunFolder

logger = logging.getLogger("tasks.runner")

Status = ExecutionProcess.Status
_POLL_SECONDS: Final = 1.0  # for what other processes asked; what this one asks wakes it
_RESTART_SECONDS: Final = 1.0
_LAUNCHERS: Final = 4
_TIDY_SECONDS: Final = 3600.0
_FIRST_TIDY_SECONDS: Final = 60.0


@dataclass
class Health:
    """For whoever shows whether runs are being looked after."""

    alive: bool = False
    crashes: int = 0
    last_error: str = ""
    running: int = 0


class _Noting:
    """Keeps whatever goes wrong inside the block, and goes on after it."""

    def __init__(self, health: Health) -> None:
        self._health = health

    def __enter__(self) -> None:
        """Nothing is needed before."""

    def __exit__(self, kind: Any, fault: BaseException | None, trace: Any) -> bool:
        if fault is not None:
            self._health.crashes += 1
            self._health.last_error = f"{type(fault).__name__}: {fault}"
            logger.error("The runner crashed and starts again.", exc_info=fault)
        return isinstance(fault, Exception)


class Runner:
    """`start()` once in the server process, `stop()` at its end: the runs themselves go on.

    One runner works on a data folder at a time (a lock on runner.lock); a second waits until it is gone.
    A crash is logged, kept in `health`, and answered by a fresh start.
    """

    def __init__(self) -> None:
        self.health = Health()
        self._wake_read = self._wake_write = -1
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = -1
        self._watched: dict[UUID, Watched] = {}
        self._launches: dict[UUID, Future[bool]] = {}
        self._pool: ThreadPoolExecutor | None = None
        self._next_tidy = 0.0

    # -- the thread ----------------------------------------------------------------------------

    def start(self) -> None:
        if not self.is_alive():
            if self._wake_write < 0:  # not before: who loads this may fork, and forks would wake each other
                self._wake_read, self._wake_write = os.pipe()
                for end in (self._wake_read, self._wake_write):
                    os.set_blocking(end, False)
            self._next_tidy = time.monotonic() + _FIRST_TIDY_SECONDS
            self._stopping.clear()
            self._thread = threading.Thread(target=self._guard, name="runner", daemon=True)
            self._thread.start()

    def stop(self, timeout: float | None = None) -> None:
        """Ends the thread. What runs goes on under its supervisors; what is just being started gets there first,
        or, where git takes longer than git.LAST_SECONDS, is started anew by the next server."""
        self._stopping.set()
        self.wake()
        if self._thread:
            self._thread.join(timeout)

    def is_alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def wake(self) -> None:
        if self._wake_write < 0:
            return  # the runner is another process's, which looks by itself
        try:
            os.write(self._wake_write, b"w")
        except BlockingIOError:
            return  # it is about to wake anyway

    def _guard(self) -> None:
        # A plain daemon thread, not a pool's worker: the interpreter waits for those when it ends.
        while not self._stopping.is_set():
            with _Noting(self.health):
                self._work()
            self._stopping.wait(_RESTART_SECONDS)

    def _work(self) -> None:
        try:
            if not self._take_lock():
                return
            with ThreadPoolExecutor(_LAUNCHERS, thread_name_prefix="launch") as self._pool:
                operations.recover()
                self.recover()
                self.health.alive = True
                while not self._stopping.is_set():
                    done = self.step()
                    self._tidy_at_times()
                    if not done:  # What was done may be what another run waits for.
                        self._wait()
        finally:
            self._let_go()

    def _take_lock(self) -> bool:
        """Waits for its turn; False when the server ends first."""
        folder = Path(settings.VIBE_DATA)
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / "runner.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        while not self._stopping.is_set():
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._stopping.wait(_POLL_SECONDS)
            else:
                self._lock = descriptor
                return True
        os.close(descriptor)
        return False

    def _let_go(self) -> None:
        self.health.alive = False
        for watched in self._watched.values():
            watched.close()
        self._watched.clear()
        self._launches.clear()
        if self._lock >= 0:
            os.close(self._lock)
        self._lock = -1
        connection.close()

    def _wait(self) -> None:
        poll = select.poll()
        for descriptor in (self._wake_read, *(watched.descriptor for watched in self._watched.values())):
            if descriptor >= 0:
                poll.register(descriptor, select.POLLIN)
        poll.poll(_POLL_SECONDS * 1000)
        try:
            os.read(self._wake_read, 65536)
        except BlockingIOError:
            return

    # -- steps ---------------------------------------------------------------------------------

    def step(self) -> bool:
        """One round; True where something was done."""
        rows = list(
            ExecutionProcess.objects.filter(status__in=[Status.QUEUED, Status.RUNNING])
            .select_related("task_attempt__task__project", "started_by")
            .order_by("created_at")
        )
        self._drop_deleted({row.pk for row in rows})
        # The rows are older than the launches that have ended since, and do not say what became of these.
        done = [self._collect(rows), self._finish_launches(), self._stop_asked(rows), self._start_next(rows)]
        self.health.running = len(self._watched)
        return any(done)

    def _tidy_at_times(self) -> None:
        if self._pool is not None and time.monotonic() >= self._next_tidy:
            self._next_tidy = time.monotonic() + _TIDY_SECONDS
            self._pool.submit(_tidy).add_done_callback(_report)

    def recover(self) -> None:
        """Finds what became of the runs that a server before this one started."""
        for row in ExecutionProcess.objects.filter(status=Status.RUNNING).select_related(
            "task_attempt__task__project", "started_by"
        ):
            if row.pk not in self._launches:
                self._look_at(row)
        housekeeping.remove_orphans()
        scratch.sweep()

    def _look_at(self, process: ExecutionProcess) -> None:
        """Follows a living supervisor, or records the end of one that is gone."""
        folder = runfiles.folder_of(process.pk)
        lock = folder.acquire()
        if lock is None:
            self._watched[process.pk] = Watched(folder)
            return
        try:
            how = folder.read(folder.exit)
            if how is None and folder.read(folder.state) is None and not os.path.exists(folder.exit):
                self._queue_again(process)
                return
            if how is None:
                how = self._bury(process, folder)
        finally:
            os.close(lock)
        endings.record_end(process, how)

    def _queue_again(self, process: ExecutionProcess) -> None:
        """The server died between claiming the run and starting it: nothing has happened yet."""
        logger.info("The run %s was claimed but never started: it waits again.", process.pk)
        ExecutionProcess.objects.filter(pk=process.pk, status=Status.RUNNING).update(
            status=Status.QUEUED, started_at=None
        )

    def _bury(self, process: ExecutionProcess, folder: RunFolder) -> dict[str, Any]:
        """The supervisor died without a word: ends what it left behind, and says so in its place."""
        state = folder.read(folder.state, "child", "child_start_time") or {}
        marker = f"{launch.RUN_VARIABLE}={process.pk}"
        child, born = state.get("child"), state.get("child_start_time")
        strays = processes.of_run(marker, (child, born) if child and born else None)
        for stray in strays:
            processes.send(stray, signal.SIGKILL)
        logger.error("The supervisor of run %s died; %d processes ended.", process.pk, len(strays))
        words = (
            "The run's supervisor died (killed, out of memory, or the machine went down), so the run was "
            "interrupted. What it printed until then is above."
        )
        return endings.write_end(folder, words, reason="interrupted")

    def _drop_deleted(self, known: set[UUID]) -> None:
        """Runs whose records were deleted must not go on; those whose records somebody ended are left alone."""
        for key in [key for key in self._watched if key not in known]:
            watched = self._watched[key]
            if watched.has_ended():
                self._watched.pop(key).close()
            elif not (
                os.path.exists(watched.folder.stop) or ExecutionProcess.objects.filter(pk=key).exists()
            ):
                launch.ask_to_stop(watched.folder, "Stopped: its record was deleted.")

    def _finish_launches(self) -> bool:
        finished = [key for key, future in self._launches.items() if future.done()]
        for key in finished:
            fault = self._launches.pop(key).exception()
            process = _load(key)
            if process is None:  # deleted meanwhile: `_drop_deleted` stops what has started
                folder = runfiles.folder_of(key)
                self._watched[key] = Watched(folder)
                continue
            if process.ended:
                continue
            if fault is not None:
                logger.error("Starting run %s failed.", key, exc_info=fault)
                endings.fail(process, f"The run could not be started: {type(fault).__name__}: {fault}")
            else:
                self._look_at(process)
        return bool(finished)

    def _collect(self, rows: Iterable[ExecutionProcess]) -> bool:
        """Records the runs whose supervisors have ended."""
        found = False
        for row in rows:
            if row.status != Status.RUNNING or row.pk in self._launches:
                continue
            watched = self._watched.get(row.pk)
            if watched is not None and not watched.has_ended():
                continue
            if watched is not None:
                self._watched.pop(row.pk).close()
            self._look_at(row)
            found = True
        return found

    def _stop_asked(self, rows: Iterable[ExecutionProcess]) -> bool:
        """Carries out stops that were only written down, and ends what runs in an attempt that is over."""
        found = False
        for row in rows:
            over = not launch.is_open(row.task_attempt)
            watched = self._watched.get(row.pk)
            if not (row.stop_requested_at or over):
                continue
            if row.status == Status.QUEUED:
                found |= launch.end_waiting(row)
            elif watched and not os.path.exists(watched.folder.stop):
                launch.ask_to_stop(watched.folder, "Stopped: the attempt is over." if over else "Stopped.")
        return found

    def _start_next(self, rows: list[ExecutionProcess]) -> bool:
        """Starts waiting runs in their order, one at a time in an attempt and so many in all."""
        running = [row for row in rows if row.status == Status.RUNNING and not _is_beside(row)]
        busy = {row.task_attempt_id for row in running}
        starting = {row.task_attempt_id for row in rows if row.pk in self._launches}
        free = settings.VIBE_MAX_RUNS - len(running)
        started = False
        for row in sorted((row for row in rows if row.status == Status.QUEUED), key=_order):
            attempt = row.task_attempt
            if row.stop_requested_at or not launch.is_open(attempt):
                continue
            if attempt.worktree is None and attempt.pk in starting:
                continue  # its worktree is being made
            if not _is_beside(row):
                if attempt.pk in busy or free <= 0:
                    continue
                busy.add(attempt.pk)
                free -= 1
            starting.add(attempt.pk)
            if self._pool is not None and launch.claim(row):
                future = self._launches[row.pk] = self._pool.submit(_launch, row.pk)
                future.add_done_callback(lambda _: self.wake())
                started = True
        return started


def _order(row: ExecutionProcess) -> tuple[bool, Any, bool]:
    """Cleaning up belongs to a run that has had its turn; else first come, first served, setup before agent."""
    return row.run_reason != RunReason.CLEANUPSCRIPT, row.created_at, row.run_reason != RunReason.SETUPSCRIPT


def _is_beside(row: ExecutionProcess) -> bool:
    return row.run_reason == RunReason.DEVSERVER


def _launch(key: UUID) -> bool:
    """In a thread of the pool: making a worktree of a large repository takes its time."""
    try:
        process = _load(key)
        return process is not None and launch.launch(process)
    finally:
        connection.close()


def _tidy() -> None:
    try:
        housekeeping.tidy()
    finally:
        connection.close()


def _report(future: Future[None]) -> None:
    if fault := future.exception():
        logger.error("Tidying up failed.", exc_info=fault)


def _load(key: UUID) -> ExecutionProcess | None:
    return (
        ExecutionProcess.objects.filter(pk=key)
        .select_related("task_attempt__task__project", "started_by")
        .first()
    )
