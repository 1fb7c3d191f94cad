"""The messages of the benchmarks, and the pace at which each server publishes them. Needs nothing but Python.

Every server publishes from a coroutine on its own event loop, by the same function; between two messages of a burst
the loop gets its turn, as it would between the messages of real publishers.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

MARK = b"~"
"""Stands once in every message, and nowhere else."""
LAST = b"LAST"


def message(size: int, last: bool) -> str:
    """`size` characters; in front the moment it was made, in nanoseconds of the system's clock."""
    return f"~{time.time_ns()}|{'LAST' if last else ''}".ljust(size, "x")


async def publish(send: Callable[[str], Awaitable[Any] | None], count: int, size: int, rate: float) -> None:
    """Sends `count` messages, `rate` a second; 0 is as fast as the loop turns. The last one says so."""
    due = time.perf_counter()
    for number in range(count):
        if rate:
            due += 1 / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
        sent = send(message(size, number == count - 1))
        if sent is not None:
            await sent
        if not rate:
            await asyncio.sleep(0)
