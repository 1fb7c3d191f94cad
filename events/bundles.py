"""A bundle: several streams on one connection, for a client that has more streams than connections.

What a part gives goes out byte for byte, one chunk of each part in turn. Before a chunk of another part than the one
before stands `event: stream` with the part's number, and after its last `event: ended`. The first takes back the
client's last event id, so that no part's message without an id of its own is taken to have that of another.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Sequence
from typing import Any

from events import sse
from events.subscriptions import Chunks, Subscription

logger = logging.getLogger("events")


class Bundle(Chunks):
    """To who sends it, it is one subscription; to the service, each part is a subscription of its own.

    `asked` has, for each stream in the order asked for, its subscription or the status by which it is refused.
    """

    def __init__(self, asked: Sequence[Subscription | int]) -> None:
        self._parts = {number: one for number, one in enumerate(asked) if isinstance(one, Subscription)}
        self._said = b"".join(_ended(number, one) for number, one in enumerate(asked) if isinstance(one, int))
        # No part is read ahead by more than the chunk that waits for its turn; the order is that of the turns.
        self._reading: dict[int, asyncio.Task[bytes]] = {}
        self._to_read = list(self._parts)
        self._current = -1
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()

    async def next(self) -> bytes:
        """The next bytes to write; empty when all parts are over. May be cancelled and called again."""
        if self._closed:
            return b""
        # The last chunk has been written: only now may its part go on.
        for number in self._to_read:
            self._reading[number] = self._loop.create_task(_read(self._parts[number]))
        self._to_read = []
        if self._said or not self._reading:
            said, self._said = self._said, b""
            return said
        await asyncio.wait(self._reading.values(), return_when=asyncio.FIRST_COMPLETED)
        return b"" if self._closed else self._take()

    def _take(self) -> bytes:
        number = next(number for number, reading in self._reading.items() if reading.done())
        part, reading = self._parts[number], self._reading.pop(number)
        error = reading.exception()
        if error is not None:
            logger.error("Reading %s failed", part.stream_id, exc_info=error)
        chunk = b"" if error is not None else reading.result()
        if not chunk:
            part.leave()
            return _ended(number, None if error is None else 500)
        part.handed_over = time.monotonic()
        self._to_read = [number]
        switch = b"" if number == self._current else b"event: stream\nid\ndata: %d\n\n" % number
        self._current = number
        return switch + chunk

    # --- as of a subscription

    def taken(self) -> None:
        if self._to_read:
            self._parts[self._current].taken()

    def sent_by(self, task: asyncio.Task[Any] | None, write: object) -> None:
        """`write` is of no use here: it would write a part's chunk in the middle of another's."""
        for part in self._parts.values():
            part.sent_by(task, None)

    @property
    def was_cut(self) -> bool:
        return any(part.was_cut for part in self._parts.values())

    def leave(self, _: object = None) -> None:
        if threading.get_ident() != self._thread and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.leave)
            return
        self._closed = True
        for part in self._parts.values():
            part.leave()
        for reading in self._reading.values() if not self._loop.is_closed() else ():
            reading.cancel()


async def _read(part: Subscription) -> bytes:
    chunk = await part.next()
    part.handed_over = 0.0  # It waits for its turn, and not yet for the client.
    return chunk


def _ended(number: int, status: int | None) -> bytes:
    return sse.json_frame({"stream": number, "status": status}, event="ended")
