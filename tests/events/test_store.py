"""MsgStore keeps the contract that stands above it."""

import asyncio
import threading
import time
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from events.store import _OVERHEAD, CHUNK_BYTES, CHUNK_ENTRIES, Batch, Behind, MsgStore
from tests.scale import scaled


def filled(count: int, **options) -> MsgStore:
    store = MsgStore(options.pop("max_bytes", 1 << 30), **options)
    for number in range(1, count + 1):
        store.append(number, b"%d;" % number)
    return store


def read_all(store: MsgStore, after: int) -> bytes:
    parts = []
    while (found := store.read(after)).data:
        parts.append(found.data)
        after = found.position
    return b"".join(parts)


async def holds(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def test_reading_gives_what_follows():
    assert filled(5).read(2)[:2] == (b"3;4;5;", 5)


def test_reading_takes_nothing_away():
    store = filled(3)
    assert store.read(0) == store.read(0)


def test_at_the_end_there_is_nothing_new():
    assert filled(3).read(3) == Batch(b"", 3)


def test_positions_may_have_gaps():
    store = MsgStore(1 << 20)
    for position in (10, 20, 30):
        store.append(position, b"%d;" % position)
    assert store.read(15).data == b"20;30;"


def test_a_repeat_is_ignored():
    store = filled(3)
    assert not store.append(3, b"again")
    assert not store.append(1, b"again")
    assert read_all(store, 0) == b"1;2;3;"


def test_overflow_drops_the_oldest_and_the_reader_is_told():
    store = filled(100, max_bytes=10 * (_OVERHEAD + 4))
    assert store.statistics().messages <= 10
    found = store.read(5)
    assert isinstance(found, Behind)
    assert found == (5, store.floor)
    assert read_all(store, store.floor).endswith(b"99;100;")


def test_a_frame_over_the_limit_can_still_be_read():
    store = MsgStore(1000)
    store.append(1, b"x" * 5000)
    assert store.read(0).data == b"x" * 5000


def test_messages_are_limited_too():
    assert filled(100, max_messages=7).statistics().messages == 7


def test_old_messages_go(monkeypatch):
    store = filled(3, max_age=0.05)
    time.sleep(0.06)
    store.prune()
    assert store.read(0) == Behind(0, 3)
    store.append(4, b"4;")
    assert read_all(store, 3) == b"4;"


def test_publishing_drops_the_old_as_well():
    store = filled(3, max_age=0.05)
    time.sleep(0.06)
    store.append(4, b"4;")
    assert store.floor == 3


def test_readers_at_one_place_share_one_chunk():
    store = filled(1000)
    assert store.read(10).data is store.read(10).data


def test_a_chunk_is_bounded_and_holds_whole_frames():
    store = MsgStore(1 << 30)
    for number in range(1, 101):
        store.append(number, b"%03d" % number * 5000)
    found = store.read(0)
    assert 0 < len(found.data) <= CHUNK_BYTES
    assert len(found.data) % 15000 == 0
    assert len(read_all(store, 0)) == 100 * 15000


def test_a_full_chunk_stays_shared_while_more_is_published():
    store = MsgStore(1 << 30)
    for number in range(1, 101):
        store.append(number, b"x" * 10_000)
    first = store.read(0)
    store.append(101, b"y")
    assert store.read(0) is first


def test_the_last_chunk_grows():
    store = filled(3)
    assert store.read(0).data == b"1;2;3;"
    store.append(4, b"4;")
    assert store.read(0).data == b"1;2;3;4;"


def test_views_see_their_own_frames():
    class Entry:
        size = 10

        def __init__(self, number):
            self.number = number

        def frame(self, view):
            return b"%d;" % self.number if self.number % view == 0 else b""

    store = MsgStore(1 << 20)
    for number in range(1, 7):
        store.append(number, Entry(number))
    assert store.read(0, 2).data == b"2;4;6;"
    assert store.read(0, 3).data == b"3;6;"
    assert store.read(4, 5)[:2] == (b"5;", 6)
    assert store.read(5, 4)[:2] == (b"", 6)


def test_a_read_looks_at_some_entries_only_however_few_may_be_seen():
    class Entry:
        size = 10
        looked_at = 0

        def frame(self, view):
            Entry.looked_at += 1
            return b""

    store = MsgStore(1 << 30)
    count = 2 * CHUNK_ENTRIES + 1
    for number in range(1, count):
        store.append(number, Entry())
    store.append(count, b"seen")
    assert store.read(0, "a")[:2] == (b"", CHUNK_ENTRIES)
    assert Entry.looked_at == CHUNK_ENTRIES
    assert store.read(0, "a")[:2] == (b"", CHUNK_ENTRIES)
    assert store.read(CHUNK_ENTRIES, "a")[:2] == (b"", count - 1)
    assert store.read(count - 1, "a")[:2] == (b"seen", count)


def test_start_over_puts_everybody_behind():
    store = filled(3)
    store.start_over(10)
    assert store.read(3) == Behind(3, 10)
    assert store.append(11, b"11;")
    assert store.read(10).data == b"11;"
    with pytest.raises(ValueError, match="not after"):
        store.start_over(11)


async def test_a_wait_ends_at_the_next_message():
    store = MsgStore(1 << 20)
    threading.Timer(0.05, store.append, (1, b"1;")).start()
    assert await store.wait(0, 20)


async def test_a_wait_for_what_is_there_ends_at_once():
    assert await filled(1).wait(0, 20)


async def test_what_came_between_reading_and_waiting_wakes_at_once():
    """From another thread, that is: on the loop nothing comes between."""

    class Waiter:
        woken = asyncio.Event()

        def wake(self):
            self.woken.set()
            return False

    filled(1).notify(0, Waiter(), asyncio.get_running_loop())
    await asyncio.wait_for(Waiter.woken.wait(), 20)


async def test_a_wait_gives_up():
    assert not await MsgStore(1).wait(0, 0.01)


async def test_close_ends_waits_and_keeps_what_is_there():
    store = filled(2)
    waiting = asyncio.create_task(store.wait(2, 20))
    await asyncio.sleep(0)
    store.close()
    assert not await waiting
    assert not store.append(3, b"3;")
    assert read_all(store, 0) == b"1;2;"


async def test_a_publish_during_a_round_is_not_missed():
    """The store wakes its waiters; what is published meanwhile wakes those who stay once more."""
    store = MsgStore(1 << 20)
    seen: list[int] = []

    class Stays:
        def wake(self) -> bool:
            seen.append(store.last)
            if store.last < 3:
                store.append(store.last + 1, b"x")
            return True

    store.notify(0, Stays(), asyncio.get_running_loop())
    store.append(1, b"x")
    await holds(lambda: seen == [1, 2, 3])
    store.close()
    await holds(lambda: len(seen) == 4)


async def test_who_comes_during_a_round_is_not_missed():
    """Somebody read before the publish whose round goes on, and begins to wait within it."""
    store = MsgStore(1 << 20)
    loop = asyncio.get_running_loop()
    woken: list[int] = []

    class Late:
        def wake(self) -> bool:
            woken.append(store.last)
            return False

    class Early:
        def wake(self) -> bool:
            store.notify(0, Late(), loop)
            return False

    store.notify(0, Early(), loop)
    store.append(1, b"x")
    await holds(lambda: woken == [1])


async def test_a_long_round_gives_the_loop_back():
    store = MsgStore(1 << 20)

    class Slow:
        def wake(self) -> bool:
            time.sleep(0.002)
            return True

    for _ in range(50):
        store.notify(0, Slow(), asyncio.get_running_loop())
    store.append(1, b"x")
    turns = 0
    async with asyncio.timeout(20):
        while not all(waker.waiters for waker in store._wakers.values()) or not turns:
            await asyncio.sleep(0)
            turns += 1
    assert turns > 5


async def test_a_waiter_that_fails_stops_no_other():
    store = MsgStore(1 << 20)
    woken = []

    class Fails:
        def wake(self) -> bool:
            raise RuntimeError("gone")

    class Works:
        def wake(self) -> bool:
            woken.append(1)
            return False

    loop = asyncio.get_running_loop()
    complaints: list[object] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context["exception"]))
    for waiter in (Works(), Fails(), Works(), Fails(), Works()):
        store.notify(0, waiter, loop)
    store.append(1, b"x")
    await holds(lambda: (len(woken), len(complaints)) == (3, 2))


