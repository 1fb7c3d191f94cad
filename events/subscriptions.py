"""A subscription: one reader's cursor in one log, and the next bytes for it.

It owns no task, no timer and no queue. What wakes it is one future, set by the store (there is more), by the
wheel (a heartbeat is due) or by the service (the end); what it does next depends on its flags alone.

Where `write` is set, what is new is written by the store's own round of wake-ups, reader after reader, and the task
that consumes the subscription sleeps on. It is woken for what needs one: a write that has to wait, a read that has to
wait, the end.
"""

import asyncio
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING

from events import sse
from events.logs import Reader
from events.steps import Unfinished, begin
from events.store import Batch

if TYPE_CHECKING:
    from events.service import EventService


_RESET = b"event: reset\n"


class Chunks(ABC):
    """What is read chunk by chunk until there is an empty one, as an asynchronous iterator."""

    __slots__ = ()

    @abstractmethod
    async def next(self) -> bytes: ...

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        chunk = await self.next()
        if not chunk:
            raise StopAsyncIteration
        return chunk


class Subscription(Chunks):
    """`async for chunk in subscription` gives bytes to write, until the stream ends. One consumer only."""

    __slots__ = (
        "__weakref__",
        "_begun",
        "_cursor",
        "_ended",
        "_farewell",
        "_future",
        "_greeted",
        "_log",
        "_opened",
        "_opening",
        "_parked",
        "_position",
        "_quick",
        "_since",
        "_starting",
        "_thread",
        "_unfinished",
        "admitted",
        "beat",
        "client",
        "closed",
        "handed_over",
        "loop",
        "number",
        "reader",
        "restart",
        "service",
        "stream_id",
        "task",
        "was_cut",
        "write",
    )

    def __init__(self, service: "EventService", stream_id: str, cursor: str | None, reader: Reader) -> None:
        self.service = service
        self.stream_id = stream_id
        self.reader = reader
        self.beat = False
        """A heartbeat is due."""
        self.restart = False
        """What the reader may see has changed: start over from a full state."""
        self.admitted = False
        """Counted against the limits; `leave` gives that back."""
        self.handed_over = 0.0
        """Since when the bytes last given out, or what is left of them, are being written (time.monotonic); 0 while
        nothing is."""
        self.was_cut = False
        """Its client took nothing for too long."""
        self.client: tuple[str, int] | None = None
        """The other end of the connection, where the server says it."""
        self.write: Callable[[bytes], Awaitable[None] | None] | None = None
        """Writes a chunk, where that may be done without waking `task`; what it returns is still to be awaited."""
        self.task: asyncio.Task[object] | None = None
        self.number = 0
        """Which in the order of arrival: spreads the heartbeats."""
        self._opened = time.monotonic()
        self.loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self.closed = False
        self._cursor = cursor
        self._position = 0
        self._since = 0.0
        self._greeted = False
        self._begun = False
        self._ended = False
        self._farewell = False
        self._parked = False
        self._unfinished: Awaitable[None] | None = None
        self._future: asyncio.Future[None] | None = None
        self._starting: asyncio.Task[Batch] | None = None
        self._log, self._opening = service.attach(self)
        self._quick: Callable[[int, Reader], Batch | None] | None = getattr(self._log, "read_now", None)

    # --- reading

    def sent_by(
        self, task: asyncio.Task[object] | None, write: Callable[[bytes], Awaitable[None] | None] | None
    ) -> None:
        """Who sends what is read; None when that is over."""
        self.task, self.write = task, write

    async def next(self) -> bytes:
        """The next bytes to write; empty when the stream is over. May be cancelled and called again."""
        while True:
            if self._unfinished is not None:
                unfinished, self._unfinished = self._unfinished, None
                await unfinished
            self._written()
            if self._farewell or self.closed:
                return b""
            chunk = self._due() or (await self._more() if self._begun else await self._first())
            if chunk:
                self.handed_over = time.monotonic()
                return chunk

    def taken(self) -> None:
        """A part of the bytes last given out has been taken."""
        self.handed_over = time.monotonic()

    def _written(self) -> None:
        """What was given out before has been taken."""
        if self._since:
            self.service.metrics.latency.observe(time.monotonic() - self._since)
        self.handed_over = self._since = 0.0

    def _due(self) -> bytes:
        """What does not come from the log: the greeting, the farewell, a heartbeat."""
        if not self._greeted:
            self._greeted = True
            return sse.prime(self._cursor or self._log.origin)
        if self._ended:
            self._farewell = True
            return sse.farewell()
        if self.beat:
            self.beat = False
            return sse.HEARTBEAT
        return b""

    async def _first(self) -> bytes:
        """The log's first frames. They may take long to make, and heartbeats go out meanwhile."""
        if self._starting is None:
            self._starting = self.loop.create_task(self._start())
            self._starting.add_done_callback(self._poke)
        if not self._starting.done():
            await self._pause(None)
            return b""
        batch, self._starting = self._starting.result(), None
        self._read_as(batch.reader)
        self._begun = True
        return self._take(batch)

    async def _start(self) -> Batch:
        if self._opening.done():
            self._opening.result()
        else:
            await asyncio.shield(self._opening)
        return await self._log.start(self._cursor, self.reader)

    async def _more(self) -> bytes:
        if self.restart:
            self.restart = self._begun = False
            self._cursor = None
            self.service.metrics.resyncs += 1
            return b""
        position = self._position
        batch = await self._log.read(position, self.reader)
        self._read_as(batch.reader)
        if batch.data or batch.position != position or batch.finished:
            if not batch.data:  # There may be much more that this reader may not see.
                await asyncio.sleep(0)
            return self._take(batch)
        await self._pause(position)
        return b""

    def _read_as(self, reader: Reader | None) -> None:
        """Goes on as who the log has found the reader to be. What was read so needs no restart to the same."""
        if reader is not None:
            self.restart = self.restart and reader.scope != self.reader.scope
            self.reader = reader

    def _take(self, batch: Batch) -> bytes:
        self._position = batch.position
        # What is older than the subscription is history, and says nothing about how quick the engine is.
        self._since = batch.since if batch.since > self._opened else 0.0
        self._farewell = batch.finished
        metrics = self.service.metrics
        metrics.chunks += 1
        metrics.bytes += len(batch.data)
        metrics.resyncs += batch.data.startswith(_RESET)
        return batch.data

    async def _pause(self, position: int | None) -> None:
        """Until the log has more, or somebody calls `poke`; without a position, until the first frames are made."""
        # A restart waits for the first frames: who does not wait for them holds up the loop that makes them.
        if self._ended or self.beat or self.closed or (self.restart and position is not None):
            return
        future = self._future = self.loop.create_future()
        self._parked = position is not None
        if position is not None:
            self._log.store.notify(position, self, self.loop)
        try:
            await future
        finally:
            self._future = None
            self._parked = False
            if position is not None:
                self._log.store.forget(self, self.loop)

    # --- written without waking the task

    def wake(self) -> bool:
        """Called by the store when there is more. True: it has been written, and we go on waiting."""
        if self._future is None or self._future.done() or not self._parked:
            return False
        done = False
        try:
            done = self._forward()
        finally:  # What goes wrong here goes wrong again in the task, which ends by it.
            if not done:
                self._poke()
        return done

    def _forward(self) -> bool:
        """Writes what is new; False if the task has to go on."""
        if self.write is None or self._ended or self.beat or self.restart or self.closed:
            return False
        # A reader of a long history is the task's: it lets others have their turn between two chunks.
        for _ in range(2):
            batch = self._read_at_once()
            if batch is None:
                return False
            if batch.position != self._position:
                self._take(batch)
            if batch.data and not self._write_at_once(batch.data):
                return False
            if not batch.data if self._quick is None else self._log.store.last == batch.position:
                return True
        return False

    def _read_at_once(self) -> Batch | None:
        """What comes next, if it can be had without waiting and there is nothing special about it."""
        if self._quick is not None:
            return self._quick(self._position, self.reader)
        batch = begin(self._log.read(self._position, self.reader))
        if isinstance(batch, Unfinished):
            batch.close()  # Reading takes nothing away: the task reads it again.
            return None
        return None if batch.finished or batch.reader is not None else batch

    def _write_at_once(self, data: bytes) -> bool:
        """Whether the write is done; if it has to wait, the task finishes it."""
        if self.write is None:
            return False
        self._unfinished = self.write(data)
        if self._unfinished is not None:
            self.handed_over = time.monotonic()
            return False
        self._written()
        return True

    # --- what others do to it

    def _poke(self, _: object = None) -> None:
        future = self._future
        if future is not None and not future.done():
            future.set_result(None)

    def due_beat(self) -> None:
        done = False
        try:
            if self._parked and self._future is not None and not self._future.done():
                done = self._write_at_once(sse.HEARTBEAT)
        finally:  # What goes wrong here goes wrong again in the task, which ends by it.
            if not done:
                # Where the write has begun and waits, it is that heartbeat.
                self.beat = self._unfinished is None
                self._poke()

    def start_over(self, reader: Reader) -> None:
        """Goes on as another reader, from a full state."""
        self.reader = reader
        self.restart = True
        self._poke()

    def end(self) -> None:
        """Says farewell after what is being written now, and ends the stream."""
        self._ended = True
        self._poke()

    def cut(self) -> None:
        """Ends the stream without waiting for the client, which takes nothing any more."""
        self.was_cut = True
        self._ended = self._farewell = True
        self.service.metrics.cut += 1
        self._poke()
        # The connection is dropped under it, which ends the write; unless its socket could not be found.
        self.loop.call_later(1, self._cancel)

    def _cancel(self) -> None:
        if self.task is not None:
            self.task.cancel()

    async def aclose(self) -> None:
        self.leave()

    def leave(self, _: object = None) -> None:
        """Leaves the stream. Safe to call again, and from another thread (Django closes responses in one)."""
        if self.closed:
            return
        if threading.get_ident() != self._thread and not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.leave)
            return
        self.closed = True
        if self._starting is not None:
            self._starting.cancel()
        self.service.detach(self)
        if self.admitted:
            self.admitted = False
            self.service.release(self.reader.principal)
        self._poke()
