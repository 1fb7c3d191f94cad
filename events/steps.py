"""The first step of something asynchronous, taken at once.

Most sends and reads end without having waited for anything. Taken from a callback, they cost no task and no turn of
the loop; the few that do have to wait are finished by a task.
"""

from collections.abc import Awaitable, Generator
from types import CoroutineType
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Unfinished(Generic[T]):
    """What is left of an awaitable that had to wait: `await` it, in a task, or `close` it."""

    __slots__ = ("_steps", "_waiting")

    def __init__(self, steps: Generator[Any, Any, T], waiting: Any) -> None:
        self._steps = steps
        self._waiting = waiting

    def __await__(self) -> Generator[Any, Any, T]:
        try:
            while True:
                yield self._waiting
                self._waiting = next(self._steps)
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            self.close()

    def close(self) -> None:
        close = getattr(self._steps, "close", None)  # Not every server's awaitable is a generator.
        if close is not None:
            close()


def begin(awaitable: Awaitable[T]) -> "T | Unfinished[T]":
    """Its result, if it has one without waiting; else what is left to do."""
    try:
        if isinstance(awaitable, CoroutineType):  # Most are, and need no iterator around them.
            waiting = awaitable.send(None)
            return Unfinished(awaitable.__await__(), waiting)
        steps = awaitable.__await__()
        return Unfinished(steps, next(steps))
    except StopIteration as end:
        result: T = end.value
        return result