async def test_a_cancelled_wait_leaves_nothing():
    store = MsgStore(1 << 20)
    for _ in range(100):
        waiting = asyncio.create_task(store.wait(0))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
    assert not any(waker.waiters for waker in store._wakers.values())


async def test_many_messages_are_one_wake_up():
    store = MsgStore(1 << 20)
    wakes = 0
    position = 0

    async def reader():
        nonlocal wakes, position
        while position < 1000:
            await store.wait(position)
            wakes += 1
            position = store.read(position).position

    reading = asyncio.create_task(reader())
    await asyncio.sleep(0.01)
    for number in range(1, 1001):
        store.append(number, b"x")
    await asyncio.wait_for(reading, 20)
    assert wakes <= 3


async def test_an_idle_store_wakes_at_once():
    store = MsgStore(1 << 20, window=10)
    started = time.monotonic()
    threading.Timer(0.01, store.append, (1, b"x")).start()
    await store.wait(0, 20)
    assert time.monotonic() - started < 5


def test_a_store_whose_loop_is_gone_still_takes_messages():
    store = MsgStore(1 << 20)

    class Forgotten:
        def wake(self) -> bool:
            raise AssertionError("its loop is closed")

    async def leave_a_waiter() -> None:
        store.notify(0, Forgotten(), asyncio.get_running_loop())

    asyncio.run(leave_a_waiter())
    assert store.append(1, b"1;")
    assert store.append(2, b"2;")


