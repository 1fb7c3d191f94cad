"""A client of a diff stream inside the test's own event loop: the engine and the log, without the HTTP between."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from events.logs import Reader
from events.service import EventService
from tests.tasks.diffs.state import State, applied, git_says

SECONDS = 25.0


class DiffClient:
    """What a page holds: the state, the cursor, and the events in the order they came."""

    def __init__(self) -> None:
        self.state: State = {}
        self.cursor: str | None = None
        self.events: list[tuple[str, Any]] = []
        self.finished = False
        self.parameters = {"status": "1"}

    def names(self) -> list[str]:
        return [name for name, _ in self.events]

    def latest(self, name: str) -> Any:
        return next((data for event, data in reversed(self.events) if event == name), None)

    def take(self, chunk: bytes) -> None:
        for block in chunk.decode().split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line[1:])
            if "data" in fields:
                data = json.loads(fields["data"])
                name = fields.get("event", "message")
                self.events.append((name, data))
                if name == "reset":
                    self.state = {}
                elif name == "message":
                    assert fields["id"]
                    applied(self.state, data)
                self.finished |= name == "finished"
            self.cursor = fields.get("id", self.cursor)

    @asynccontextmanager
    async def reading(self, service: EventService, attempt_id: object) -> AsyncIterator["DiffClient"]:
        """Reads from its cursor on, and has got `ready`, while the block lasts."""
        self.events.clear()
        reading = asyncio.create_task(self._read(service, f"diff:{attempt_id}"))
        try:
            await self.until(lambda: "ready" in self.names() or reading.done())
            yield self
        finally:
            reading.cancel()
            await asyncio.wait([reading])

    async def _read(self, service: EventService, stream_id: str) -> None:
        async with service.subscribe(stream_id, self.cursor, Reader(parameters=self.parameters)) as chunks:
            async for chunk in chunks:
                self.take(chunk)

    async def until(self, holds: Any) -> None:
        deadline = time.monotonic() + SECONDS
        while not holds():
            assert time.monotonic() < deadline, self.events[-5:]
            await asyncio.sleep(0.02)

    async def settles_at(self, worktree: Path, base: str) -> None:
        """The state becomes what git says of the worktree."""
        deadline = time.monotonic() + SECONDS
        while (expected := await asyncio.to_thread(git_says, worktree, base)) != self.state:
            assert time.monotonic() < deadline, _difference(self.state, expected)
            await asyncio.sleep(0.1)


def _difference(found: State, expected: State) -> str:
    lines = []
    for name in sorted({*found, *expected}):
        if found.get(name) != expected.get(name):
            lines.append(f"{name!r}:\n  stream: {found.get(name)}\n  git:    {expected.get(name)}")
    return "\n".join(lines)
