"""The child's pipes and the log between which everything it prints passes, as it comes and without loss."""

import contextlib
import os
import select

from tasks.supervision.child import Pipes
from tasks.supervision.logfile import LogFile
from tasks.supervision.records import Clock, Lines, record

_CHUNK = 64 * 1024
_FLUSH_AFTER = 0.1  # seconds that a line without end waits for its rest


class Output:
    """Reads the pipes, writes the log. While the disk takes no more, nothing is read: the child waits."""

    def __init__(
        self, log: str, max_log_bytes: int, max_message_bytes: int, prompt: str, clock: Clock
    ) -> None:
        self.poll = select.poll()
        self.log = LogFile(log, max_log_bytes, self._note)
        self._clock = clock
        self._lines = {kind: Lines(kind, max_message_bytes) for kind in ("stdout", "stderr")}
        self._kinds: dict[int, str] = {}
        self._flush_at: dict[str, float] = {}
        self._prompt = memoryview(prompt.encode("utf-8", "replace"))
        self._stdin = -1
        self._blocked_since: float | None = None

    def attach(self, pipes: Pipes) -> None:
        self._kinds = {pipes.stdout: "stdout", pipes.stderr: "stderr"}
        for pipe in self._kinds:
            os.set_blocking(pipe, False)
        self._watch(True)
        if pipes.stdin >= 0:
            self._stdin = pipes.stdin
            os.set_blocking(self._stdin, False)
            self.poll.register(self._stdin, select.POLLOUT)

    def handle(self, descriptor: int) -> None:
        """One pipe of ours is ready."""
        if descriptor == self._stdin:
            self._feed_prompt()
        elif descriptor in self._kinds:
            self._read(descriptor)

    def due(self) -> list[float]:
        """When something is to be done though nothing is heard, by the steady clock."""
        return [] if self.log.blocked else list(self._flush_at.values())

    def flush(self) -> None:
        """Writes the lines that have waited long enough for their rest."""
        now = self._clock.steady()
        for pipe, kind in list(self._kinds.items()):
            if self._flush_at.get(kind, now + 1) <= now:
                self._read(pipe)  # on a busy machine the rest is there, and this process is late
        for kind in [kind for kind, at in self._flush_at.items() if at <= now and not self.log.blocked]:
            del self._flush_at[kind]
            self.log.append(self._lines[kind].flush(self._clock.stamp()))

    def drain(self) -> bool:
        """Takes what is in the pipes now; False where the disk does not let it. Whoever may still hold the other
        end of a pipe does not belong to this run."""
        for pipe in list(self._kinds):
            while self._read(pipe):
                continue
        return not self.log.blocked

    def end(self) -> None:
        """Writes the last lines, which have no line end."""
        for lines in self._lines.values():
            self.log.append(lines.end(self._clock.stamp()))

    def error(self, text: str) -> None:
        self.log.append(record("error", text, self._clock.stamp()))

    def retry(self) -> float:
        """Tries again to write what the disk refused; for how many seconds it has refused, 0 when it is well."""
        self.log.retry()
        if not self.log.blocked:
            self._blocked_since = None
            self._watch(True)
            return 0.0
        if self._blocked_since is None:
            self._blocked_since = self._clock.steady()
        return self._clock.steady() - self._blocked_since

    def give_up(self) -> None:
        """From here on what the child prints is counted and dropped, so that it can end."""
        self.log.give_up()
        self._watch(True)

    def _read(self, pipe: int) -> bool:
        """Reads one chunk; False when there is none now."""
        if self.log.blocked:
            return False
        try:
            data = os.read(pipe, _CHUNK)
        except BlockingIOError:
            return False
        kind = self._kinds[pipe]
        if not data:
            self._unwatch(pipe)
            os.close(pipe)
            del self._kinds[pipe]
            return False
        lines = self._lines[kind]
        whole = lines.feed(data, self._clock.stamp())
        if whole or not lines.pending:
            self._flush_at.pop(kind, None)
        if lines.pending:
            self._flush_at.setdefault(kind, self._clock.steady() + _FLUSH_AFTER)
        self.log.append(whole)
        if self.log.blocked:
            self._watch(False)
        return True

    def _watch(self, wanted: bool) -> None:
        for pipe in self._kinds:
            if wanted:
                self.poll.register(pipe, select.POLLIN)
            else:  # not just "no events": a hang-up is reported even then, again and again
                self._unwatch(pipe)

    def _unwatch(self, pipe: int) -> None:
        with contextlib.suppress(KeyError):
            self.poll.unregister(pipe)

    def _feed_prompt(self) -> None:
        try:
            written = os.write(self._stdin, self._prompt[:_CHUNK])
            self._prompt = self._prompt[written:]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._prompt = self._prompt[:0]
        if not self._prompt:
            self.poll.unregister(self._stdin)
            os.close(self._stdin)
            self._stdin = -1

    def _note(self, text: str) -> bytes:
        return record("system", text, self._clock.stamp())
