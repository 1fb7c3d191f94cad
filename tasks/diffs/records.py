"""The compacted log of one attempt's diff: of each file, its latest record.

A record has the number of its publication; a new one of the same file replaces the old. So what followed a
reader's number is never more than one record a file, however long the reader was away, and a fresh reader
gets exactly what differs.
"""

import json
import secrets
import threading
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Final, NamedTuple

from events import sse
from events.messages import FileDiff
from events.store import CHUNK_BYTES, MsgStore, StoreStatistics
from tasks import durable
from tasks.diffs.tracker import digest

MOST_REVERTED: Final = 10_000
"""Files that no longer differ, of which resuming readers are still told; at times a tenth more."""


@dataclass(frozen=True, slots=True)
class Entry:
    number: int
    frame: bytes
    digest: str
    reverted: bool = False
    extra: bool = False
    """Only for readers who asked for it."""


_CACHED_CHUNKS: Final = 8
_SHIFT: Final = 48


class Place(NamedTuple):
    """Where a reader is, as the one integer that the engine knows of it: `position`."""

    number: int
    """What it has, up to this one."""
    began: int = 0
    """It came without a cursor when the log had reached this number: what was reverted before is no news to it."""
    told: bool = False
    """That it is up to date (`ready`)."""

    @property
    def position(self) -> int:
        # The number decides the order. The store's own positions are those of a Place with nothing but a number.
        return self.number << _SHIFT | self.began << 1 | self.told

    @classmethod
    def at(cls, position: int) -> "Place":
        return cls(position >> _SHIFT, (position & ((1 << _SHIFT) - 1)) >> 1, bool(position & 1))


class LatestStore(MsgStore):
    """What the engine sees of the log: something to wait on, and to count."""

    __slots__ = ("bytes", "messages")

    def __init__(self, name: str = "") -> None:
        super().__init__(1, name=name, max_messages=1)
        self.messages = 0
        self.bytes = 0

    def statistics(self) -> StoreStatistics:
        found = super().statistics()
        return StoreStatistics(
            self.messages, self.bytes, found.floor, found.last >> _SHIFT, found.published, found.dropped
        )


