"""Temporary folders, which `sweep` removes once the process that made them is gone without having done so.

They lie in the data folder. The system's is often memory, which an index of a large repository would fill, and is
tidied by age, while a diff may be followed for weeks; and what lies in them is people's work.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from django.conf import settings

from tasks import locks

_LOCK: Final = ".lock"


@contextmanager
def folder(kind: str) -> Iterator[Path]:
    """A new one, for this block. A process may hold any number."""
    root = _root()
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Made and locked while nobody sweeps.
    with _locked(root, fcntl.LOCK_SH):
        place = Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=root))
        held = _lock(place, fcntl.LOCK_EX)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        os.close(held)


def sweep() -> None:
    """Removes the folders of processes that have ended. From any process, at any time."""
    root = _root()
    if not root.is_dir():
        return
    with _locked(root, fcntl.LOCK_EX):
        left = [place for place in root.iterdir() if place.is_dir() and not locks.is_held(place / _LOCK)]
    for place in left:
        shutil.rmtree(place, ignore_errors=True)


def _root() -> Path:
    return Path(settings.VIBE_DATA).absolute() / "tmp"


def _lock(place: Path, how: int) -> int:
    """The descriptor that holds the lock of a folder, which is a file in it: not every disk locks folders."""
    held = os.open(place / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(held, how)
    return held


@contextmanager
def _locked(place: Path, how: int) -> Iterator[None]:
    held = _lock(place, how)
    try:
        yield
    finally:
        os.close(held)
