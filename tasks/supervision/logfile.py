"""The log file while it is written.

The contract: records are appended whole and in order. While the disk does not take them, they wait
here and `blocked` is true: the supervisor stops reading the child's pipes, so the child waits too and
nothing is lost. A log that somebody deletes or cuts is put back as far as it can be, and says so.
Past its cap the log takes no more output, and says so too.
"""

import contextlib
import os
from collections.abc import Callable

_RESERVE = 16 * 1024
_COPY = 1024 * 1024


class LogFile:
    def __init__(self, path: str, max_bytes: int, note: Callable[[str], bytes]) -> None:
        """`note` makes a system record; `max_bytes` is the cap, 0 for none."""
        self._path = path
        self._max = max_bytes
        self._note = note
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._file).st_size
        self._backlog = b""
        self._reserve = path + ".reserve"
        self._make_reserve()
        self.error: OSError | None = None
        self.dropped_records = 0
        self.dropped_bytes = 0
        self.capped = False
        self.closed = False

    @property
    def blocked(self) -> bool:
        return bool(self._backlog)

    def append(self, data: bytes) -> None:
        """Appends records of the child's output."""
        if self.closed or self.capped:
            self._drop(data)
            return
        over = self._size + len(self._backlog) + len(data) - self._max
        if self._max and over > 0:
            # Its own words may have taken it past the cap already.
            end = data.rfind(b"\n", 0, max(0, len(data) - over)) + 1
            self._put(data[:end])
            self._drop(data[end:])
            self.capped = True
            self.say(
                f"This log has reached its limit of {self._max} bytes. The run goes on; "
                "what it prints from here on is not kept."
            )
        else:
            self._put(data)

    def say(self, text: str) -> None:
        """Appends a system record, past the cap if need be."""
        if not self.closed:
            self._put(self._note(text))

    def retry(self) -> None:
        """Tries again to write what the disk did not take."""
        self._put(b"")

    def look_after(self) -> None:
        """Puts a deleted log back, and says what is missing from one that was cut."""
        if self.closed:
            return
        found = os.fstat(self._file)
        if found.st_nlink == 0 or not os.path.exists(self._path):
            self._restore()
        elif found.st_size < self._size:
            before, self._size = self._size, found.st_size
            if self._torn() and not self.blocked:
                self._cut_torn()
            lost = before - self._size
            self.say(f"Somebody cut this log: {lost} bytes of it are gone.")

    def give_up(self) -> None:
        """Takes no more output: the disk has refused it for too long. Leaves whole records only."""
        self._drop(self._backlog)
        self._backlog = b""
        if self._torn():
            self._cut_torn()
            self.dropped_records += 1
        self.closed = True

    def close(self, last_words: list[str]) -> None:
        """Appends the last records, also after `give_up`, and makes the log durable."""
        with contextlib.suppress(OSError):
            os.unlink(self._reserve)
        self.closed = False
        self.look_after()
        if self.dropped_records:
            last_words = [
                f"{self.dropped_records} records ({self.dropped_bytes} bytes) were not kept.",
                *last_words,
            ]
        for words in last_words:
            self.say(words)
        self.give_up()
        with contextlib.suppress(OSError):
            os.fsync(self._file)

    def _put(self, data: bytes) -> None:
        waiting = self._backlog + data if self._backlog else data
        self.error = None
        while waiting:
            try:
                count = os.write(self._file, waiting)
            except OSError as error:
                self.error = error
                break
            self._size += count
            waiting = b"" if count == len(waiting) else waiting[count:]
        self._backlog = waiting

    def _drop(self, data: bytes) -> None:
        self.dropped_records += data.count(b"\n")
        self.dropped_bytes += len(data)

    def _torn(self) -> bool:
        """Does the file end in the middle of a record?"""
        return self._size > 0 and os.pread(self._file, 1, self._size - 1) != b"\n"

    def _cut_torn(self) -> None:
        end = self._size
        while end:
            start = max(0, end - _COPY)
            found = os.pread(self._file, end - start, start).rfind(b"\n")
            end = start + found + 1 if found >= 0 else start
            if found >= 0:
                break
        os.ftruncate(self._file, end)
        self._size = end

    def _restore(self) -> None:
        new_path = self._path + ".restored"
        try:
            os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
            new = os.open(new_path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError:
            return
        try:
            position = 0
            while data := os.pread(self._file, _COPY, position):
                position += len(data)
                while data:
                    data = data[os.write(new, data) :]
            os.replace(new_path, self._path)
        except OSError:  # no room for it now: it goes on in the deleted file until the next look
            os.close(new)
            with contextlib.suppress(OSError):
                os.unlink(new_path)
            return
        os.close(self._file)
        self._file = new
        self._size = position
        self._put(self._note("Somebody deleted this log while the run went on. It is whole again."))

    def _make_reserve(self) -> None:
        """Room for the last words, given back when the disk is full."""
        with contextlib.suppress(OSError), open(self._reserve, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, _RESERVE)
