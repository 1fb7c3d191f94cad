"""The requests for streams on their way through Django: many in one turn of one thread.

Django gives each request a thread, that thread a connection to the database, and takes both away again. For a stream,
which needs the answer to one question, this is nearly all that opening it costs; and after a restart thousands come at
once. Here one thread answers one request after the other, each by the whole chain of middleware, and what waits
together shares a database connection. Equal requests that wait together share their answer. None is kept for later.

Not sent for them: the signals `request_started` and `request_finished`, by which Django closes a request's connections.
"""

import asyncio
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponseBase

from events.wheel import close_connections

_AT_ONCE: Final = 32
_Waiting = tuple[HttpRequest, "asyncio.Future[HttpResponseBase]"]


class Admissions:
    """`await answer(request)` is what `respond(request)` returned in the thread. One event loop at a time."""

    def __init__(self, respond: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._respond = respond
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="events-admission")
        self._waiting: dict[Hashable, _Waiting] = {}
        self._task: asyncio.Task[None] | None = None

    async def answer(self, request: HttpRequest) -> HttpResponseBase:
        loop = asyncio.get_running_loop()
        if self._task is None or self._task.done() or self._task.get_loop() is not loop:
            self._waiting = {}
            self._task = loop.create_task(self._work(self._waiting))
        waiting = self._waiting.setdefault(_what_is_asked(request), (request, loop.create_future()))
        return await asyncio.shield(waiting[1])

    async def _work(self, waiting: dict[Hashable, _Waiting]) -> None:
        in_thread = sync_to_async(self._respond_to_all, thread_sensitive=False, executor=self._thread)
        batch: list[_Waiting] = []
        try:
            while waiting:
                batch = [waiting.pop(key) for key in list(waiting)[:_AT_ONCE]]
                for (_, future), answer in zip(batch, await in_thread(batch), strict=True):
                    future.set_result(answer)
        finally:  # Where this ends before its time, so do they.
            for _, future in (*batch, *waiting.values()):
                future.cancel()

    def _respond_to_all(self, batch: list[_Waiting]) -> list[HttpResponseBase]:
        try:
            return [self._respond(request) for request, _ in batch]
        finally:
            close_connections()


def _what_is_asked(request: Any) -> Hashable:
    """All that an answer may depend on. The cursor is not part of it: who may read may begin anywhere."""
    scope = request.scope
    client = scope.get("client")
    return (
        scope["method"],
        scope.get("scheme"),
        scope.get("root_path"),
        scope["path"],
        scope.get("query_string"),
        client and client[0],
        tuple((name, value) for name, value in scope["headers"] if name != b"last-event-id"),
    )
