"""Clients of the changes stream, in the test's own process: each holds a document, kept by a stock library."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from uuid import UUID

import jsonpatch
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.db import connections

from events.access import ALL, Principal, Scope
from events.changes import ChangesLog
from events.logs import ANYBODY, Reader
from events.models import DatabaseChange
from events.tracking import registry
from tasks.stream_access import scope_of

Document = dict[str, Any]


def events_of(data: bytes) -> list[tuple[str, Any]]:
    """(id, data) of each message."""
    found = []
    for block in data.decode().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":"))
        if "data" in lines:
            found.append((lines["id"], json.loads(lines["data"])))
    return found


class Client:
    """One reader. `connect` (again, from its cursor), `read` what there is, look at `document`."""

    def __init__(
        self,
        log: ChangesLog,
        scope: Scope = ALL,
        principal: Principal = ANYBODY,
        narrow: UUID | None = None,
    ) -> None:
        self.log = log
        self.fresh = Reader(principal=principal, scope=scope, narrow=narrow)
        self.reader = self.fresh
        self.document: Document = {}
        self.cursor: str | None = None
        self.position = 0
        self.seen: list[Any] = []
        self.full_states = 0
        self.finished = False

    def sees(self, scope: Scope) -> None:
        """What the view found out before it opened the stream."""
        self.fresh = replace(self.fresh, scope=scope)

    async def connect(self) -> "Client":
        self.reader = self.fresh
        self.finished = False
        self._take(await self.log.start(self.cursor, self.reader))
        return self

    async def read(self) -> int:
        """Applies what there is now; returns how many operations that was."""
        count = 0
        while not self.finished:
            before = self.position
            now = self.log.read_now(self.position, self.reader)
            batch = await self.log.read(self.position, self.reader) if now is None else now
            count += self._take(batch)
            if not batch.data and batch.position == before:
                return count
        return count

    def _take(self, batch: Any) -> int:
        self.position = batch.position
        self.reader = batch.reader or self.reader
        self.finished = batch.finished
        messages = events_of(batch.data)
        for cursor, operation in messages:
            self.seen.append(operation)
            self.full_states += operation["path"] == ""
            # Strict: raises for a path that is not there.
            self.document = jsonpatch.apply_patch(self.document, [operation])
            self.cursor = cursor
        return len(messages)


async def until(condition: Callable[[], Awaitable[bool]], what: str, seconds: float = 20) -> None:
    deadline = asyncio.get_running_loop().time() + seconds
    while not await condition():
        assert asyncio.get_running_loop().time() < deadline, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.01)


def fresh_read(scope: Scope = ALL) -> Document:
    """What a reader of this scope is to hold, read without any of the code under test but the list of fields."""
    document: Document = {}
    for tracked in registry.values():
        table = document[tracked.name] = {}
        path = tracked.scope_lookup.removesuffix("_id")
        records = tracked.model._base_manager.all()
        near = records.prefetch_related(tracked.members) if tracked.members else records.select_related(path)
        for record in near:
            place: Any = record
            for name in path.split("__"):
                place = getattr(place, name)
            if getattr(place, "pk", place) in scope:
                table[str(record.pk)] = _plain(record, tracked)
    return document


def _plain(record: Any, tracked: Any) -> Document:
    shown = {name: _json(getattr(record, name)) for name in tracked.fields}
    if tracked.members:
        shown[tracked.members] = sorted(member.pk for member in getattr(record, tracked.members).all())
    return shown


def _json(value: Any) -> Any:
    if isinstance(value, UUID):
        return str(value)
    if hasattr(value, "strftime"):
        return value.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return value


def operations(client: Client, *, start: int = 0) -> Iterable[tuple[str, str]]:
    return [(operation["op"], operation["path"]) for operation in client.seen[start:]]


async def settled(*clients: Client) -> None:
    """Waits until the clients have everything that is committed, and so have their logs.

    A client begins with what the database has, which its log may read only later.
    """
    newest = DatabaseChange.objects.order_by("id").values_list("id", flat=True)
    last = await newest.alast() or 0
    for client in clients:

        async def has_it(client: Client = client) -> bool:
            await client.read()
            return min(client.position, client.log.store.last) - client.log._offset >= last

        await until(has_it, "the newest change")


def meanwhile(work: Callable[[], object]) -> None:
    """Has it done by another connection, whatever transaction is open in this one."""
    with ThreadPoolExecutor(1) as another:
        another.submit(work).result()
        another.submit(connections.close_all).result()


async def member_client(log: ChangesLog, user: User, narrow: UUID | None = None) -> Client:
    client = Client(log, ALL, Principal(user.pk, "session"), narrow)
    client.sees(await sync_to_async(scope_of)(user) if narrow is None else frozenset({narrow}))
    return await client.connect()
