"""EventStreamResponse under any handler: its subscription is left on every path."""

import asyncio
import gc
import time
from contextlib import aclosing

import pytest
from django.test import RequestFactory

from events.asgi import _send_stream
from events.bundles import Bundle
from events.logs import Reader
from events.responses import EventStreamResponse, headers_only, problem
from events.service import EventService
from events.subscriptions import Subscription


def make() -> tuple[EventService, EventStreamResponse]:
    service = EventService()
    service.register_memory("room")
    request = RequestFactory().get("/", headers={"Accept-Encoding": "gzip"})
    return service, EventStreamResponse(request, Subscription(service, "room", None, Reader()))


async def test_a_stock_handler_can_send_it():
    service, response = make()
    assert response.streaming and response.is_async
    async with aclosing(aiter(response)) as chunks:
        assert (await anext(chunks)).startswith(b"retry: ")
        service.publish("room", b"1")
        assert b"data: 1" in await anext(chunks)
        assert service.subscribers("room") == 1
    assert service.subscribers("room") == 0


async def test_closing_the_response_leaves_the_stream():
    service, response = make()
    response.close()
    assert service.subscribers("room") == 0


async def test_a_response_that_is_never_sent_holds_nothing_once_closed():
    service, response = make()
    response.close()
    response.close()
    del response
    gc.collect()
    assert not service.has_subscriptions()


@pytest.mark.parametrize("bundled", [False, True])
async def test_who_takes_a_large_message_slowly_is_not_one_that_takes_nothing(bundled):
    service = EventService()
    service.register_memory("room")
    service.publish("room", b"x" * 1_000_000)
    subscription = Subscription(service, "room", None, Reader())
    body, waited = b"", []

    async def receive():
        await asyncio.Event().wait()

    async def send(message):
        nonlocal body
        body += message.get("body", b"")
        if b"data: x" in body and not body.endswith(b"\n\n"):
            waited.append(time.monotonic() - subscription.handed_over)
            subscription.handed_over = 1.0
        elif waited:
            subscription.end()

    source = Bundle([subscription]) if bundled else subscription
    await _send_stream({"type": "http.response.start"}, source, lambda data: None, receive, send)
    assert body.count(b"x") == 1_000_000
    assert len(waited) == 3 and max(waited) < 60


async def test_its_headers_keep_everybody_from_holding_it_back():
    _, response = make()
    assert response["Content-Type"] == "text/event-stream"
    assert response["Cache-Control"] == "no-cache, no-transform"
    assert response["X-Accel-Buffering"] == "no"
    response.close()


def test_no_compressor_sees_that_the_client_would_like_it():
    request = RequestFactory().get("/", headers={"Accept-Encoding": "gzip"})
    headers_only(request)
    assert "Accept-Encoding" not in request.headers


def test_a_problem_is_json_with_its_headers():
    answer = problem(429, "Too many.", Retry_After="5")
    assert (answer.status_code, answer["Retry-After"]) == (429, "5")
    assert answer.content == b'{"detail": "Too many."}'
