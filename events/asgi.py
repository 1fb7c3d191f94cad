"""Django's ASGI handler, made fit for responses that last for hours.

Three things differ from Django's own. Each was seen with Django 5.2:

- A streaming response holds an OS thread for its whole life: the signal `request_started` runs its receivers in
  the request's ThreadSensitiveContext, whose one-thread executor lives until the response ends. Three thousand
  open streams were three thousand threads. The request, the response and three tasks stay in memory as long. Here a
  request for a stream is answered by `events.admission`, and the stream is sent when all that is gone.
- Each synchronous middleware costs a request two turns in a thread, and most of Django's are synchronous: with ten
  of them a request changes threads twenty times. Here the whole chain is one turn in one thread; an asynchronous
  view runs on the event loop as ever, while the thread waits for it.
- The generator behind a response is not told of a disconnect while it waits, and is cancelled in odd places.
  Here one task listens, and the subscription is left on every path.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from io import BytesIO
from typing import Any

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIHandler, get_script_prefix
from django.http import Http404, HttpRequest, HttpResponseBase
from django.urls import get_resolver, set_script_prefix

from events.admission import Admissions
from events.api import Permitted, is_stream, opened
from events.bundles import Bundle
from events.lifecycle import Lifespan
from events.steps import begin
from events.store import CHUNK_BYTES
from events.subscriptions import Subscription

Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]

QUICK_WRITE = "events.write"
"""The ASGI extension by which a server offers a plain function that writes one chunk of a response that has begun. It
returns None when the chunk is written, or something to await before the next."""


def get_asgi_application() -> Application:
    """What a project's asgi.py calls in place of Django's function of this name."""
    import django

    django.setup(set_prefix=False)
    return Lifespan(StreamHandler())


class StreamHandler(ASGIHandler):
    def __init__(self) -> None:
        super().__init__()
        self._admissions = Admissions(self._admit)

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        request = self._stream_request(scope) if scope["type"] == "http" else None
        if request is None:
            return await super().__call__(scope, receive, send)
        response = await self._admissions.answer(request)
        found = await opened(request, response) if isinstance(response, Permitted) else response
        if isinstance(found, HttpResponseBase):
            await self.send_response(found, send)
            return await sync_to_async(found.close, thread_sensitive=False)()
        start = {"type": "http.response.start", "status": 200, "headers": _headers(response)}
        del request, response
        return await _send_stream(start, found, _writer(scope, send), receive, send)

    def _stream_request(self, scope: dict[str, Any]) -> HttpRequest | None:
        """The request, if it is one for a stream."""
        if scope["method"] not in ("GET", "HEAD"):
            return None
        try:
            found = get_resolver().resolve(scope["path"].removeprefix(get_script_prefix(scope)))
        except Http404:
            return None
        return self.create_request(scope, BytesIO())[0] if is_stream(found.func) else None

    def _admit(self, request: HttpRequest) -> HttpResponseBase:
        set_script_prefix(get_script_prefix(request.scope))  # type: ignore[attr-defined]
        request.only_asks = True  # type: ignore[attr-defined]
        return self.get_response(request)

    def load_middleware(self, is_async: bool = False) -> None:
        super().load_middleware(is_async=False)

    async def get_response_async(self, request: HttpRequest) -> HttpResponseBase:
        return await sync_to_async(self.get_response)(request)


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
    subscription: Subscription | Bundle,
    write: Callable[[bytes], Awaitable[None] | None],
    receive: Receive,
    send: Send,
) -> None:
    loop = asyncio.get_running_loop()
    subscription.sent_by(asyncio.current_task(), write)
    listening = loop.create_task(_disconnected(receive))
    listening.add_done_callback(subscription.leave)
    try:
        await send(start)
        while chunk := await subscription.next():
            # A full state may be of any size: who takes it slowly is not one that takes nothing.
            for start_at in range(0, len(chunk), CHUNK_BYTES):
                part = chunk[start_at : start_at + CHUNK_BYTES]
                await send({"type": "http.response.body", "body": part, "more_body": True})
                subscription.taken()
        await send({"type": "http.response.body", "body": b"", "more_body": False})
    except asyncio.CancelledError:
        # Its own cut, of a client that takes nothing: no fault, and nothing for the server's log.
        if not subscription.was_cut:
            raise
    finally:
        listening.cancel()
        subscription.sent_by(None, None)
        subscription.leave()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
