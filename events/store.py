"""MsgStore: the part of a log that is kept in memory, and the waiting for more of it.

The contract
------------
A store is a bounded ring of frames, each at a position. Positions are integers that only grow; they are
the log's own (a row id, a byte offset, a sequence number), so they may have gaps.

*Publish.* `append(position, frame)` costs the same however many read: it never waits, copies to nobody,
and may be called from any thread. A frame at or before the last position is a repeat and is ignored,
so a feeder that starts a little too early does no harm. Frames are encoded before they come here, once.

*Read.* `read(after)` gives what follows `after` as one chunk of whole frames, joined: those of at most `CHUNK_ENTRIES`
messages, of which a reader may see few or none, and at most `CHUNK_BYTES` (a single larger frame travels alone).
Readers at the same place share the same chunk object. Reading never takes anything away, so it can be cancelled or
repeated at will: the cursor is the reader's own integer.

*Overflow.* When the frames exceed `max_bytes` (or `max_messages`), or are older than `max_age` seconds,
the oldest go, whoever has yet to read them. A reader whose place has gone gets `Behind`, never a chunk with
a hole in it; it continues from the log behind the store, or starts over from a full state.

*Late subscription.* There is none: a reader that comes late reads from its cursor like any other. Nothing is
copied at its arrival, so nothing can fall between the copy and the subscription.

*Waiting.* `wait(after)` returns at once if there is something after `after`, else at the next publish. Many
publishes are one wake-up: the first after a pause wakes at once, those within `window` seconds of the last
wake-up share the next one, so that under load a write carries many messages and an idle stream loses no time.
A wait may be cancelled at any moment. No wait holds a thread.

*Close.* `close()` wakes all who wait. What is in the ring can still be read; there will be no more.
"""

import asyncio
import logging
import threading
import time
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

logger = logging.getLogger("events")

CHUNK_BYTES: Final = 256 * 1024
CHUNK_ENTRIES: Final = 4096
"""More would stop the loop where a reader may see few of very many."""
_CACHED_CHUNKS: Final = 16
_ROUND_SECONDS: Final = 0.005
_OVERHEAD: Final = 128
"""What the interpreter adds to a frame in the ring: the object's head, its position, its time, three list slots."""


class Batch(NamedTuple):
    """What one read of a log gives."""

    data: bytes
    """Whole frames, joined. Empty: nothing new, or nothing that this reader may see."""
    position: int
    """The reader's cursor after them."""
    finished: bool = False
    """Nothing follows, ever; the frame that says so is in `data`, and the connection closes after it."""
    since: float = 0.0
    """When the oldest of them was published (time.monotonic), 0 where it is not known."""
    reader: Any = None
    """The Reader to go on as, where the log found that what they may see has changed."""


class Behind(NamedTuple):
    """The reader's place has left the ring: what it missed is `after` < position <= `floor`."""

    after: int
    floor: int


class Entry(Protocol):
    """A message that looks different to different readers. `size` is what it occupies, in bytes."""

    size: int

    def frame(self, view: Hashable) -> bytes:
        """Its frame for readers with this view; empty if they may not see it. Called once a view."""


class Waiter(Protocol):
    """Somebody who waits for more. Compared by identity."""

    def wake(self) -> bool:
        """There is more, or the store was closed. True: and I go on waiting. Must not block."""


@dataclass(frozen=True, slots=True)
class StoreStatistics:
    messages: int
    bytes: int
    floor: int
    last: int
    published: int
    dropped: int


