"""Django's ASGI handler, made fit for responses that last for hours.

Four things differ from Django's own. Each was seen with Django 5.2:

- A streaming response holds an OS thread for its whole life: the signal `request_started` runs its receivers in
  the request's ThreadSensitiveContext, whose one-thread executor lives until the response ends. Three thousand
  open streams were three thousand threads. Here a stream is sent after that context has been left.
- The request, the response and three tasks stay in memory as long. Here they are gone before the first byte.
- Each synchronous middleware costs a request two turns in a thread, and most of Django's are synchronous: with ten
  of them a request changes threads twenty times. Here the whole chain is one turn in one thread; an asynchronous
  view runs on the event loop as ever, while the thread waits for it.
- The generator behind a response is not told of a disconnect while it waits, and is cancelled in odd places.
  Here one task listens, and the subscription is left on every path.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.http import HttpRequest, HttpResponseBase

from events.lifecycle import Lifespan
from events.responses import EventStreamResponse
from events.steps import begin
from events.subscriptions import Subscription
from events.wheel import close_connections

Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]

_STREAM = "events.stream"
QUICK_WRITE = "events.write"
"""The ASGI extension by which a server offers a plain function that writes one chunk of a response that has begun. It
returns None when the chunk is written, or something to await before the next."""


def get_asgi_application() -> Application:
    """What a project's asgi.py calls in place of Django's function of this name."""
    import django

    django.setup(set_prefix=False)
    return Lifespan(StreamHandler())


class StreamHandler(ASGIHandler):
    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise ValueError(f"Only HTTP is served here, not {scope['type']}.")
        connection = _Connection(receive)
        try:
            async with ThreadSensitiveContext():
                await self.handle(scope, connection.receive, send)
                if _STREAM in scope and _KEEPS_CONNECTIONS:
                    await sync_to_async(close_connections)()
            if _STREAM in scope and not connection.gone:
                start, subscription = scope.pop(_STREAM)
                await _send_stream(start, subscription, _writer(scope, send), receive, send)
        finally:
            if _STREAM in scope:
                scope.pop(_STREAM)[1].leave()

    def load_middleware(self, is_async: bool = False) -> None:
        super().load_middleware(is_async=False)

    async def get_response_async(self, request: HttpRequest) -> HttpResponseBase:
        return await sync_to_async(self.get_response)(request)

    async def run_get_response(self, request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase = await super().run_get_response(request)
        if isinstance(response, EventStreamResponse) and response.subscription is not None:
            subscription = response.subscription
            client = request.scope.get("client")  # type: ignore[attr-defined]
            # granian gives the port as text.
            subscription.client = (client[0], int(client[1])) if client else None
            start = {
                "type": "http.response.start",
                "status": response.status_code,
                "headers": _headers(response),
            }
            request.scope[_STREAM] = (start, subscription)  # type: ignore[attr-defined]
            response.subscription = None
        return response

    async def send_response(self, response: HttpResponseBase, send: Send) -> None:
        if not isinstance(response, EventStreamResponse):
            await super().send_response(response, send)


# With CONN_MAX_AGE at 0 Django has closed them by then, and a turn in a thread is saved.
_KEEPS_CONNECTIONS = any(database.get("CONN_MAX_AGE") != 0 for database in settings.DATABASES.values())


class _Connection:
    """Remembers a disconnect that Django's handler saw: a server need not say it twice."""

    __slots__ = ("_receive", "gone")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.gone = False

    async def receive(self) -> Message:
        message = await self._receive()
        self.gone = self.gone or message["type"] == "http.disconnect"
        return message


def _headers(response: HttpResponseBase) -> list[tuple[bytes, bytes]]:
    headers = [(name.encode("ascii"), value.encode("latin1")) for name, value in response.items()]
    headers += [(b"Set-Cookie", c.OutputString().encode("ascii")) for c in response.cookies.values()]
    return headers


def _writer(scope: dict[str, Any], send: Send) -> Callable[[bytes], Awaitable[None] | None]:
    """How a chunk is written without a task: by the server's own quick way, or by the first step of `send`."""
    quick: Callable[[bytes], Awaitable[None] | None] | None = scope.get("extensions", {}).get(QUICK_WRITE)
    return quick or partial(_begin_to_send, send)


def _begin_to_send(send: Send, data: bytes) -> Awaitable[None] | None:
    return begin(send({"type": "http.response.body", "body": data, "more_body": True}))


async def _send_stream(
    start: Message,
    subscription: Subscription,
    write: Callable[[bytes], Awaitable[None] | None],
    receive: Receive,
    send: Send,
) -> None:
    loop = asyncio.get_running_loop()
    subscription.task = asyncio.current_task()
    subscription.write = write
    listening = loop.create_task(_disconnected(receive))
    listening.add_done_callback(subscription.leave)
    try:
        await send(start)
        while chunk := await subscription.next():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
    except asyncio.CancelledError:
        # Its own cut, of a client that takes nothing: no fault, and nothing for the server's log.
        if not subscription.was_cut:
            raise
    finally:
        listening.cancel()
        subscription.task = subscription.write = None
        subscription.leave()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
