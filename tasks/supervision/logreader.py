"""Reading a run's log by byte offset and by line, whether it is plain or compressed. Standard library only.

A log is `log.jsonl`, or, some time after the run's end, `log.jsonl.gz`: gzip members of about a megabyte
each, and `log.jsonl.gz.index`, which says where each begins and how many lines come before each block.
Offsets always mean the plain text, so cursors and links stay good. Only whole lines are ever given out: a
record that is half written does not exist yet.
"""

import bisect
import gzip
import json
import os
import threading
import zlib
from collections import OrderedDict
from typing import Final

BLOCK: Final = 256 * 1024
_MEMBER: Final = 1024 * 1024
_INDEXES: Final = 16


class LogReader:
    """The log in one run's folder. Cheap to make; opens the file for each read, so it never holds one that went."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.path = os.path.join(os.fspath(folder), "log.jsonl")
        self._members: _Members | None = None

    def size(self) -> int:
        """Bytes of the plain text; 0 where there is no log (yet)."""
        try:
            return os.stat(self.path).st_size
        except (FileNotFoundError, NotADirectoryError):
            members = self._compressed()
            return members.size if members else 0

    def read(self, offset: int, count: int) -> bytes:
        """At most `count` bytes from `offset` on."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            members = self._compressed()
            return members.read(offset, count) if members else b""
        try:
            return os.pread(descriptor, count, offset)
        finally:
            os.close(descriptor)

    def lines(self, offset: int, count: int = BLOCK) -> bytes:
        """Whole lines from `offset` on, at most `count` bytes of them, but one line at least where there is one."""
        data = self.read(offset, count)
        end = data.rfind(b"\n") + 1
        if end or len(data) < count:
            return data[:end]
        while True:  # one line longer than that
            more = self.read(offset + len(data), count)
            end = more.find(b"\n") + 1
            data += more[:end] if end else more
            if end:
                return data
            if len(more) < count:
                return b""

    def is_boundary(self, offset: int) -> bool:
        """Does a record begin here, or the end of the log lie here?"""
        if offset == 0:
            return True
        return 0 < offset <= self.size() and self.read(offset - 1, 1) == b"\n"

    def back(self, end: int, lines: int) -> int:
        """Where the last `lines` lines before the boundary `end` begin."""
        if lines <= 0:
            return end
        position, missing = end, lines + 1  # the line end before the first of them counts too
        while position > 0:
            start = max(0, position - BLOCK)
            data = self.read(start, position - start)
            found = data.count(b"\n")
            if found >= missing:
                place = len(data)
                for _ in range(missing):
                    place = data.rfind(b"\n", 0, place)
                return start + place + 1
            missing -= found
            position = start
        return 0

    def end(self) -> int:
        """The boundary after the last whole line."""
        size = self.size()
        position = size
        while position > 0:
            start = max(0, position - BLOCK)
            place = self.read(start, position - start).rfind(b"\n")
            if place >= 0:
                return start + place + 1
            position = start
        return 0

    def line_counts(self) -> list[int]:
        """How many lines end before each whole block, where that was counted once and for all; else empty."""
        if os.path.exists(self.path):
            return []
        members = self._compressed()
        return members.line_counts if members else []

    def _compressed(self) -> "_Members | None":
        if self._members is None:
            self._members = _Members.open(self.path + ".gz")
        return self._members


