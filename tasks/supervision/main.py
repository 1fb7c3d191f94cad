"""The supervisor of one run: owns one child, its pipes and its log, and outlives the server.

`supervise(folder)` reads spec.json, goes into the background, and returns in the first process
once the child has started (or has not, which exit.json then says). What spec.json holds:

| key | |
| --- | --- |
| argv, cwd | the program with its arguments, and the folder it starts in |
| stdin | text for its standard input, or null for none |
| timeout | seconds it may take, or null |
| graces | seconds between SIGINT, SIGTERM and SIGKILL |
| max_message_bytes, max_log_bytes | limits of a record and of the log |
| disk_wait | seconds to wait for a disk that takes no more, before the run is stopped |

The child's environment is the supervisor's own: it may hold secrets, so no file keeps it.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys

from tasks.supervision import child, processes
from tasks.supervision.folder import RunFolder
from tasks.supervision.output import Output
from tasks.supervision.records import Clock

TYPE_CHECKING = False  # as in folder.py
if TYPE_CHECKING:
    from typing import Any

_TICK = 1.0  # seconds between looks at what nobody tells: the stop file, the log's fate
_LINGER = 1.0  # seconds that processes left behind by the child may take to end by themselves
_RETRY = 0.25  # seconds between two tries to write to a full disk
_LOOK_AGAIN = 0.02  # once the child has ended and something it left is still there
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def supervise(path: str) -> int:
    """Starts supervising in the background. The exit status of the first process: 0, or 1 with a message."""
    folder = RunFolder(path)
    lock = folder.acquire()
    if lock is None or os.path.exists(folder.exit):
        sys.stderr.write("This run is supervised already, or has ended.\n")
        return 1
    spec = folder.read(folder.spec)
    if spec is None:
        sys.stderr.write(f"{folder.spec} cannot be read.\n")
        return 1
    ready_read, ready_write = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.close(ready_read)
            _in_background(folder, spec, lock, ready_write)
        os._exit(0)
    os.close(ready_write)
    message = os.read(ready_read, 4096)
    os.wait()
    if message == b"ready":
        return 0
    sys.stderr.write(message.decode() or "The supervisor ended before it was ready.\n")
    return 1


def _in_background(folder: RunFolder, spec: dict[str, Any], lock: int, ready: int) -> None:
    status = 1
    try:
        supervisor = Supervisor(folder, spec, lock=lock)
        _let_go_of_terminal()
        supervisor.begin()
        with contextlib.suppress(OSError):  # nobody waits any more: the run goes on all the same
            os.write(ready, b"ready")
        os.close(ready)
        supervisor.loop()
        status = 0
    finally:
        if fault := sys.exc_info()[1]:
            _report(folder, ready, fault)
        os._exit(status)


def _report(folder: RunFolder, ready: int, fault: BaseException) -> None:
    """Tells whoever waits for the start, else a file: there is no terminal any more."""
    import traceback  # too large for a program that almost never needs it

    with contextlib.suppress(OSError):
        os.write(ready, f"{fault}\n".encode())
    with contextlib.suppress(OSError):
        folder.write(folder.file("supervisor.err"), "".join(traceback.format_exception(fault)))


def _let_go_of_terminal() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(null, number)
    os.close(null)
    os.chdir("/")


class Supervisor:
    """One run, from its start to its exit record. `begin` once, then `loop`."""

    def __init__(
        self, folder: RunFolder, spec: dict[str, Any], *, lock: int, clock: Clock | None = None
    ) -> None:
        self._folder = folder
        self._spec = spec
        self._lock = lock
        self._clock = clock or Clock()
        self._output = Output(
            folder.log,
            int(spec["max_log_bytes"]),
            int(spec["max_message_bytes"]),
            spec.get("stdin") or "",
            self._clock,
        )
        self._family: child.Family | None = None
        self._wait_status: int | None = None
        self._reason = "exited"
        self._message = ""
        self._stopping: child.Stopping | None = None
        self._linger_until = 0.0
        self._next_tick = 0.0
        self._started_at = ""
        self._began = 0.0
        self._wake_read, self._wake_write = os.pipe()

    # -- start ---------------------------------------------------------------------------------

    def begin(self) -> None:
        """Starts the child. Where that fails, or a stop was asked for, the log and exit.json say so, and `loop` returns
        at once."""
        child.become_subreaper()
        self._catch_signals()
        self._folder.reserve_exit()
        self._began = self._clock.steady()
        self._started_at = self._clock.stamp()
        self._output.poll.register(self._wake_read, select.POLLIN)
        self._write_state()
        self._look_for_stop()
        if self._reason != "exited":
            self._finish(self._reason, self._message)
            return
        try:
            pid, pipes = child.start(
                self._spec["argv"],
                os.environ,
                self._spec["cwd"],
                with_stdin=self._spec.get("stdin") is not None,
            )
        except child.CannotStart as fault:
            self._output.error(str(fault))
            self._finish("not_started", str(fault))
            return
        self._family = child.Family(pid)
        self._output.attach(pipes)
        self._write_state()

    def _catch_signals(self) -> None:
        for end in (self._wake_read, self._wake_write):
            os.set_blocking(end, False)
        # Not the signal module's handlers but this pipe tells the loop what arrived.
        for number in (signal.SIGCHLD, signal.SIGUSR1, *_STOP_SIGNALS):
            signal.signal(number, lambda *_: None)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)

    def _write_state(self) -> None:
        me = processes.look(os.getpid())
        family = self._family
        born = processes.look(family.pid) if family else None
        state = {
            "pid": os.getpid(),
            "start_time": me.start_time if me else 0,
            "child": family.pid if family else None,
            "child_start_time": born.start_time if born else 0,
            "started_at": self._started_at,
        }
        with contextlib.suppress(OSError):  # a full disk: the lock still proves that this process lives
            self._folder.write(self._folder.state, state)

    # -- the loop ------------------------------------------------------------------------------

    def loop(self) -> None:
        """Until the child and all its descendants are gone and everything they printed is kept."""
        while self._family and not self._over():
            self._output.flush()
            self._turn()

    def _turn(self) -> None:
        for descriptor, _ in self._output.poll.poll(self._patience() * 1000):
            if descriptor == self._wake_read:
                self._read_signals()
            else:
                self._output.handle(descriptor)
        now = self._clock.steady()
        if self._output.log.blocked:
            self._wait_for_disk()
        if now >= self._next_tick:
            self._next_tick = now + _TICK
            self._look_around(now)
        if self._stopping:
            self._stopping.go_on(now)

    def _patience(self) -> float:
        """Seconds until something has to be done though nothing is heard."""
        now = self._clock.steady()
        due = [self._next_tick, *self._output.due()]
        if self._stopping:
            due.append(self._stopping.due)
        if self._wait_status is not None:
            due.append(now + _LOOK_AGAIN)
        if self._output.log.blocked:
            due.append(now + _RETRY)
        return max(0.0, min(due) - now)

    def _over(self) -> bool:
        """True when the run has ended, and its end is recorded."""
        if self._wait_status is None:
            return False
        now = self._clock.steady()
        self._reap()
        if self._family and not self._family.is_gone():
            if self._stopping is None and now >= self._linger_until:
                self._output.log.say("The program left processes behind; they are being stopped.")
                self._stopping = child.Stopping(self._family, [], float(self._spec["graces"][1]))
            return False
        if self._output.drain():
            self._output.end()
        if self._output.log.blocked:
            if self._reason == "exited":
                return False
            self._output.give_up()  # whoever stopped it does not wait for the disk
            self._output.end()
        self._finish(self._reason, self._message)
        return True

    def _wait_for_disk(self) -> None:
        waited = self._output.retry()
        if waited and waited >= self._spec["disk_wait"]:
            error = self._output.log.error
            self._output.give_up()
            self._stop(
                "log_failed",
                f"The log could not be written for {waited:.0f} seconds "
                f"({error.strerror if error else 'unknown'}); the run was stopped.",
            )

    # -- what happens to the child -------------------------------------------------------------

    def _read_signals(self) -> None:
        for number in os.read(self._wake_read, 4096):
            if number == signal.SIGCHLD:
                self._reap()
            elif number == signal.SIGUSR1:
                self._look_for_stop()
            elif number in _STOP_SIGNALS:
                name = signal.Signals(number).name
                self._stop("interrupted", f"The run's supervisor was told to end ({name}).")

    def _reap(self) -> None:
        """Collects the child and whatever else became ours by its parent's end."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if self._family and pid == self._family.pid:
                self._wait_status = status
                self._linger_until = self._clock.steady() + _LINGER

    def _look_around(self, now: float) -> None:
        self._reap()
        self._look_for_stop()
        timeout = self._spec.get("timeout")
        if timeout and now - self._began >= timeout:
            self._stop("timeout", f"The run was stopped after its time limit of {timeout:g} seconds.")
        self._clock.stamp()
        if self._clock.stepped_back >= 1:
            self._output.log.say(
                f"The machine's clock was set back by {self._clock.stepped_back:.0f} seconds. "
                "The times in this log go on from the last one."
            )
            self._clock.stepped_back = 0.0
        self._output.log.look_after()
        if not os.path.exists(self._folder.lock):
            with contextlib.suppress(OSError):
                self._lock = self._folder.acquire() or self._lock
                self._write_state()

    def _look_for_stop(self) -> None:
        try:
            with open(self._folder.stop, encoding="utf-8") as file:
                words = file.read(4096).strip()
        except OSError:
            return
        self._stop("stopped", words or "The run was stopped.")

    def _stop(self, reason: str, message: str) -> None:
        """Begins to stop everything. Idempotent; what ended before it stays ended as it did."""
        if self._reason != "exited" or self._wait_status is not None:
            return
        self._reason, self._message = reason, message
        self._output.log.say(message)
        if self._family:
            graces = self._spec["graces"]
            self._stopping = child.Stopping(self._family, [float(graces[0])], float(graces[1]))
            self._stopping.go_on(self._clock.steady())

    # -- the end -------------------------------------------------------------------------------

    def _finish(self, reason: str, message: str) -> None:
        code = None if self._wait_status is None else os.waitstatus_to_exitcode(self._wait_status)
        killed_by = _name(-code) if code is not None and code < 0 else None
        if killed_by and reason == "exited":
            message = f"The program was ended by the signal {killed_by}."
            self._output.log.close([message])
        else:
            # While it was full the disk refused these words: they come once more, from the reserve.
            self._output.log.close([message] if reason == "log_failed" else [])
        self._folder.write_exit(
            {
                "exit_code": code,
                "signal": killed_by,
                "reason": reason,
                "message": message,
                "started_at": self._started_at,
                "ended_at": self._clock.stamp(),
                "seconds": round(self._clock.steady() - self._began, 3),
            }
        )


def _name(number: int) -> str:
    """The name of a signal; a real-time one has only a number."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
