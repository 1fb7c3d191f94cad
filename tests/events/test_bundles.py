"""A bundle: what its parts give, byte for byte, in turns; and what is told of those that end."""

import asyncio
import json
from typing import Any

import pytest
import pytest_asyncio

from events.bundles import Bundle
from events.logs import MemoryLog, Reader
from events.service import EventService
from events.subscriptions import Subscription
from tests.servers.clients import events


@pytest_asyncio.fixture
async def service() -> EventService:
    made = EventService()
    made.register_memory("room")
    return made


def of(service: EventService, *streams: str | int) -> Bundle:
    return Bundle(
        [one if isinstance(one, int) else Subscription(service, one, None, Reader()) for one in streams]
    )


async def read(bundle: Bundle, until: bytes) -> bytes:
    """What it gives until these bytes have come."""
    found = b""
    async with asyncio.timeout(20):
        async for chunk in bundle:
            found += chunk
            if until in found:
                break
    return found


async def read_to_end(bundle: Bundle) -> bytes:
    async with asyncio.timeout(20):
        return b"".join([chunk async for chunk in bundle])


def parted(body: bytes, number: int) -> bytes:
    """What the part with this number was sent."""
    found = b""
    for run in body.split(b"event: stream\nid\ndata: ")[1:]:
        head, _, rest = run.partition(b"\n\n")
        found += rest.split(b"event: ended")[0] if int(head) == number else b""
    return found


def ended(body: bytes) -> list[Any]:
    return [json.loads(event["data"]) for event in events(body) if event.get("event") == "ended"]


async def test_each_part_is_what_it_would_be_alone(service):
    for number in range(5):
        service.publish("room:a", b"a%d" % number)
        service.publish("room:b", b"b%d" % number)
    bundle = of(service, "room:a", "room:b")
    body = await read(bundle, b"data: b4\n\n")
    for part, name in enumerate("ab"):
        async with service.subscribe(f"room:{name}") as alone:
            wanted = [await alone.next(), await alone.next()]
        got = parted(body, part)
        assert got.startswith(b"retry: ") and got.endswith(wanted[1])
        assert got.split(b"\n\n")[0].split(b"\n")[1] == wanted[0].split(b"\n")[1]
    bundle.leave()


async def test_the_part_is_said_only_where_it_changes(service):
    bundle = of(service, "room:a", "room:b")
    await read(bundle, b"data: 1\n\nretry:")
    await asyncio.sleep(0)
    body = b""
    for number in range(3):
        service.publish("room:a", b"%d" % number)
        body += await read(bundle, b"data: %d\n\n" % number)
    assert body.count(b"event: stream") == 1
    bundle.leave()


async def test_no_part_waits_for_a_long_history_of_another(service):
    for _ in range(40):
        service.publish("room:long", b"x" * 200_000)
    service.publish("room:short", b"here")
    bundle = of(service, "room:long", "room:short")
    body = await read(bundle, b"data: here")
    assert parted(body, 0).count(b"xxx\n\n") < 40
    chunks: list[bytes] = []
    service.publish("room:short", b"again")
    while b"data: again" not in b"".join(chunks):
        chunks.append(await bundle.next())
    assert len(chunks) <= 3
    bundle.leave()


async def test_a_part_goes_on_only_when_its_chunk_was_written(service):
    """So that a client that takes nothing costs a chunk a part, and is found out."""
    bundle = of(service, "room:a", "room:b")
    first, second = bundle._parts.values()
    await bundle.next()
    for _ in range(3):
        await asyncio.sleep(0)
    # The other's is read, too, and waits for its turn: that is nothing its client could take.
    assert first.handed_over > 0 and second.handed_over == 0
    await bundle.next()
    await asyncio.sleep(0)
    assert first.handed_over == 0 and second.handed_over > 0
    bundle.leave()


async def test_parts_end_each_by_itself_and_the_bundle_with_the_last(service):
    bundle = of(service, 404, "room:a", "room:b", 429)
    first, second = bundle._parts.values()
    body = await bundle.next()
    assert ended(body) == [{"stream": 0, "status": 404}, {"stream": 3, "status": 429}]
    first.end()
    body = await read(bundle, b"event: ended")
    assert b": goodbye" in parted(body, 1)
    assert ended(body) == [{"stream": 1, "status": None}]
    assert first.closed and service.subscribers("room:b") == 1
    service.publish("room:b", b"goes on")
    assert b"goes on" in parted(await read(bundle, b"goes on"), 2)
    second.end()
    assert ended(await read_to_end(bundle)) == [{"stream": 2, "status": None}]
    assert not service.has_subscriptions()


async def test_a_part_that_fails_takes_no_other_along(service, caplog):
    class Broken(MemoryLog):
        async def start(self, cursor: Any, reader: Any) -> Any:
            raise ZeroDivisionError

    service.register("broken", Broken)
    bundle = of(service, "broken", "room:a")
    service.publish("room:a", b"well")
    body = await read(bundle, b"event: ended")
    assert ended(body) == [{"stream": 0, "status": 500}]
    assert "ZeroDivisionError" in caplog.text
    assert b"well" in body + await read(bundle, b"well")
    bundle.leave()


async def test_a_farewell_reaches_every_part(service):
    bundle = of(service, "room:a", "room:b")
    reading = asyncio.create_task(read_to_end(bundle))
    await asyncio.sleep(0.01)
    await service.close_all()
    body = await reading
    assert body.count(b": goodbye") == 2
    assert len(ended(body)) == 2
    assert not service.metrics.cut


async def test_leaving_ends_whoever_waits_for_it(service):
    bundle = of(service, "room:a", "room:b")
    reading = asyncio.create_task(read_to_end(bundle))
    await asyncio.sleep(0.01)
    await asyncio.to_thread(bundle.leave)
    await asyncio.wait_for(reading, 20)
    assert not service.has_subscriptions()
    assert await bundle.next() == b""


@pytest.mark.parametrize("turns", range(1, 6))
async def test_nothing_is_lost_where_reading_is_cancelled(service, turns):
    bundle = of(service, "room:a", "room:b")
    body = b""
    for number in range(6):
        service.publish("room:a", b"a%d" % number)
        service.publish("room:b", b"b%d" % number)
        waiting = asyncio.create_task(bundle.next())
        for _ in range(turns):
            await asyncio.sleep(0)
        if waiting.done():
            body += waiting.result()
        waiting.cancel()
        await asyncio.wait([waiting])
    body += b"" if b"b5" in body and b"a5" in body else await read(bundle, b"b5")
    service.publish("room:a", b"last")
    body += await read(bundle, b"last")
    assert [event["data"] for event in events(parted(body, 0))] == [*(f"a{n}" for n in range(6)), "last"]
    bundle.leave()