def test_memory_is_bounded_whatever_readers_do():
    limit = 1 << 20
    store = MsgStore(limit)
    tracemalloc.start()
    for number in range(1, scaled(50_000, 20_000)):
        store.append(number, b"%08d" % number * 10)
        if number % 100 == 0:
            store.read(max(store.floor, number - 50))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < limit * 1.5


def test_what_readers_shared_goes_with_what_it_was_made_of():
    limit = 1 << 20
    store = MsgStore(limit)
    tracemalloc.start()
    for number in range(1, 40):
        store.append(number, b"%d" % (number % 10) * 200_000)
        assert len(store.read(number - 1).data) == 200_000
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < limit * 1.5


def test_publishing_costs_the_same_however_many_wait():
    async def seconds(waiters: int) -> float:
        store = MsgStore(1 << 30)
        waiting = [asyncio.create_task(store.wait(0)) for _ in range(waiters)]
        await asyncio.sleep(0)
        started = time.perf_counter()
        for number in range(1, 2001):
            store.append(number, b"x" * 100)
        spent = time.perf_counter() - started
        await asyncio.gather(*waiting)
        return spent

    few = min(asyncio.run(seconds(1)) for _ in range(3))
    many = min(asyncio.run(seconds(5000)) for _ in range(3))
    assert many < few * 10


class Ring(RuleBasedStateMachine):
    """Against a list that forgets nothing: each read is the exact continuation, or says that it is not."""

    def __init__(self):
        super().__init__()
        self.store = MsgStore(12 * (_OVERHEAD + 8), max_messages=9)
        self.all: list[tuple[int, bytes]] = []
        self.readers = [0, 0, 0]

    @rule(gap=st.integers(1, 3), size=st.integers(0, 300))
    def publish(self, gap, size):
        position = self.store.last + gap
        frame = b"%d" % position + b"." * size + b";"
        assert self.store.append(position, frame)
        self.all.append((position, frame))

    @rule(reader=st.integers(0, 2))
    def read(self, reader):
        after = self.readers[reader]
        found = self.store.read(after)
        if isinstance(found, Behind):
            assert any(after < position <= found.floor for position, _ in self.all)
            self.readers[reader] = found.floor
            return
        assert found.data == b"".join(f for p, f in self.all if after < p <= found.position)
        assert found.position >= after
        self.readers[reader] = found.position

    @rule(step=st.integers(1, 5))
    def start_over(self, step):
        self.store.start_over(self.store.last + step)
        self.all.append((self.store.last, b""))

    @invariant()
    def bounded(self):
        held = self.store.statistics()
        assert held.messages <= 9
        assert held.messages <= 1 or held.bytes <= 12 * (_OVERHEAD + 8)


TestRing = Ring.TestCase
TestRing.settings = settings(max_examples=scaled(200, 25), stateful_step_count=40, deadline=None)


@given(st.lists(st.integers(0, 5), max_size=40))
def test_a_reader_that_keeps_up_sees_everything(pauses):
    store = MsgStore(1 << 20)
    seen, position = b"", 0
    for number, pause in enumerate(pauses, 1):
        store.append(number, b"%d;" % number)
        if pause == 0:
            found = store.read(position)
            seen, position = seen + found.data, found.position
    seen += store.read(position).data
    assert seen == b"".join(b"%d;" % n for n in range(1, len(pauses) + 1))
