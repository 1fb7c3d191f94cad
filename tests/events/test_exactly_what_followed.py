"""Every reader gets exactly what followed its cursor, or is told that it starts over: whatever readers do.

A reader here is what a browser is: it knows its last id and nothing else, and comes back with it.
"""

import asyncio
import random
import threading

from hypothesis import given, settings
from hypothesis import strategies as st

from events.service import EventService
from tests.scale import scaled
from tests.servers.clients import events


class Reader:
    """Reads the stream `room`, loses the line, comes back; checks each message as it arrives."""

    def __init__(self, service: EventService) -> None:
        self.service = service
        self.cursor: str | None = None
        self.last = 0
        self.seen = 0
        self.resets = 0
        self._subscription = None
        self._fresh = True

    def connect(self) -> None:
        self.drop()
        from events.logs import Reader as Who
        from events.subscriptions import Subscription

        self._subscription = Subscription(self.service, "room", self.cursor, Who())

    def drop(self) -> None:
        if self._subscription is not None:
            self._subscription.leave()
            self._subscription = None

    async def read(self, cancel_after: int | None = None) -> None:
        """The next chunk; or gives up, cancelled, after so many turns of the loop."""
        if self._subscription is None:
            self.connect()
        task = asyncio.create_task(self._subscription.next())
        if cancel_after is not None:
            for _ in range(cancel_after):
                await asyncio.sleep(0)
            task.cancel()
        done, _ = await asyncio.wait([task], timeout=20)
        assert done, f"nothing came after {self.last}"
        if not task.cancelled():
            self.take(task.result())

    def take(self, chunk: bytes) -> None:
        for event in events(chunk):
            if event.get("event") == "reset":
                self.resets += 1
                self._fresh = True
                continue
            if "event" in event:
                continue
            number = int(event["data"])
            # A fresh or restarted reader may begin anywhere; after that each number follows the one before.
            assert self._fresh or number == self.last + 1, (number, self.last)
            self._fresh = False
            self.last, self.cursor = number, event["id"]
            self.seen += 1


def make_service(max_bytes: int) -> EventService:
    service = EventService()
    service.register_memory("room", max_bytes=max_bytes)
    service.linger = 0.001
    return service


ACTIONS = st.one_of(
    st.tuples(st.just("publish"), st.integers(1, 30)),
    st.tuples(st.just("read"), st.integers(0, 1)),
    st.tuples(st.just("cancelled read"), st.integers(0, 1), st.integers(0, 4)),
    st.tuples(st.just("publish during a cancelled read"), st.integers(0, 1), st.integers(0, 3)),
    st.tuples(st.just("drop"), st.integers(0, 1)),
    st.tuples(st.just("garbage cursor"), st.integers(0, 1)),
)


@settings(max_examples=scaled(2000, 60), deadline=None)
@given(actions=st.lists(ACTIONS, min_size=10, max_size=60), max_bytes=st.sampled_from([1500, 8000, 1 << 20]))
def test_whatever_readers_do(actions, max_bytes):
    asyncio.run(_play(actions, max_bytes))


async def _play(actions, max_bytes) -> None:
    service = make_service(max_bytes)
    readers = [Reader(service) for _ in range(2)]
    published = 0
    for name, *arguments in actions:
        if name == "publish":
            for _ in range(arguments[0]):
                published += 1
                service.publish("room", b"%d" % published)
            continue
        reader = readers[arguments[0]]
        if name == "read":
            await reader.read(cancel_after=20)
        elif name == "cancelled read":
            await reader.read(cancel_after=arguments[1])
        elif name == "publish during a cancelled read":
            published += 1
            asyncio.get_running_loop().call_soon(service.publish, "room", b"%d" % published)
            await reader.read(cancel_after=arguments[1])
            await asyncio.sleep(0)
        elif name == "drop":
            reader.drop()
        elif name == "garbage cursor":
            reader.drop()
            reader.cursor = "garbage"
    for reader in readers:
        while reader.last < published:
            await reader.read()
        if max_bytes == 1 << 20 and not reader.resets:
            assert reader.seen == published
        reader.drop()
    await service.close_all(0.1)


def test_real_threads_and_tasks():
    """Publishers in threads; readers that read, sleep, lose the line, come back, and are cancelled anywhere."""
    asyncio.run(_stress(publishers=4, readers=scaled(100, 25), messages=scaled(50_000, 4_000)))


async def _stress(publishers: int, readers: int, messages: int) -> None:
    service = make_service(max_bytes=200_000)
    numbers = iter(range(1, publishers * messages + 1))
    turn = threading.Lock()

    def publish() -> None:
        for _ in range(messages):
            with turn:  # The order of numbers is the order of publishing.
                service.publish("room", b"%d" % next(numbers))

    threads = [threading.Thread(target=publish) for _ in range(publishers)]
    everyone = [Reader(service) for _ in range(readers)]
    total = publishers * messages

    async def live(reader: Reader, dice: random.Random) -> None:
        while reader.last < total:
            what = dice.random()
            if what < 0.02:
                reader.drop()
            elif what < 0.04:
                await asyncio.sleep(dice.random() / 100)
            elif what < 0.3:
                await reader.read(cancel_after=dice.randrange(8))
            else:
                await reader.read()
        reader.drop()

    lives = [asyncio.create_task(live(one, random.Random(number))) for number, one in enumerate(everyone)]
    for thread in threads:
        thread.start()
    async with asyncio.timeout(120):
        await asyncio.gather(*lives)
    for thread in threads:
        thread.join()
    assert all(reader.last == total for reader in everyone)
    assert sum(reader.seen for reader in everyone) > total
    await service.close_all(0.1)
