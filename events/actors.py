"""Who makes the changes of this moment: kept in a context variable, so it follows the work into threads."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import PurePath
from typing import Any, Final, NamedTuple

_LONGEST_LABEL: Final = 150


class Actor(NamedTuple):
    kind: str
    """One of `DatabaseChange.ActorKind`."""
    user_id: str | None = None
    label: str = ""
    """What people call them: a user name, a command's name."""


_actor: ContextVar[Callable[[], Actor] | None] = ContextVar("events_actor", default=None)


@contextmanager
def actor(kind: str, user: Any = None, label: str = "") -> Iterator[None]:
    """Names who makes the changes inside the block: `with actor("runner", user=attempt_starter): …`."""
    found = named(kind, user, label)
    with acting(lambda: found):
        yield


@contextmanager
def acting(resolve: Callable[[], Actor]) -> Iterator[None]:
    """The same for callers that know it only later: `resolve` is called at each change."""
    token = _actor.set(resolve)
    try:
        yield
    finally:
        _actor.reset(token)


def named(kind: str, user: Any = None, label: str = "") -> Actor:
    """A label that a column would not hold is cut, for the change itself must not fail by it."""
    if user is None or user.pk is None:
        return Actor(kind, None, label[:_LONGEST_LABEL])
    return Actor(kind, str(user.pk), (label or user.get_username())[:_LONGEST_LABEL])


def current_actor() -> Actor:
    resolve = _actor.get()
    return resolve() if resolve is not None else _this_program()


@cache
def _this_program() -> Actor:
    """Changes made outside of any request: by a management command or the shell, else by the system."""
    program = PurePath(sys.argv[0]).name if sys.argv else ""
    if program in ("manage.py", "django-admin") and len(sys.argv) > 1:
        return named("command", label=sys.argv[1])
    return Actor("system")