class MsgStore:
    __slots__ = (
        "_bytes",
        "_chunks",
        "_dropped",
        "_frames",
        "_head",
        "_lock",
        "_positions",
        "_published",
        "_times",
        "_wakers",
        "closed",
        "floor",
        "last",
        "max_age",
        "max_bytes",
        "max_messages",
        "name",
        "window",
    )

    def __init__(
        self,
        max_bytes: int,
        *,
        name: str = "",
        last: int = 0,
        max_messages: int = 1_000_000,
        max_age: float = float("inf"),
        window: float = 0.005,
    ) -> None:
        self.name = name
        """The stream's id, for the log."""
        self.max_bytes = max_bytes
        self.max_messages = max_messages
        self.max_age = max_age
        self.window = window
        self.floor = last
        """Everything after this position is in the ring."""
        self.last = last
        """The position of the newest frame."""
        self.closed = False
        self._lock = threading.Lock()
        # Parallel lists with a moving head: positions stay searchable, and dropping the oldest is O(1) on average.
        self._positions: list[int] = []
        self._frames: list[bytes | Entry] = []
        self._times: list[float] = []
        self._head = 0
        self._bytes = 0
        self._published = 0
        self._dropped = 0
        self._chunks: OrderedDict[tuple[int, Hashable], tuple[Batch, bool]] = OrderedDict()
        self._wakers: dict[asyncio.AbstractEventLoop, _Waker] = {}

    # --- publishing

    def append(self, position: int, frame: "bytes | Entry") -> bool:
        """Adds one frame; False if the position is not after the last one. From any thread."""
        size = _size(frame)
        now = time.monotonic()
        with self._lock:
            if position <= self.last or self.closed:
                return False
            self._positions.append(position)
            self._frames.append(frame)
            self._times.append(now)
            self._bytes += size
            self._published += 1
            self.last = position
            if self._bytes > self.max_bytes or len(self._positions) - self._head > self.max_messages:
                self._drop_over_limit()
            elif self._times[self._head] < now - self.max_age:
                self._drop_old(now)
            wakers = self._wakers
            for waker in wakers.values():
                waker.schedule()
        return True

    def start_over(self, last: int) -> None:
        """Empties the ring and goes on after `last`, which is above every position so far: all readers are Behind."""
        with self._lock:
            if last <= self.last:
                raise ValueError(f"Position {last} is not after {self.last}.")
            self._dropped += len(self._positions) - self._head
            self._positions, self._frames, self._times = [], [], []
            self._head = self._bytes = 0
            self._chunks.clear()
            self.floor = self.last = last
            for waker in self._wakers.values():
                waker.schedule()

    def prune(self) -> None:
        """Drops what is older than `max_age`. For stores that nothing is published to: publishing does it too."""
        with self._lock:
            self._drop_old(time.monotonic())

    def _drop_old(self, now: float) -> None:
        while self._head < len(self._times) and self._times[self._head] < now - self.max_age:
            self._drop_first()
        self._compact()

    def _drop_over_limit(self) -> None:
        # The newest frame stays even where it alone is over the limit, or nobody could ever read it.
        while len(self._positions) - self._head > 1 and (
            self._bytes > self.max_bytes or len(self._positions) - self._head > self.max_messages
        ):
            self._drop_first()
        self._compact()

    def _drop_first(self) -> None:
        frame = self._frames[self._head]
        self._bytes -= _size(frame)
        self.floor = self._positions[self._head]
        self._frames[self._head] = b""
        self._head += 1
        self._dropped += 1

    def _compact(self) -> None:
        for key in [key for key in self._chunks if key[0] < self.floor]:
            del self._chunks[key]
        if self._head > 64 and self._head * 2 > len(self._positions):
            del self._positions[: self._head], self._frames[: self._head], self._times[: self._head]
            self._head = 0

    # --- reading

    def read(self, after: int, view: Hashable = None) -> Batch | Behind:
        """What follows `after`, as readers with this view see it. Costs nothing when there is nothing."""
        if after >= self.last:
            return Batch(b"", after)
        with self._lock:
            if after < self.floor:
                return Behind(after, self.floor)
            key = (after, view)
            cached = self._chunks.get(key)
            if cached is not None and (cached[1] or cached[0].position == self.last):
                self._chunks.move_to_end(key)
                return cached[0]
            batch, full = self._join(after, view)
            self._chunks[key] = (batch, full)
            if len(self._chunks) > _CACHED_CHUNKS:
                self._chunks.popitem(last=False)
            return batch

    def _join(self, after: int, view: Hashable) -> tuple[Batch, bool]:
        """The next chunk, and whether it is full: a full one never changes, however much is appended."""
        start = bisect_right(self._positions, after, lo=self._head)
        parts: list[bytes] = []
        size = 0
        index = start
        for index in range(start, min(start + CHUNK_ENTRIES, len(self._frames))):
            frame = self._frames[index]
            part = frame if isinstance(frame, bytes) else frame.frame(view)
            if parts and size + len(part) > CHUNK_BYTES:
                index -= 1
                break
            if part:
                parts.append(part)
                size += len(part)
        full = index < len(self._frames) - 1
        return Batch(b"".join(parts), self._positions[index], since=self._times[start]), full

    # --- waiting

    async def wait(self, after: int, timeout: float | None = None) -> bool:
        """Waits for something after `after`; False if the time passed, or the store closed, without it."""
        if self.last <= after and not self.closed and timeout != 0:
            once = _Once(asyncio.get_running_loop())
            self.notify(after, once, once.loop)
            try:
                await asyncio.wait_for(once.future, timeout)
            except TimeoutError:
                pass
            finally:
                self.forget(once, once.loop)
        return self.last > after

    def notify(self, after: int, waiter: "Waiter", loop: asyncio.AbstractEventLoop) -> None:
        """Calls `waiter.wake()` on this loop, each time there is more than `after`, or than at its last call."""
        with self._lock:
            waker = self._wakers.get(loop)
            if waker is None:
                waker = self._wakers[loop] = _Waker(self, loop)
            waker.waiters.add(waiter)
            if self.last > after or self.closed:
                waker.schedule_anew()

    def forget(self, waiter: "Waiter", loop: asyncio.AbstractEventLoop) -> None:
        """Calls the waiter no more, but for a call that is already on its way."""
        with self._lock:
            waker = self._wakers.get(loop)
            if waker is not None:
                waker.waiters.discard(waiter)

    def close(self) -> None:
        with self._lock:
            self.closed = True
            for waker in self._wakers.values():
                waker.schedule()

    def statistics(self) -> StoreStatistics:
        with self._lock:
            held = len(self._positions) - self._head
            return StoreStatistics(held, self._bytes, self.floor, self.last, self._published, self._dropped)


