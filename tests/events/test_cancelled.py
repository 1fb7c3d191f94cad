"""A response that is cancelled at its first await, at its second, … at its last: nothing of it is left behind."""

import asyncio
import types
from collections.abc import Coroutine
from dataclasses import replace

import pytest

from events.access import Principal
from events.asgi import _send_stream
from events.bundles import Bundle
from events.logs import Reader
from events.service import EventService
from events.subscriptions import Subscription

READER = Reader(Principal("somebody", "test"))


@types.coroutine
def cancelled_at(turn: int, work: Coroutine):
    """Runs `work`, and cancels it where it waits for the `turn`-th time; False if it ended before."""
    given = None
    for number in range(1, 10_000):
        try:
            wanted = work.send(given)
        except StopIteration:
            return False
        if number == turn:
            with pytest.raises(asyncio.CancelledError):
                # What it does while it is being cancelled must not wait.
                work.throw(asyncio.CancelledError())
            return True
        given = yield wanted
    raise AssertionError("it never ends")


async def _live(service: EventService, subscription: Subscription) -> None:
    """What may befall a stream: messages, a heartbeat, a reader who sees other things, the end."""
    for number in range(3):
        await asyncio.sleep(0)
        service.publish("room", b"%d" % number)
    await asyncio.sleep(0.001)
    subscription.due_beat()
    await asyncio.sleep(0.001)
    service.publish("room", b"written by the round of wake-ups, or not")
    await asyncio.sleep(0.001)
    subscription.start_over(replace(READER))
    await asyncio.sleep(0.001)
    subscription.end()


async def _cancelled(turn: int, write_waits: bool, bundled: bool) -> bool:
    service = EventService()
    service.linger = 0.0
    service.register_memory("room")
    gone = asyncio.Event()

    async def receive() -> dict[str, str]:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: object) -> None:
        await asyncio.sleep(0)

    def write(data: bytes):
        return asyncio.sleep(0) if write_waits else None

    subscriptions = [_subscribed(service) for _ in range(2 if bundled else 1)]
    sent = Bundle([*subscriptions, 404]) if bundled else subscriptions[0]
    living = [asyncio.create_task(_live(service, one)) for one in subscriptions]
    start = {"type": "http.response.start", "status": 200, "headers": []}
    cancelled = await cancelled_at(turn, _send_stream(start, sent, write, receive, send))
    assert all(one.closed for one in subscriptions) and not service.has_subscriptions()
    assert all(one.task is one.write is None for one in subscriptions)
    assert service._per_user == {}
    await asyncio.gather(*living)
    await service.close_all(0.1)
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:  # What was told to end does, in a turn or two.
        await asyncio.wait(others, timeout=5)
    assert not asyncio.all_tasks() - {asyncio.current_task()}
    return cancelled


def _subscribed(service: EventService) -> Subscription:
    service.admit(READER.principal)
    subscription = Subscription(service, "room", None, READER)
    subscription.admitted = True
    return subscription


@pytest.mark.parametrize("bundled", [False, True])
@pytest.mark.parametrize("write_waits", [True, False])
async def test_a_response_cancelled_at_any_await_leaves_nothing(write_waits, bundled):
    turn = 1
    while await _cancelled(turn, write_waits, bundled):
        turn += 1
    assert turn > 8
