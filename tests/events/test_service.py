"""EventService and Subscription: what a reader is given, and what is given back."""

import asyncio
import gc
import threading
import tracemalloc
import weakref
from dataclasses import replace
from typing import Any

import pytest

from events import sse
from events.access import Principal
from events.logs import MemoryLog, Reader
from events.service import EventService, TooManyStreams, UnknownStream
from events.steps import begin
from events.store import CHUNK_ENTRIES
from events.subscriptions import Subscription
from events.wheel import _hold_to as hold_to


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


async def test_a_reader_who_now_sees_other_things_gets_everything_not_what_followed_their_cursor(service):
    cursor = service.publish("room:a", b"1")
    service.publish("room:a", b"2")
    async with service.subscribe("room:a", cursor) as chunks:
        assert await read_until(chunks, b"2") == [b"2"]
        chunks.start_over(chunks.reader)
        assert await read_until(chunks, b"2") == [b"1", b"2"]


async def test_a_reader_may_come_to_see_other_things_before_the_first_were_read(service):
    """Reading goes on meanwhile; with the loop held up by the reader nothing would ever become of it."""

    class Slow(MemoryLog):
        may_start = asyncio.Event()

        async def start(self, cursor, reader):
            await self.may_start.wait()
            return await super().start(cursor, reader)

    log = Slow("slow:a")
    log.publish(b"1")
    service.register("slow", lambda key: log)
    async with service.subscribe("slow:a") as chunks:
        await chunks.next()
        reading = asyncio.create_task(read_until(chunks, b"1"))
        rescue = threading.Timer(20, chunks.end)
        rescue.start()
        await asyncio.sleep(0)
        chunks.start_over(chunks.reader)
        await asyncio.sleep(0)
        log.may_start.set()
        assert await reading == [b"1"]
        rescue.cancel()
        assert await read_until(chunks, b"1") == [b"1"]


class Looking(MemoryLog):
    """Finds out by itself what its reader sees by now."""

    def __init__(self) -> None:
        super().__init__("looking")
        self.may_start = asyncio.Event()

    async def start(self, cursor, reader):
        await self.may_start.wait()
        found = await super().start(None, reader)
        return found._replace(reader=replace(reader, scope=frozenset({"new"})))


async def test_a_reader_whom_the_log_has_found_to_see_other_things_is_not_started_over_again(service):
    log = Looking()
    log.publish(b"1")
    service.register("looking", lambda key: log)
    old = Reader(scope=frozenset({"old"}))
    async with service.subscribe("looking", reader=old) as chunks:
        await chunks.next()
        reading = asyncio.create_task(read_until(chunks, b"1"))
        await asyncio.sleep(0)
        # Told while the log looks, and when it has looked, by who asked before.
        chunks.start_over(replace(old, scope=frozenset({"new"})))
        log.may_start.set()
        assert await reading == [b"1"]
        hold_to(chunks, old, frozenset({"new"}), {})
        hold_to(chunks, old, frozenset({"older"}), {})
        log.publish(b"2")
        assert await read_until(chunks, b"2") == [b"2"]
        hold_to(chunks, chunks.reader, frozenset({"newer"}), {})
        assert await read_until(chunks, b"2") == [b"1", b"2"]


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


async def test_a_retired_log_gives_its_memory_back(service):
    logs: list[weakref.ref[MemoryLog]] = []

    def make(key: str) -> MemoryLog:
        log = MemoryLog(key)
        logs.append(weakref.ref(log))
        for _ in range(100):
            log.publish(b"x" * 100_000)
        return log

    service.register("big", make)
    tracemalloc.start()
    async with service.subscribe("big:a") as chunks:
        async with asyncio.timeout(20):
            while b"xxx" not in await chunks.next():
                pass
        held, _ = tracemalloc.get_traced_memory()
    del chunks
    async with asyncio.timeout(20):
        while service.active_streams() or any(log() is not None for log in logs):
            gc.collect()
            await asyncio.sleep(0.01)
    left, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held > 10_000_000
    assert left < 1_000_000


