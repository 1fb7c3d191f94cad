"""Starts the child of a run and knows everything it started."""

import ctypes
import fcntl
import os
import signal
from collections.abc import Mapping, Sequence

from tasks.supervision import processes

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_F_SETPIPE_SZ = 1031
_PIPE_BYTES = 256 * 1024
_KILL_AGAIN = 0.02
_KILL_AT_LEAST = 2.0  # seconds


class CannotStart(Exception):
    """The program could not be started; the message says why."""


class Pipes:
    """The supervisor's ends of the child's pipes; `stdin` is -1 where the child has none."""

    def __init__(self, stdin: int, stdout: int, stderr: int) -> None:
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr


def become_subreaper() -> None:
    """From now on whatever a descendant leaves behind becomes this process's child, not init's."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def end_with_parent() -> None:
    """From now on the system kills this process when the one that started it ends, however that ends."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def start(argv: Sequence[str], env: Mapping[str, str], cwd: str, *, with_stdin: bool) -> tuple[int, Pipes]:
    """Runs the program as leader of its own session. Raises CannotStart."""
    program = _find(argv[0], env, cwd)
    # From here on nothing may be imported in the child: it has only this process's memory.
    out_read, out_write = os.pipe()
    err_read, err_write = os.pipe()
    in_read, in_write = os.pipe() if with_stdin else (os.open(os.devnull, os.O_RDONLY), -1)
    fault_read, fault_write = os.pipe()
    for end in (out_read, err_read):
        _enlarge(end)
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        _become(program, argv, env, cwd, (in_read, out_write, err_write), fault_write, parent)
    for end in (in_read, out_write, err_write, fault_write):
        os.close(end)
    fault = os.read(fault_read, 4096).decode()
    os.close(fault_read)
    if fault:
        os.waitpid(pid, 0)
        for end in (out_read, err_read, in_write):
            if end >= 0:
                os.close(end)
        raise CannotStart(fault)
    return pid, Pipes(in_write, out_read, err_read)


def _find(name: str, env: Mapping[str, str], cwd: str) -> str:
    if not os.path.isdir(cwd):
        raise CannotStart(f"The folder {cwd} is not there.")
    if os.sep in name:
        return os.path.join(cwd, name)
    for folder in env.get("PATH", os.defpath).split(os.pathsep):
        path = os.path.join(folder or ".", name)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    raise CannotStart(f"{name} is not installed: no program of this name is on the PATH.")


def _become(
    program: str,
    argv: Sequence[str],
    env: Mapping[str, str],
    cwd: str,
    streams: tuple[int, int, int],
    fault: int,
    parent: int,
) -> None:
    """In the forked child: turns into the program, or tells the parent why not, and ends."""
    doing = "start"
    try:
        os.setsid()
        # The child must not outlive its supervisor, which owns its output.
        end_with_parent()
        if os.getppid() != parent:
            os._exit(127)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        for caught in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            signal.signal(caught, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        doing = "enter the folder"
        os.chdir(cwd)
        doing = "start"
        os.execve(program, list(argv), dict(env))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        subject = cwd if doing != "start" else program
        if isinstance(error, FileNotFoundError) and os.path.exists(subject):
            reason = "the interpreter that its first line names is not there"
        os.write(fault, f"Cannot {doing} {subject}: {reason}.".encode()[:4000])
    finally:
        os._exit(127)


def _enlarge(pipe: int) -> None:
    """Fewer, larger reads. The system may refuse when its user holds many pipes; then it stays small."""
    try:
        fcntl.fcntl(pipe, _F_SETPIPE_SZ, _PIPE_BYTES)
    except OSError:
        return


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}) failed")


class Family:
    """The child and whatever descends from it, also by another session or a double fork."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def is_gone(self) -> bool:
        """Whatever loses its parent becomes this process's child, so who has no child has no descendant. A look
        through /proc may miss one that is just forking."""
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return True
        return False

    def members(self) -> list[processes.Process]:
        return processes.descendants(os.getpid())

    def signal(self, number: signal.Signals) -> set[tuple[int, int]]:
        """Signals each member once; their pids and start times."""
        if number == signal.SIGKILL:
            self._kill_on_sight()
        members = self.members()
        if any(member.group == self.pid for member in members):
            processes.send_group(self.pid, number)
        for member in members:
            if member.group != self.pid:
                processes.send(member, number)
        return {(member.pid, member.start_time) for member in members}

    def _kill_on_sight(self) -> None:
        """What forks in a loop and ends is another process by the time that all are known."""
        for process in processes.newest_first():
            if process.parent == os.getpid():
                processes.send(process, signal.SIGKILL)


class Stopping:
    """SIGINT (unless `polite` is empty), SIGTERM, SIGKILL, each after the grace of the one before; the last
    again and again, since whatever forks faster than it is found must be found again. Less and less often where
    just the same is found again: the program of another account (sudo), say, which may not be killed."""

    def __init__(self, family: Family, polite: Sequence[float], grace: float) -> None:
        self._family = family
        self._steps = [(signal.SIGINT, seconds) for seconds in polite] + [(signal.SIGTERM, grace)]
        self._kill_again = _KILL_AGAIN
        self._found: set[tuple[int, int]] = set()
        self.due = 0.0
        """When the next signal is due, by the steady clock."""

    def go_on(self, now: float) -> None:
        if now < self.due:
            return
        if not self._steps:
            self._kill(now)
            return
        number, grace = self._steps.pop(0)
        self._family.signal(number)
        if number == signal.SIGTERM:
            self._family.signal(signal.SIGCONT)  # what is suspended could not even end
        self.due = now + grace

    def _kill(self, now: float) -> None:
        found = self._family.signal(signal.SIGKILL)
        self._kill_again = (
            min(2 * self._kill_again, _KILL_AT_LEAST) if found and found == self._found else _KILL_AGAIN
        )
        self._found = found
        self.due = now + self._kill_again
