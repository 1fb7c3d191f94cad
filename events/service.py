"""EventService: stream id -> log, and the readers of each.

One a process (`events.service.service`). A stream id is `<kind>` or `<kind>:<key>`; `register` says which
factory makes the logs of a kind. A log is opened when its first reader comes and closed when the last has been
gone for `LINGER_SECONDS`, which gives its memory back.

Everything but `publish`, `statistics` and `close_all_soon` belongs to one event loop at a time.
"""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import count
from typing import Final

from events.access import Principal
from events.logs import Log, MemoryLog, Reader
from events.metrics import Metrics
from events.subscriptions import Subscription
from events.wheel import Wheel

logger = logging.getLogger("events")

LINGER_SECONDS: Final = 30.0
LogFactory = Callable[[str], Log]


class UnknownStream(LookupError):
    """No kind of this name is registered."""


class TooManyStreams(Exception):
    """The limit of open streams, of one person or in all, is reached."""

    def __init__(self, limit: int, whose: str) -> None:
        super().__init__(f"At most {limit} streams may be open {whose}.")
        self.retry_after = 5
        """Seconds after which it is worth another try."""


class ShuttingDown(Exception):
    """The server is going: come back to the next one."""


@dataclass(frozen=True, slots=True)
class StreamStatistics:
    stream: str
    subscribers: int
    messages: int
    bytes: int
    cursor: int


class _Open:
    """A log that has, or just had, readers."""

    __slots__ = ("log", "opening", "readers", "retirement", "stream_id")

    def __init__(self, stream_id: str, log: Log) -> None:
        self.stream_id = stream_id
        self.log = log
        self.readers: set[Subscription] = set()
        self.opening = asyncio.get_running_loop().create_task(log.opened())
        self.retirement: asyncio.TimerHandle | None = None

    def is_usable(self) -> bool:
        """Not where opening it did not work (its readers hear why, and later ones get another), or its loop is gone."""
        if self.opening.get_loop() is not asyncio.get_running_loop():
            return False
        done = self.opening.done() and not self.opening.cancelled()
        return not done or self.opening.exception() is None