class Records:
    """May be written from any thread, and read from any."""

    def __init__(self, key: str, store: LatestStore) -> None:
        self.key = key
        """The eight hexadecimal digits that the cursors of this attempt begin with."""
        self.origin = f"{key}.start"
        """The cursor of who has received nothing yet."""
        self.store = store
        self.epoch = secrets.token_hex(4)
        self.last = 0
        self.floor = 0
        """Cursors before this number cannot be honoured: something reverted was forgotten."""
        self.expected: dict[str, tuple[int, str]] = {}
        """What readers of an earlier life of this log were sent: file -> number and digest."""
        self._entries: dict[str, Entry] = {}
        self._reverted = 0
        self._lock = threading.Lock()
        self._chunks: dict[tuple[int, bool], tuple[int, bytes, int]] = {}

    def cursor(self, number: int) -> str:
        return f"{self.key}{self.epoch}.{number}"

    def number_of(self, cursor: str) -> int | None:
        """The number a cursor stands for; None where it is not one of this log's, or can no longer be honoured."""
        head, _, number = cursor.partition(".")
        if head != self.key + self.epoch or not (number.isascii() and number.isdigit()):
            return None
        return int(number) if self.floor <= int(number) <= self.last else None

    # --- writing

    def put(self, record: FileDiff) -> None:
        mark = digest(record)
        with self._lock:
            number, sent = self.expected.pop(record.file, (0, ""))
            held = self._entries.get(record.file)
            if held is not None and held.digest == mark:
                return
            if sent == mark:
                # Sent in an earlier life, and the same still: only who has an older cursor needs it.
                self._insert(record.file, Entry(number, self._frame(record, number), mark))
                return
            self._append(record.file, record.json(), mark, reverted=record.change == "reverted")

    def put_event(self, event: str, data: object, *, extra: bool = True) -> None:
        """A named event of which, too, only the latest counts. Nothing is sent where it says the same as before."""
        said = json.dumps(data)
        with self._lock:
            old = self._entries.get(f"\0{event}")
            if old is None or old.digest != said:
                self._append(f"\0{event}", said.encode(), said, event=event, extra=extra)

    def has_event(self, event: str) -> bool:
        with self._lock:
            return f"\0{event}" in self._entries

    def drop_event(self, event: str) -> None:
        with self._lock:
            self._remove(f"\0{event}")

    def settle(self) -> None:
        """All that differs has been put: what was expected and did not come no longer differs."""
        with self._lock:
            expected, self.expected = self.expected, {}
            for file, (number, mark) in sorted(expected.items(), key=lambda item: item[1]):
                record = FileDiff(file, "", "reverted")
                if mark == digest(record):
                    self._insert(file, Entry(number, self._frame(record, number), mark, reverted=True))
                else:
                    self._append(file, record.json(), digest(record), reverted=True)
            self._entries = dict(sorted(self._entries.items(), key=lambda item: item[1].number))
            self._chunks.clear()
            self._forget_reverted()
            # Nothing new but the news itself: wakes who waits to be told that it is up to date.
            self.last += 1
            self.store.append(Place(self.last).position, b"")

    def files(self) -> list[str]:
        """The files that differ, as clients know them."""
        with self._lock:
            return [
                name
                for name, entry in self._entries.items()
                if not name.startswith("\0") and not entry.reverted
            ]

    def _append(
        self,
        name: str,
        data: bytes,
        mark: str,
        *,
        event: str = "",
        reverted: bool = False,
        extra: bool = False,
    ) -> None:
        self._remove(name)
        self.last += 1
        frame = sse.frame(data, self.cursor(self.last), event)
        self._insert(name, Entry(self.last, frame, mark, reverted, extra))
        if self._reverted > MOST_REVERTED * 1.1:
            self._forget_reverted()
        self.store.append(Place(self.last).position, b"")

    def _frame(self, record: FileDiff, number: int) -> bytes:
        return sse.frame(record.json(), self.cursor(number))

    def _insert(self, name: str, entry: Entry) -> None:
        self._entries[name] = entry
        self._reverted += entry.reverted
        self.store.messages += 1
        self.store.bytes += len(entry.frame)

    def _remove(self, name: str) -> None:
        old = self._entries.pop(name, None)
        if old is not None:
            self._chunks.clear()
            self._reverted -= old.reverted
            self.store.messages -= 1
            self.store.bytes -= len(old.frame)

    def _forget_reverted(self) -> None:
        reverted = sorted((entry.number, name) for name, entry in self._entries.items() if entry.reverted)
        for number, name in reverted[: max(0, len(reverted) - MOST_REVERTED)]:
            self.floor = max(self.floor, number)
            self._remove(name)

    # --- reading

    def after(self, place: Place, *, extras: bool) -> tuple[bytes, Place]:
        """What follows this place, at most a chunk, and the place after it. Who is so far behind that something
        reverted was forgotten starts over."""
        with self._lock:
            if max(place.number, place.began) < self.floor:
                data, number = self._join(place := Place(0, began=self.last), extras)
                return sse.reset("Too much has changed since.", self.origin) + data, place._replace(
                    number=number
                )
            shared = place.number >= place.began
            held = self._chunks.get((place.number, extras))
            if shared and held is not None and held[0] == self.last:
                return held[1], place._replace(number=held[2])
            data, number = self._join(place, extras)
            if shared:
                if len(self._chunks) >= _CACHED_CHUNKS:
                    self._chunks.clear()
                self._chunks[place.number, extras] = (self.last, data, number)
            return data, place._replace(number=number)

    def _join(self, place: Place, extras: bool) -> tuple[bytes, int]:
        following = list(
            takewhile(lambda entry: entry.number > place.number, reversed(self._entries.values()))
        )
        parts: list[bytes] = []
        size = 0
        reached = place.number
        for entry in reversed(following):
            if parts and size + len(entry.frame) > CHUNK_BYTES:
                return b"".join(parts), reached
            reached = entry.number
            if not (entry.reverted and entry.number <= place.began) and (extras or not entry.extra):
                parts.append(entry.frame)
                size += len(entry.frame)
        return b"".join(parts), self.last

    # --- a life after this one

    def save(self, file: Path) -> None:
        """Keeps what was sent, in numbers and digests, so that cursors outlive this log."""
        with self._lock:
            sent = {
                name: (entry.number, entry.digest) for name, entry in self._entries.items() if name[0] != "\0"
            }
            state = {"epoch": self.epoch, "last": self.last, "floor": self.floor, "sent": sent}
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        durable.write(file, state)

    def restore(self, file: Path) -> bool:
        """Takes up what `save` kept, and deletes it: after a crash it would not be what was sent last."""
        state = durable.take(file)
        if state is None:
            return False
        self.epoch, self.last, self.floor = state["epoch"], state["last"], state["floor"]
        self.expected = {name: (number, mark) for name, (number, mark) in state["sent"].items()}
        if self.last:
            self.store.append(Place(self.last).position, b"")
        return True
