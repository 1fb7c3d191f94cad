"""What every kind of stream is: a log, read by cursor.

The kinds of the application (database changes, process output, diffs) implement `Log`; `MemoryLog` is the
plainest kind, whose only log is the ring itself.
"""

import secrets
import threading
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from events import sse
from events.access import ALL, Principal, Scope, ScopeId
from events.store import Batch, Behind, MsgStore

ANYBODY: Final = Principal("", "none")


@dataclass(frozen=True, slots=True)
class Reader:
    """Who reads, what they may see, and what their request asked for (`?tail=`, `?view=`)."""

    principal: Principal = ANYBODY
    scope: Scope = ALL
    narrow: ScopeId | None = None
    """The one scope that the request asked for; `scope` is already narrowed to it."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    as_of: int = 0
    """The position up to which `scope` is known to hold, where the log keeps that."""

    @property
    def view(self) -> Hashable:
        """Readers with equal views see equal frames, and share them."""
        return self.scope


class Log(Protocol):
    """One stream. All methods are called on the event loop and must not block it."""

    @property
    def store(self) -> MsgStore:
        """The tail in memory, and the wake-up. A log feeds it between `opened` and `closed`."""

    origin: str
    """The cursor that stands for "nothing received yet"."""

    async def opened(self) -> None:
        """The first reader came: begin to feed the store. Runs to its end before any `start`."""

    async def closed(self) -> None:
        """The last reader left some time ago: stop feeding, free what is held."""

    async def is_over(self, cursor: str) -> bool:
        """Whether the reader with this cursor has everything there will ever be: answered with 204."""

    async def start(self, cursor: str | None, reader: Reader) -> Batch:
        """The first frames of a connection: what followed `cursor`, or a full state where there is no such cursor.

        A full state that replaces what a resuming reader holds begins with `sse.reset`, unless its
        first frame replaces everything by itself.
        """

    async def read(self, position: int, reader: Reader) -> Batch:
        """What follows this position, from the store or from the log behind it. Empty data: wait for the store."""


class QuickLog(Log, Protocol):
    """A log whose readers, once they have caught up, get all that follows from the store: they are served faster.

    What has a method `read_now` is one.
    """

    def read_now(self, position: int, reader: Reader) -> Batch | None:
        """What `read` would give, if that is neither the end nor a new beginning; None where it takes waiting."""


class MemoryLog:
    """A log with nothing behind it: what the ring holds is all there is.

    Cursors are `<epoch>.<number>`; the epoch is new in every process, so that a cursor from before a restart
    is told apart. A reader whose cursor is gone starts over with all that the ring still holds.
    """

    def __init__(
        self,
        key: str = "",
        *,
        max_bytes: int = 64 * 1024**2,
        max_message_bytes: int = 1024**2,
        max_age: float = float("inf"),
    ) -> None:
        self.key = key
        self.store = MsgStore(max_bytes, name=key, max_age=max_age)
        self.epoch = secrets.token_hex(4)
        self.origin = f"{self.epoch}.start"
        self._max_message_bytes = max_message_bytes
        self._numbering = threading.Lock()

    def publish(self, data: bytes, event: str = "") -> str:
        """Appends one message, from any thread, and returns its cursor. Raises MessageTooLarge."""
        if len(data) > self._max_message_bytes:
            raise sse.MessageTooLarge(len(data), self._max_message_bytes)
        with self._numbering:
            number = self.store.last + 1
            cursor = f"{self.epoch}.{number}"
            self.store.append(number, sse.frame(data, cursor, event))
        return cursor

    async def opened(self) -> None:
        """Nothing to feed from: `publish` does."""

    async def closed(self) -> None:
        """The ring stays, for it is all there is."""

    async def is_over(self, cursor: str) -> bool:
        return False

    async def start(self, cursor: str | None, reader: Reader) -> Batch:
        if cursor is None or cursor == self.origin:
            return await self.read(self.store.floor, reader)
        epoch, _, number = cursor.partition(".")
        if epoch != self.epoch or not number.isdigit():
            return self._start_over("unknown cursor", reader)
        if not self.store.floor <= int(number) <= self.store.last:
            return self._start_over("the cursor is no longer, or not yet, known", reader)
        return await self.read(int(number), reader)

    def read_now(self, position: int, reader: Reader) -> Batch | None:
        found = self.store.read(position)
        return None if isinstance(found, Behind) else found

    async def read(self, position: int, reader: Reader) -> Batch:
        found = self.store.read(position)
        if isinstance(found, Behind):
            return self._start_over("too slow: messages were dropped before they were read", reader)
        return found

    def _start_over(self, reason: str, reader: Reader) -> Batch:
        found = self.store.read(self.store.floor)
        if isinstance(found, Behind):  # The floor moved on in between.
            return self._start_over(reason, reader)
        return found._replace(data=sse.reset(reason, self.origin) + found.data)