async def test_names_that_clients_make_up_are_forgotten(service):
    for number in range(50):
        async with service.subscribe(f"room:{number}") as chunks:
            await chunks.next()
    service.publish("room:kept", b"1")
    async with asyncio.timeout(20):
        while service.active_streams():  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    assert list(service._memory) == ["room:kept"]


async def test_what_happens_to_a_stream_can_be_followed_in_the_log(service, caplog):
    caplog.set_level("DEBUG", "events")
    async with service.subscribe("room:a") as one, service.subscribe("room:a") as other:
        readers = [asyncio.create_task(read_until(reader, b"1")) for reader in (one, other)]
        while not (one._parked and other._parked):  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)
        caplog.clear()
        service.publish("room:a", b"1")
        await asyncio.wait_for(asyncio.gather(*readers), 20)
    assert "Publishing to 2 subscribers of room:a" in caplog.messages
    assert "A subscriber left stream room:a (0 now)" in caplog.messages


async def test_a_returning_reader_finds_the_log_still_open(service):
    service.linger = 20
    async with service.subscribe("room:a") as chunks:
        await chunks.next()
        log = service.log("room:a")
    async with service.subscribe("room:a"):
        assert service.log("room:a") is log


async def test_a_message_over_the_limit_is_refused_whole(service):
    service.register_memory("small", max_message_bytes=10)
    with pytest.raises(sse.MessageTooLarge, match="11 bytes is over the limit of 10"):
        service.publish("small:a", b"x" * 11)
    service.publish("small:a", b"x" * 10)
    async with service.subscribe("small:a") as chunks:
        assert await read_until(chunks, b"x" * 10) == [b"x" * 10]


def test_nothing_can_be_published_to_what_is_not_known(service):
    with pytest.raises(UnknownStream, match="nowhere"):
        service.publish("nowhere:a", b"1")


async def test_limits_are_counted_and_given_back(service):
    service.max_streams, service.max_streams_per_user = 3, 2
    me, you = Principal("me", "x"), Principal("you", "x")
    service.admit(me)
    service.admit(me)
    with pytest.raises(TooManyStreams, match="2 streams may be open by one person"):
        service.admit(me)
    service.admit(you)
    with pytest.raises(TooManyStreams, match="in all"):
        service.admit(you)
    service.release(me)
    service.admit(you)


async def test_a_reader_that_fails_ends_alone(service):
    """A log that cannot be read ends its reader's stream, and no other's."""

    class Broken(MemoryLog):
        async def start(self, cursor, reader):
            raise RuntimeError("no such file")

    service.register("broken", Broken)
    async with service.subscribe("broken:a") as broken, service.subscribe("room:a") as chunks:
        await broken.next()
        with pytest.raises(RuntimeError, match="no such file"):
            await broken.next()
        service.publish("room:a", b"1")
        assert await read_until(chunks, b"1") == [b"1"]


