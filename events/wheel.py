"""What happens to open streams by the clock: one task for all of them, whatever their number.

Streams are spread over the heartbeat interval, so that ten thousand heartbeats are many small portions and not
one long pause. The same turn looks for clients that take nothing, and asks the application, in one go for all
streams, who may still read.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Coroutine, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from asgiref.sync import sync_to_async
from django.db import DatabaseError, connections

from events import sockets
from events.access import Principal, Scope, ScopeId, access, narrowed

if TYPE_CHECKING:
    from events.logs import Reader
    from events.service import EventService
    from events.subscriptions import Subscription

logger = logging.getLogger("events")

_SLOTS: Final = 32
_LEAST_TURN: Final = 0.02
"""Seconds."""


class _OneAtATime:
    """Something that is not begun again while it is still being done."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None

    def start(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(work())


class Wheel:
    def __init__(self, service: "EventService") -> None:
        self.heartbeat = 15.0
        self.send_timeout = 30.0
        self._service = service
        self._task: asyncio.Task[None] | None = None
        self._checking, self._sweep, self._cutting = _OneAtATime(), _OneAtATime(), _OneAtATime()
        self._suspects: set[sockets.Client] = set()

    def start(self) -> None:
        """Turns while there are streams. Called on the event loop at each new stream."""
        loop = asyncio.get_running_loop()
        if self._task is None or self._task.done() or self._task.get_loop() is not loop:
            self._service.leave_closed_loops()
            self._task = loop.create_task(self._turn())

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _turn(self) -> None:
        slots = max(1, min(_SLOTS, int(self.heartbeat / _LEAST_TURN)))
        # A little early: fifteen seconds are the most that a proxy is to see without a byte.
        step = self.heartbeat / slots * 0.95
        due, slot = time.monotonic(), 0
        while self._service.has_subscriptions():
            due = max(due + step, time.monotonic())
            await asyncio.sleep(due - time.monotonic())
            slot = (slot + 1) % slots
            self._visit(slot, slots)
            # Twice a heartbeat, so that the answer is acted on within one.
            if slot % max(1, slots // 2) == 0:
                self._service.prune()
                self.check_access()
                self._sweep.start(self._look_for_the_vanished)

    def _visit(self, slot: int, slots: int) -> None:
        too_old = time.monotonic() - self.send_timeout
        stuck = False
        loop = asyncio.get_running_loop()
        for subscription in self._service.subscriptions():
            if 0 < subscription.handed_over < too_old:
                stuck = stuck or not subscription.was_cut
            elif subscription.number % slots == slot:
                # Not called from here: a write that fails would take the wheel along.
                loop.call_soon(subscription.due_beat)
        if stuck:
            self._cutting.start(self._cut_stuck)

    # --- clients that take nothing, or are no more

    async def _cut_stuck(self) -> None:
        too_old = time.monotonic() - self.send_timeout
        await self._cut(
            [
                one
                for one in self._service.subscriptions()
                if 0 < one.handed_over < too_old and not one.was_cut
            ],
            f"took nothing for {self.send_timeout:g}s",
        )

    async def _look_for_the_vanished(self) -> None:
        by_client = {
            one.client: one for one in self._service.subscriptions() if one.client and not one.was_cut
        }
        silent = await asyncio.to_thread(sockets.unanswered, by_client, max(1, self.heartbeat / 2))
        # Twice in a row: half a heartbeat is time enough for a network to come back.
        vanished, self._suspects = silent & self._suspects, silent
        if vanished:
            await self._cut([by_client[client] for client in vanished], "has vanished")

    async def _cut(self, subscriptions: "list[Subscription]", why: str) -> None:
        for one in subscriptions:
            logger.info("Cut a reader of %s that %s", one.stream_id, why)
            one.cut()
        await asyncio.to_thread(sockets.abort, {one.client for one in subscriptions if one.client})

    # --- who may still read

    def check_access(self) -> None:
        """Asks soon, once, for all streams; a question that is still being answered is enough."""
        self._checking.start(self._check_access)

    async def _check_access(self) -> None:
        streams = {one: one.reader for one in self._service.subscriptions() if one.admitted}
        principals = {reader.principal for reader in streams.values()}
        stream_ids = {one.stream_id for one in streams if ":" in one.stream_id}
        if not principals:
            return
        try:
            scopes, places = await sync_to_async(_ask, thread_sensitive=False)(principals, stream_ids)
        except DatabaseError as error:
            logger.warning("Could not ask who may still read, and will ask again: %s", error)
            return
        for one, reader in streams.items():
            _hold_to(one, reader, scopes.get(reader.principal), places)


def _ask(
    principals: Collection[Principal], stream_ids: Collection[str]
) -> tuple[Mapping[Principal, Scope], Mapping[str, ScopeId]]:
    try:
        return access().still_valid(principals), access().scopes_of(stream_ids) if stream_ids else {}
    finally:
        close_connections()


def close_connections() -> None:
    """Lets this thread's database connections go, whatever CONN_MAX_AGE says, but not out of a transaction."""
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close()


def _hold_to(
    subscription: "Subscription", reader: "Reader", scope: Scope | None, places: Mapping[str, ScopeId]
) -> None:
    """Ends a stream whose reader may no longer read it, and restarts one whose reader now sees other things."""
    if scope is None:
        return subscription.end()
    if ":" in subscription.stream_id:
        place = places.get(subscription.stream_id)
        if place is None or place not in scope:
            subscription.end()
        return None
    if subscription.reader is not reader:
        return None  # The log itself has looked since, and knows better.
    now = narrowed(scope, reader.narrow)
    if now is None:
        subscription.end()
    elif now != reader.scope:
        subscription.start_over(replace(reader, scope=now))
    return None
