"""What `git diff --raw --numstat --patch -z` prints, as records. Pure, and streaming: nothing large is held whole.

Such output is all raw records, then all counts, then a NUL and the patches, in one order. In the raw records and
the counts names stand as they are, ended by NUL; in the headers of patches git quotes them (`quoted`).
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from events.messages import ChangeKind, FileDiff

_SECTION: Final = b"\ndiff --git "
_ESCAPES: Final = {7: "a", 8: "b", 9: "t", 10: "n", 11: "v", 12: "f", 13: "r", 34: '"', 92: "\\"}
_SPECIAL: Final = re.compile(rb'[\x00-\x1f"\\\x7f]')
_SPECIAL_OR_HIGH: Final = re.compile(rb'[\x00-\x1f"\\\x7f-\xff]')
_KINDS: Final[dict[str, ChangeKind]] = {"A": "added", "D": "deleted", "R": "renamed"}
_HEADER_BYTES: Final = 16 * 1024
"""More than the header of a patch ever is: names, modes, object ids."""


class UnexpectedOutput(ValueError):
    """Git printed something that is no diff."""


@dataclass(frozen=True, slots=True)
class Change:
    """One file that differs. Names are as the file system has them (`os.fsdecode`)."""

    status: str
    """A, D, M, T (its type changed) or R."""
    path: str
    old_path: str | None
    old_mode: str
    new_mode: str
    additions: int = 0
    deletions: int = 0
    binary: bool = False
    old_blob: str = ""

    @property
    def sections(self) -> int:
        """How many patches git prints for it: a change of type is a deletion and an addition."""
        return 2 if self.status == "T" else 1

    @property
    def header(self) -> bytes:
        """The line that begins its patch, without its line end."""
        old, new = (os.fsencode(name) for name in (self.old_path or self.path, self.path))
        return b"diff --git " + quoted(b"a/" + old) + b" " + quoted(b"b/" + new)


def quoted(name: bytes, *, ascii_only: bool = False) -> bytes:
    """A name as git prints it (core.quotePath=false): in double quotes with escapes where it has to be.

    Source: quote_c_style in git's quote.c.
    """
    special = _SPECIAL_OR_HIGH if ascii_only else _SPECIAL
    return b'"' + special.sub(_escaped, name) + b'"' if special.search(name) else name


def _escaped(found: re.Match[bytes]) -> bytes:
    byte = found[0][0]
    return b"\\" + (_ESCAPES[byte].encode() if byte in _ESCAPES else b"%03o" % byte)


def shown(path: str) -> str:
    """A name as it is told to clients. JSON has no bytes: a name that is not UTF-8 is C-quoted, as git prints it."""
    raw = os.fsencode(path)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return quoted(raw, ascii_only=True).decode()


class Parser:
    """Feed it the output in pieces; it yields each file's record as soon as its patch is complete.

    A diff larger than `limit` bytes is left out and its record says so; the counts are true all the same.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.changes: list[Change] = []
        """All of them, known before the first record is yielded."""
        self._buffer = b""
        self._phase = "raw"
        self._counted = 0
        self._next = 0
        self._section: _Section | None = None

    def feed(self, data: bytes) -> Iterator[tuple[Change, FileDiff]]:
        self._buffer += data
        if self._phase != "patch":
            self._fields()
        if self._phase == "patch":
            yield from self._patches(at_end=False)

    def close(self) -> Iterator[tuple[Change, FileDiff]]:
        """The end of the output."""
        if self._phase == "patch":
            yield from self._patches(at_end=True)
        elif self._buffer or self.changes:
            raise UnexpectedOutput(f"The diff ends in its middle: {self._buffer[:100]!r}")

    # --- raw records and counts

    def _fields(self) -> None:
        start = 0
        while self._phase != "patch":
            end = self._buffer.find(b"\0", start)
            if end < 0:
                break
            head = self._buffer[start:end]
            if not head:
                self._phase = "patch"
                start = end + 1
                # The patches are told apart by what stands before them: a line end.
                self._buffer = b"\n" + self._buffer[start:]
                return
            names, after = self._names(head, end + 1)
            if names is None:
                break
            if head.startswith(b":"):
                self._raw(head.decode(), names)
            else:
                self._count(head, names)
            start = after
        self._buffer = self._buffer[start:]

    def _names(self, head: bytes, start: int) -> tuple[list[str] | None, int]:
        """The names that belong to a record, as far as they have arrived, and where the next record begins."""
        if head.startswith(b":"):
            wanted = 2 if head.rpartition(b" ")[2][:1] in b"RC" else 1
        else:
            wanted = 2 if not head.split(b"\t", 2)[2] else 0
        names = []
        for _ in range(wanted):
            end = self._buffer.find(b"\0", start)
            if end < 0:
                return None, start
            names.append(os.fsdecode(self._buffer[start:end]))
            start = end + 1
        return names, start

    def _raw(self, head: str, names: list[str]) -> None:
        old_mode, new_mode, old_blob, _, status = head[1:].split(" ")
        old_path = names[0] if len(names) == 2 else None
        self.changes.append(Change(status[0], names[-1], old_path, old_mode, new_mode, old_blob=old_blob))

    def _count(self, head: bytes, names: list[str]) -> None:
        added, deleted, name = head.split(b"\t", 2)
        path = names[1] if names else os.fsdecode(name)
        change = self.changes[self._counted]
        if change.path != path:
            raise UnexpectedOutput(f"Counts of {path!r} where those of {change.path!r} belong")
        binary = added == b"-"
        counts = (0, 0) if binary else (int(added), int(deleted))
        self.changes[self._counted] = replace(change, additions=counts[0], deletions=counts[1], binary=binary)
        self._counted += 1

    # --- patches

    def _patches(self, *, at_end: bool) -> Iterator[tuple[Change, FileDiff]]:
        # A patch begins where a line does; within one, every line has a prefix that is not a "d".
        while (begin := self._buffer.find(_SECTION)) >= 0:
            line_end = self._buffer.find(b"\n", begin + 1)
            if line_end < 0:
                break
            self._add(begin)
            header = self._buffer[1 : line_end - begin]
            self._buffer = self._buffer[line_end - begin :]
            yield from self._begin(header)
        if at_end:
            self._add(len(self._buffer))
            yield from self._end()
        else:
            # What may be the beginning of a header stays until the rest of it has come.
            self._add(begin if begin >= 0 else max(0, len(self._buffer) - len(_SECTION)))

    def _add(self, size: int) -> None:
        if self._section is not None:
            self._section.add(self._buffer[:size])
        self._buffer = self._buffer[size:]

    def _begin(self, header: bytes) -> Iterator[tuple[Change, FileDiff]]:
        section = self._section
        if section is not None and section.change.sections > section.seen and section.change.header == header:
            section.again()
            return
        yield from self._end()
        while self._next < len(self.changes):
            change = self.changes[self._next]
            self._next += 1
            if change.header == header:
                self._section = _Section(change, self.limit)
                return
        raise UnexpectedOutput(f"A patch of a file that was not announced: {header!r}")

    def _end(self) -> Iterator[tuple[Change, FileDiff]]:
        section, self._section = self._section, None
        if section is not None and (record := section.record()):
            yield section.change, record