class Line:
    """A connection that takes chunks, or has to wait."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.gate: asyncio.Event | None = None

    async def send(self, message: dict[str, Any]) -> None:
        if self.gate is not None:
            await self.gate.wait()
        self.taken.append(message["body"])


async def _consume(subscription: Subscription, line: Line) -> None:
    subscription.write = lambda data: begin(line.send({"body": data}))
    async for chunk in subscription:
        await line.send({"body": chunk})


async def test_waiting_readers_are_written_to_without_their_tasks(service):
    line = Line()
    async with service.subscribe("room:a") as subscription:
        task = asyncio.create_task(_consume(subscription, line))
        await asyncio.sleep(0.05)
        waiting_for = subscription._future
        service.publish("room:a", b"1")
        await asyncio.sleep(0.05)
        assert b"data: 1" in line.taken[-1]
        assert subscription._future is waiting_for, "its task was woken"
        subscription.due_beat()
        assert line.taken[-1] == sse.HEARTBEAT
        task.cancel()


async def test_a_write_that_has_to_wait_is_finished_in_order(service):
    line = Line()
    async with service.subscribe("room:a") as subscription:
        task = asyncio.create_task(_consume(subscription, line))
        await asyncio.sleep(0.05)
        line.gate = asyncio.Event()
        for number in range(1, 4):
            service.publish("room:a", b"%d" % number)
            await asyncio.sleep(0.02)
        subscription.due_beat()
        line.gate.set()
        async with asyncio.timeout(20):
            while b"data: 3" not in b"".join(line.taken):  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.01)
        assert [data for data in frames(b"".join(line.taken)) if data != b"{}"] == [b"1", b"2", b"3"]
        assert line.taken.count(sse.HEARTBEAT) == 1
        task.cancel()


class _OpensTheSecondTime(MemoryLog):
    tries = 0

    async def opened(self) -> None:
        type(self).tries += 1
        if self.tries == 1:
            raise OSError("The disk is away.")


async def test_a_log_that_could_not_be_opened_is_opened_anew_for_the_next_reader():
    """Also while readers keep coming, so that the log never has none for as long as it lingers."""
    service = EventService()
    service.register("file", _OpensTheSecondTime)
    async with service.subscribe("file:a") as unlucky:
        with pytest.raises(OSError, match="away"):
            await read_until(unlucky, b"never")
        async with service.subscribe("file:a") as lucky:
            assert (await lucky.next()).startswith(b"retry: ")
            await asyncio.wait_for(lucky._opening, 20)
            assert service.subscribers("file:a") == 1
    assert _OpensTheSecondTime.tries == 2


async def test_a_write_that_fails_takes_no_heartbeat_from_others(service):
    service.wheel.heartbeat = 0.2
    beats: list[bytes] = []

    def fails(_: bytes) -> None:
        raise BrokenPipeError

    async with service.subscribe("room:a") as broken, service.subscribe("room:b") as whole:
        tasks = [asyncio.create_task(read_until(one, b"never")) for one in (broken, whole)]
        while not (broken._parked and whole._parked):  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)
        broken.write, whole.write = fails, beats.append
        async with asyncio.timeout(20):
            while len(beats) < 3:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
    assert set(beats) == {sse.HEARTBEAT}


async def test_what_a_reader_may_see_arrives_behind_very_much_that_they_may_not(service):
    """Whether they come back to it, or it comes while they wait."""

    class Unseen:
        size = 1

        def frame(self, view: object) -> bytes:
            return b""

    written: list[bytes] = []
    async with service.subscribe("room:a") as chunks:
        store = chunks._log.store

        def append_much(last: bytes) -> None:
            for _ in range(3 * CHUNK_ENTRIES):
                store.append(store.last + 1, Unseen())
            store.append(store.last + 1, sse.frame(last))

        append_much(b"first")
        assert await read_until(chunks, b"first") == [b"first"]
        chunks.write = written.append
        reading = asyncio.create_task(read_until(chunks, b"second"))
        while not chunks._parked:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)
        append_much(b"second")
        assert await reading == [b"second"]
    assert not written


@pytest.mark.parametrize(
    ("scope", "places", "stays"),
    [
        (frozenset({"mine"}), {"room:a": "mine"}, True),
        (frozenset({"another"}), {"room:a": "mine"}, False),
        (frozenset({"mine"}), {}, False),
        (None, {"room:a": "mine"}, False),
    ],
    ids=["as before", "lost the membership", "the stream is gone", "may not read at all"],
)
async def test_a_stream_of_one_thing_lasts_as_long_as_its_reader_may_see_it(service, scope, places, stays):
    async with service.subscribe("room:a", reader=Reader(scope=frozenset({"mine"}))) as chunks:
        await chunks.next()
        hold_to(chunks, chunks.reader, scope, places)
        service.publish("room:a", b"1")
        following = await chunks.next()
    assert (b"data: 1" in following) is stays
    assert (b": goodbye" in following) is not stays