class _Members:
    """A compressed log: a table of its members, and the last one that was unpacked."""

    def __init__(
        self, path: str, size: int, starts: list[int], places: list[int], line_counts: list[int]
    ) -> None:
        self._path = path
        self.size = size
        self.line_counts = line_counts
        self._starts = starts  # offset in the plain text at which each member begins
        self._places = places  # and its place in the file
        self._held: tuple[int, bytes] = (-1, b"")

    @classmethod
    def open(cls, path: str) -> "_Members | None":
        try:
            with open(path + ".index", encoding="utf-8") as file:
                found = json.load(file)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return cls(path, found["size"], found["starts"], found["places"], found.get("lines", []))

    def read(self, offset: int, count: int) -> bytes:
        parts = []
        while count > 0 and offset < self.size:
            number = bisect.bisect_right(self._starts, offset) - 1
            part = self._member(number)[offset - self._starts[number] :][:count]
            parts.append(part)
            offset += len(part)
            count -= len(part)
        return b"".join(parts)

    def _member(self, number: int) -> bytes:
        held, data = self._held
        if held != number:
            end = self._places[number + 1] if number + 1 < len(self._places) else None
            with open(self._path, "rb") as file:
                file.seek(self._places[number])
                packed = file.read(end - self._places[number] if end is not None else -1)
            data = gzip.decompress(packed)
            self._held = number, data
        return data


def compress(folder: str | os.PathLike[str]) -> int:
    """Packs the log of a run that has ended; the bytes saved. Raises OSError, and then has changed nothing."""
    path = os.path.join(os.fspath(folder), "log.jsonl")
    new, new_index = f"{path}.gz.new", f"{path}.gz.index.new"
    starts, places, offset, lines = [], [], 0, [0]
    try:
        with open(path, "rb") as plain, open(new, "wb") as packed:
            while data := plain.read(_MEMBER):
                starts.append(offset)
                places.append(packed.tell())
                offset += len(data)
                for begin in range(0, len(data) - BLOCK + 1, BLOCK):
                    lines.append(lines[-1] + data.count(b"\n", begin, begin + BLOCK))
                packed.write(gzip.compress(data, 6, mtime=0))
            packed.flush()
            os.fsync(packed.fileno())
            saved = offset - packed.tell()
        with open(new_index, "w", encoding="utf-8") as file:
            json.dump({"size": offset, "starts": starts, "places": places, "lines": lines}, file)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, zlib.error):
        for leftover in (new, new_index):
            if os.path.exists(leftover):
                os.unlink(leftover)
        raise
    os.replace(new, path + ".gz")
    os.replace(new_index, path + ".gz.index")
    os.unlink(path)  # last: until here readers take the plain one
    return saved


class LineIndex:
    """How many lines end before each block of a log, so that any line is found by reading one block.

    Extended as the log grows; a log that got shorter is counted afresh. May be used from several threads.
    """

    def __init__(self, reader: LogReader) -> None:
        self._reader = reader
        self._before = [0]  # lines that end before block i
        self._lock = threading.Lock()

    def total(self) -> int:
        """Lines so far. Reads only what has been added since the last look."""
        with self._lock:
            return self._extend()

    def offset(self, line: int) -> int:
        """Where the line of this number (from 0) begins; the end where there are not so many."""
        with self._lock:
            if line <= 0:
                return 0
            if line >= self._extend():
                return self._reader.end()
            block = bisect.bisect_left(self._before, line) - 1
            data = self._reader.read(block * BLOCK, BLOCK)
            place = -1
            for _ in range(line - self._before[block]):
                place = data.index(b"\n", place + 1)
            return block * BLOCK + place + 1

    def _extend(self) -> int:
        size = self._reader.size()
        if size < (len(self._before) - 1) * BLOCK:
            del self._before[1:]
        if len(self._before) == 1:
            self._before = self._reader.line_counts() or self._before
        while True:
            data = self._reader.read((len(self._before) - 1) * BLOCK, BLOCK)
            total = self._before[-1] + data.count(b"\n")
            if len(data) < BLOCK:
                return total
            self._before.append(total)


_indexes: OrderedDict[str, LineIndex] = OrderedDict()
_indexes_lock = threading.Lock()


def index_of(folder: str | os.PathLike[str]) -> LineIndex:
    """The index of a log, kept for the logs looked at last."""
    key = os.fspath(folder)
    with _indexes_lock:
        found = _indexes.pop(key, None) or LineIndex(LogReader(key))
        _indexes[key] = found
        if len(_indexes) > _INDEXES:
            _indexes.popitem(last=False)
        return found
