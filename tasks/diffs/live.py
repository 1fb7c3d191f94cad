"""The diff logs that are open in this process: who is told when an attempt's record changes."""

import asyncio
import threading
from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from tasks.diffs.log import DiffLog

_open: "dict[UUID, set[tuple[DiffLog, asyncio.AbstractEventLoop]]]" = {}
_lock = threading.Lock()


async def enter(log: "DiffLog") -> None:
    """Adds a log once those of the same attempt that are still closing have closed: they leave their state to it."""
    loop = asyncio.get_running_loop()
    with _lock:
        before = [held for held, where in _open.get(log.attempt_id, ()) if where is loop]
        _open.setdefault(log.attempt_id, set()).add((log, loop))
    for held in before:
        await held.gone.wait()


def leave(log: "DiffLog") -> None:
    with _lock:
        held = _open.get(log.attempt_id, set())
        held -= {entry for entry in held if entry[0] is log}
        if not held:
            _open.pop(log.attempt_id, None)
    log.gone.set()


def poke(attempt_id: UUID) -> None:
    """Makes the diff streams of an attempt look at its record again. From any thread."""
    with _lock:
        held = list(_open.get(attempt_id, ()))
    for log, loop in held:
        if not loop.is_closed():
            loop.call_soon_threadsafe(log.poke)