class _Section:
    """The patch of one file while it comes in."""

    def __init__(self, change: Change, limit: int) -> None:
        self.change = change
        self.seen = 1
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0
        self._hunks = b""
        self._binary = False

    def add(self, data: bytes) -> None:
        self._size += len(data)
        if self._size <= self._limit + _HEADER_BYTES:
            self._parts.append(data)

    def again(self) -> None:
        """The same file's second patch begins."""
        patch = b"".join(self._parts)
        self._hunks += _hunks(patch)
        self._binary |= b"\nBinary files " in patch
        self._parts = []
        self.seen += 1

    def record(self) -> FileDiff | None:
        """None where only the file's time stamp differs."""
        self.again()
        change = self.change
        too_large = self._size > self._limit + _HEADER_BYTES or len(self._hunks) > self._limit
        binary = change.binary and self._binary
        kind = _KINDS.get(change.status, "modified")
        if kind == "modified" and not (self._hunks or too_large or binary):
            if change.old_mode == change.new_mode:
                return None
            kind = "mode"
        return FileDiff(
            file=shown(change.path),
            diff="" if too_large else self._hunks.decode(errors="replace"),
            change=kind,
            old_path=shown(change.old_path) if change.old_path is not None else None,
            additions=change.additions,
            deletions=change.deletions,
            omitted="binary" if binary else "too_large" if too_large else None,
        )


def _hunks(patch: bytes) -> bytes:
    begin = patch.find(b"\n@@ ")
    if begin < 0:
        return b""
    return patch[begin + 1 :] + (b"" if patch.endswith(b"\n") else b"\n")
