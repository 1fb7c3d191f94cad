"""EventService and Subscription: what a reader is given, and what is given back."""

import asyncio

import pytest

from events import sse
from events.service import EventService


def frames(data: bytes) -> list[bytes]:
    return [line[6:] for line in data.split(b"\n") if line.startswith(b"data: ")]


@pytest.fixture
def service() -> EventService:
    made = EventService()
    made.register_memory("room")
    made.linger = 0.01
    return made


async def read_until(chunks, last: bytes) -> list[bytes]:
    found: list[bytes] = []
    async with asyncio.timeout(20):
        async for chunk in chunks:
            found += frames(chunk)
            if last in found:
                break
    return found


async def test_the_first_bytes_need_no_message(service):
    async with service.subscribe("room:a") as chunks:
        first = await chunks.next()
    assert first.startswith(b"retry: ")
    assert b"\nid: " in first and first.endswith(b"\n\n") and b"data" not in first


async def test_a_reader_gets_what_was_and_what_comes(service):
    service.publish("room:a", b"1")
    async with service.subscribe("room:a") as chunks:
        assert await read_until(chunks, b"1") == [b"1"]
        service.publish("room:a", b"2")
        assert await read_until(chunks, b"2") == [b"2"]


async def test_a_cursor_resumes_exactly(service):
    cursors = [service.publish("room:a", b"%d" % n) for n in range(10)]
    async with service.subscribe("room:a", cursors[3]) as chunks:
        assert await read_until(chunks, b"9") == [b"4", b"5", b"6", b"7", b"8", b"9"]


@pytest.mark.parametrize("cursor", ["garbage", "00000000.3", sse.INVALID_CURSOR, "x" * 100])
async def test_an_unknown_cursor_starts_over(service, cursor):
    service.publish("room:a", b"1")
    async with service.subscribe("room:a", cursor) as chunks:
        assert await read_until(chunks, b"1") == [b'{"reason":"unknown cursor"}', b"1"]


async def test_a_cursor_from_the_future_starts_over(service):
    cursor = service.publish("room:a", b"1")
    later = cursor.replace(".1", ".7")
    async with service.subscribe("room:a", later) as chunks:
        assert (await read_until(chunks, b"1"))[-1] == b"1"


async def test_a_closed_subscription_gives_everything_back(service):
    async with service.subscribe("room:a") as chunks:
        await chunks.next()
        assert service.active_streams() == ["room:a"]
        assert service.subscribers("room:a") == 1
    assert service.subscribers("room:a") == 0
    async with asyncio.timeout(20):
        while service.active_streams():  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)


async def test_the_end_says_farewell(service):
    async with service.subscribe("room:a") as chunks:
        await chunks.next()
        waiting = asyncio.create_task(chunks.next())
        await asyncio.sleep(0)
        closing = asyncio.create_task(service.close_all())
        farewell = await waiting
        assert farewell.startswith(b"retry: ") and b"goodbye" in farewell
        assert await chunks.next() == b""
    await closing


async def test_heartbeats_come_between_messages(service):
    service.wheel.heartbeat = 0.1
    async with service.subscribe("room:a") as chunks, asyncio.timeout(20):
        await chunks.next()
        beats = 0
        async for chunk in chunks:
            beats += chunk == sse.HEARTBEAT
            if beats == 3:
                break
