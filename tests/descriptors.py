"""A process that may open no more files, as a server with very many streams."""

import itertools
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager

_OPEN = "/proc/self/fd"


@contextmanager
def room_for(count: int) -> Iterator[None]:
    """In this block the process may open only so many more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Not the one by which the folder was listed.
    taken = {int(name) for name in os.listdir(_OPEN) if os.path.lexists(f"{_OPEN}/{name}")}
    free = (number for number in itertools.count() if number not in taken)
    resource.setrlimit(resource.RLIMIT_NOFILE, (next(itertools.islice(free, count, None)), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
