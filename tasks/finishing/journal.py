"""What the board is about to do to a repository, written down before, so that a crash leaves it all done or not at all.

One file an attempt under VIBE_DATA/operations. It is deleted when the operation is over; one that is found at
the start of the server belongs to an operation that was cut off, which `finish.recover` then ends.
"""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings

from tasks import durable, git, locks


@dataclass(frozen=True, slots=True)
class Move:
    """A reference that is to go from one commit to another; empty stands for "there is none"."""

    ref: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class FileUpdate:
    """A worktree whose files are to go from one tree to another."""

    folder: str
    from_tree: str
    to_tree: str
    index_tree: str
    """What its index holds in the end."""
    dirty: bool = False
    """Whether `from_tree` holds work that is not committed."""


@dataclass(frozen=True, slots=True)
class Operation:
    attempt: str
    repo: str
    reason: str
    """For the reflog."""
    moves: tuple[Move, ...]
    """Made in one transaction; the first one says whether it was made."""
    files: FileUpdate | None = None
    fresh_index: str = ""
    """A worktree whose index is to follow its branch, while its files are right already."""
    remove: str = ""
    """A worktree to be removed at the end."""
    record: dict[str, Any] = field(default_factory=dict)
    """What the attempt's record says afterwards."""
    done: bool = False
    """Whether its task is done then."""


def _folder() -> Path:
    folder = Path(settings.VIBE_DATA) / "operations"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def write(operation: Operation) -> None:
    """On disk when this returns."""
    durable.write(_file(operation.attempt), asdict(operation))


def erase(attempt: UUID | str) -> None:
    durable.delete(_file(attempt))


def read_all() -> list[Operation]:
    return [found for file in sorted(_folder().glob("*.json")) if (found := _read(file)) is not None]


def read(attempt: UUID | str) -> Operation | None:
    return _read(_file(attempt))


def _file(attempt: UUID | str) -> Path:
    return _folder() / f"{attempt}.json"


def _read(file: Path) -> Operation | None:
    fields = durable.read(file)
    if fields is None:
        return None
    fields["moves"] = tuple(Move(**move) for move in fields["moves"])
    fields["files"] = FileUpdate(**fields["files"]) if fields["files"] else None
    return Operation(**fields)


@contextmanager
def only_one(repo: Path) -> Iterator[None]:
    """Waits until no other operation goes on in this repository, in any process of the board.

    The lock ends with the process that holds it, and with the git that it started, whichever lives longer.
    """
    descriptor = os.open(_lock(repo), os.O_RDWR | os.O_CREAT, 0o600)
    token = git.kept_open.set((*git.kept_open.get(), descriptor))
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        git.kept_open.reset(token)
        os.close(descriptor)


def under_way(attempt: UUID | str) -> bool:
    """Whether an operation on this attempt is being carried out right now, in any process of the board."""
    operation = read(attempt)
    return operation is not None and locks.is_held(_lock(Path(operation.repo)))


def _lock(repo: Path) -> Path:
    name = hashlib.sha256(os.fsencode(repo.resolve())).hexdigest()[:16]
    return _folder() / f"{name}.lock"