def _size(frame: bytes | Entry) -> int:
    return _OVERHEAD + (len(frame) if isinstance(frame, bytes) else frame.size)


class _Once:
    """Waits for one wake-up."""

    __slots__ = ("future", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.future: asyncio.Future[None] = loop.create_future()

    def wake(self) -> bool:
        if not self.future.done():
            self.future.set_result(None)
        return False


class _Waker:
    """Wakes the readers of one event loop, at most once each `window`. Its fields are guarded by the store's lock.

    A round of wake-ups gives the loop back every few milliseconds: among thousands of readers a page stays quick.
    """

    __slots__ = ("_due", "_latest", "_loop", "_seen", "_store", "waiters")

    def __init__(self, store: MsgStore, loop: asyncio.AbstractEventLoop) -> None:
        self.waiters: set[Waiter] = set()
        self._store = store
        self._loop = loop
        self._due = False
        self._latest = float("-inf")
        self._seen = (0, False)

    def schedule(self) -> None:
        if self._due or not self.waiters:
            return
        try:
            self._loop.call_soon_threadsafe(self._begin)
            self._due = True
        except RuntimeError:  # The loop is closed, and with it all who waited in it.
            self.waiters.clear()

    def schedule_anew(self) -> None:
        """For one who has come: a round that goes on has left without them."""
        self._seen = (-1, False)
        self.schedule()

    def _begin(self) -> None:
        pause = self._latest + self._store.window - self._loop.time()
        if pause > 0:
            self._loop.call_later(pause, self._round)
        else:
            self._round()

    def _round(self) -> None:
        with self._store._lock:
            self._latest = self._loop.time()
            self._seen = (self._store.last, self._store.closed)
            waiters, self.waiters = self.waiters, set()
        logger.debug("Publishing to %d subscribers of %s", len(waiters), self._store.name)
        self._wake(waiters, set())

    def _wake(self, waiters: "set[Waiter]", stay: "set[Waiter]") -> None:
        until = self._loop.time() + _ROUND_SECONDS
        try:
            while waiters:
                waiter = waiters.pop()
                if waiter.wake():
                    stay.add(waiter)
                if self._loop.time() > until:
                    break
        finally:
            if waiters:
                self._loop.call_soon(self._wake, waiters, stay)
            else:
                self._end(stay)

    def _end(self, stay: "set[Waiter]") -> None:
        with self._store._lock:
            self._due = False
            self.waiters |= stay
            if (self._store.last, self._store.closed) != self._seen:
                self.schedule()