class EventService:
    def __init__(self) -> None:
        self.metrics = Metrics()
        self.max_streams = 12_000
        self.max_streams_per_user = 200
        self.linger = LINGER_SECONDS
        self.wheel = Wheel(self)
        self.closing = False
        self._factories: dict[str, LogFactory] = {}
        self._open: dict[str, _Open] = {}
        self._memory: dict[str, MemoryLog] = {}
        self._subscriptions: set[Subscription] = set()
        self._per_user: dict[int | str, int] = {}
        self._closings: set[asyncio.Task[None]] = set()
        self._all_gone: asyncio.Event | None = None
        self._numbers = count()
        self._published_before = 0
        self._lock = threading.RLock()
        """Held while something is published, so that no memory stream is forgotten under it."""

    # --- kinds of streams

    def register(self, kind: str, factory: LogFactory) -> None:
        """Says who makes the logs of a kind: `factory(key)`, called on the event loop, must not block."""
        self._factories[kind] = factory

    def register_memory(self, kind: str, **options: int | float) -> None:
        """A kind whose streams are nothing but their ring; `publish` appends to them."""
        self._factories[kind] = lambda key: self._memory_log(f"{kind}:{key}" if key else kind, options)

    def _memory_log(self, stream_id: str, options: dict[str, int | float]) -> MemoryLog:
        with self._lock:
            log = self._memory.get(stream_id)
            if log is None:
                log = self._memory[stream_id] = MemoryLog(stream_id, **options)  # type: ignore[arg-type]
            return log

    def publish(self, stream_id: str, data: bytes, event: str = "") -> str:
        """Appends a message to a stream of a `register_memory` kind, from any thread; returns its cursor."""
        with self._lock:
            log = self._memory.get(stream_id) or self._make(stream_id)
            if not isinstance(log, MemoryLog):
                raise UnknownStream(f"{stream_id} is fed by its own log: nothing can be published to it.")
            return log.publish(data, event)

    def _forget_empty(self) -> None:
        """Memory streams that hold nothing and that nobody reads: a client may have made their names up."""
        with self._lock:
            for stream_id, log in list(self._memory.items()):
                if stream_id not in self._open and not log.store.statistics().messages:
                    del self._memory[stream_id]

    def _make(self, stream_id: str) -> Log:
        kind, _, key = stream_id.partition(":")
        factory = self._factories.get(kind)
        if factory is None:
            raise UnknownStream(f"No kind of stream is called {kind!r}.")
        return factory(key)

    # --- readers

    def admit(self, principal: Principal) -> None:
        """Counts one more stream for this person. Raises TooManyStreams or ShuttingDown; `release` gives it back."""
        if self.closing:
            raise ShuttingDown
        if sum(self._per_user.values()) >= self.max_streams:
            raise TooManyStreams(self.max_streams, "in all")
        held = self._per_user.get(principal.user_id, 0)
        if held >= self.max_streams_per_user:
            raise TooManyStreams(self.max_streams_per_user, "by one person")
        self._per_user[principal.user_id] = held + 1

    def release(self, principal: Principal) -> None:
        left = self._per_user[principal.user_id] - 1
        if left:
            self._per_user[principal.user_id] = left
        else:
            del self._per_user[principal.user_id]

    def log(self, stream_id: str) -> Log:
        """The log of a stream, open or not. Raises UnknownStream."""
        held = self._open.get(stream_id)
        return held.log if held else self._make(stream_id)

    @asynccontextmanager
    async def subscribe(
        self, stream_id: str, cursor: str | None = None, reader: Reader | None = None
    ) -> AsyncIterator[Subscription]:
        """Reads a stream from a cursor: `async with service.subscribe(…) as chunks: async for chunk in chunks`.

        Leaving the block ends the subscription on every path.
        """
        subscription = Subscription(self, stream_id, cursor, reader or Reader())
        try:
            yield subscription
        finally:
            subscription.leave()

    def attach(self, subscription: Subscription) -> tuple[Log, asyncio.Task[None]]:
        """Puts a subscription among the readers of its stream, and opens the log for the first. Does not wait.

        Returns the log and its opening, which is to end well before the log is read.
        """
        stream_id = subscription.stream_id
        held = self._open.get(stream_id)
        if held is not None and not held.is_usable():
            self._close_soon(held)
            held = None
        if held is None:
            held = self._open[stream_id] = _Open(stream_id, self._make(stream_id))
        if held.retirement is not None:
            held.retirement.cancel()
            held.retirement = None
        held.readers.add(subscription)
        self._subscriptions.add(subscription)
        subscription.number = next(self._numbers)
        self.metrics.opened += 1
        self.wheel.start()
        logger.debug("New subscriber for stream %s (%d now)", stream_id, len(held.readers))
        return held.log, held.opening

    def leave_closed_loops(self) -> None:
        """Nobody reads any more what was subscribed to in a loop that has ended, as that of a test has."""
        for subscription in self.subscriptions():
            if subscription.loop.is_closed():
                subscription.leave()

    def detach(self, subscription: Subscription) -> None:
        self._subscriptions.discard(subscription)
        if self._all_gone is not None and not self._subscriptions:
            self._all_gone.set()
        held = self._open.get(subscription.stream_id)
        if held is None or subscription not in held.readers:
            return
        held.readers.discard(subscription)
        logger.debug("A subscriber left stream %s (%d now)", held.stream_id, len(held.readers))
        if not held.readers:
            self._retire_later(held)

    def _retire_later(self, held: _Open) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # The loop is gone, and this is its last reader being collected.
            self._open.pop(held.stream_id, None)
            return
        linger = 0.0 if self.closing or held.log.store.closed else self.linger
        held.retirement = loop.call_later(linger, self._retire, held)

    def _retire(self, held: _Open) -> None:
        if self._open.get(held.stream_id) is held and not held.readers:
            self._close_soon(held)

    def _close_soon(self, held: _Open) -> None:
        del self._open[held.stream_id]
        self._published_before += held.log.store.statistics().published
        task = asyncio.get_running_loop().create_task(self._close_log(held))
        self._closings.add(task)
        task.add_done_callback(self._closings.discard)

    async def _close_log(self, held: _Open) -> None:
        if not held.opening.done():
            await asyncio.wait([held.opening])
        await held.log.closed()
        self._forget_empty()
        logger.debug("Retired stream %s", held.stream_id)

    def prune(self) -> None:
        """Drops from all logs what is older than they keep it."""
        for log in [held.log for held in self._open.values()] + list(self._memory.values()):
            log.store.prune()
        self._forget_empty()

    # --- the end

    async def close_all(self, timeout: float = 1.5) -> None:
        """Says farewell to every reader and waits, at most `timeout` seconds, until they are gone."""
        self.closing = True
        for subscription in list(self._subscriptions):
            subscription.end()
        self._all_gone = asyncio.Event()
        if self._subscriptions:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._all_gone.wait(), timeout)
        for subscription in list(self._subscriptions):
            subscription.cut()
        self.wheel.stop()
        for held in list(self._open.values()):
            if held.retirement is not None:
                held.retirement.cancel()
            if not held.readers:
                self._retire(held)
        if self._closings:
            await asyncio.wait(self._closings, timeout=1)

    # --- seen from outside

    def subscribers(self, stream_id: str) -> int:
        held = self._open.get(stream_id)
        return len(held.readers) if held else 0

    def has_subscriptions(self) -> bool:
        return bool(self._subscriptions)

    def subscriptions(self) -> list[Subscription]:
        return list(self._subscriptions)

    def active_streams(self) -> list[str]:
        """The ids of the streams whose logs are open."""
        return sorted(self._open)

    def statistics(self) -> list[StreamStatistics]:
        """One row an open stream, by id."""
        return [self._row(held) for _, held in sorted(self._open.items())]

    def published(self) -> int:
        """Messages that entered the logs of this process since it started."""
        return self._published_before + sum(
            held.log.store.statistics().published for held in list(self._open.values())
        )

    def _row(self, held: _Open) -> StreamStatistics:
        ring = held.log.store.statistics()
        return StreamStatistics(held.stream_id, len(held.readers), ring.messages, ring.bytes, ring.last)


service: Final = EventService()
"""The service of this process."""
