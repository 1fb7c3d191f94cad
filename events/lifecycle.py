"""The beginning and the end of a server process.

`on_start` and `on_stop` name what runs beside the requests (the runner, a relay): quick functions, called once in
the server's main thread. Whatever server it is calls `start` and `stop`: daphne by our own Server class, uvicorn and
granian by the ASGI lifespan.

At SIGTERM, uvicorn and granian wait for open responses before they tell the application anything, and streams never
end by themselves; so the service says its farewell from a signal handler of its own.
"""

import asyncio
import gc
import logging
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any, Final

from events.service import service

logger = logging.getLogger("events")

# The command `daphne`: our own Server class begins and ends by itself, the others speak lifespan.
_SERVER_WITHOUT_LIFESPAN: Final = "daphne.cli"

_starts: list[Callable[[], None]] = []
_stops: list[Callable[[], None]] = []
_running = False


def on_start(function: Callable[[], None]) -> None:
    _starts.append(function)


def on_stop(function: Callable[[], None]) -> None:
    """Called after the streams have been told farewell; has about half a second."""
    _stops.append(function)


def start() -> None:
    """Starts what runs beside the requests, once a process."""
    global _running
    if not _running:
        _running = True
        # What is loaded by now stays: the collector need not look through it again and again, which takes longer than
        # a message to two hundred readers.
        gc.collect()
        gc.freeze()
        # Each stream is some eighty objects that live long. With Python's own thresholds all of them are looked
        # through at every thousandth stream that opens, a tenth of a second at a time.
        gc.set_threshold(10_000, 10, 10)
        for function in _starts:
            function()


def stop() -> None:
    global _running
    if _running:
        _running = False
        for function in reversed(_stops):
            function()


class Lifespan:
    """Answers the server's lifespan messages; requests go on to the application."""

    def __init__(self, application: Callable[..., Awaitable[None]]) -> None:
        self._application = application

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            if not _running and _SERVER_WITHOUT_LIFESPAN in sys.modules:
                start()
                say_farewell_at_signals(asyncio.get_running_loop())
            return await self._application(scope, receive, send)
        await receive()
        say_farewell_at_signals(asyncio.get_running_loop())
        start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await service.close_all()
        stop()
        return await send({"type": "lifespan.shutdown.complete"})


def say_farewell_at_signals(loop: asyncio.AbstractEventLoop) -> None:
    """At SIGTERM and SIGINT, first the streams end, so that the server's own wait for them is short."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _Farewell(loop, signal.getsignal(number)))


class _Farewell:
    """A signal handler in front of the server's own.

    Handlers that the server gave to the event loop are not replaced by this: the loop hears of the signal by its
    wake-up descriptor, whatever function Python calls.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, server_handler: Any) -> None:
        self._loop = loop
        self._server_handler = server_handler
        self._task: asyncio.Task[None] | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self._loop.call_soon_threadsafe(self._begin)
        server: Any = getattr(self._server_handler, "__self__", None)
        if number == signal.SIGTERM and hasattr(server, "should_exit"):
            # uvicorn notes the signal and raises it again when all is done, so that a clean stop looks like a crash
            # (-15). To be told to exit is enough for it.
            server.should_exit = True
        elif callable(self._server_handler) and not self._drops_connections:
            self._server_handler(number, frame)

    @property
    def _drops_connections(self) -> bool:
        """Twisted's handler closes every connection at once, so it has to wait its turn."""
        return str(getattr(self._server_handler, "__module__", "")).startswith("twisted.")

    def _begin(self) -> None:
        if self._task is None:
            self._task = self._loop.create_task(self._say_farewell())

    async def _say_farewell(self) -> None:
        await service.close_all()
        if self._drops_connections:
            stop()
            self._server_handler(signal.SIGTERM, None)
