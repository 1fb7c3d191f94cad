"""Small files that a loss of power neither tears nor brings back: what a function did is on disk when it returns."""

import json
import os
import secrets
from pathlib import Path
from typing import Any


def write(file: Path, content: dict[str, Any]) -> None:
    """In one step: nobody ever finds half of it."""
    new = file.with_suffix(f".{secrets.token_hex(4)}")
    with open(new, "w", encoding="utf-8", errors="surrogateescape") as out:
        json.dump(content, out, ensure_ascii=False)
        out.flush()
        os.fsync(out.fileno())
    os.replace(new, file)
    _sync(file.parent)


def read(file: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8", errors="surrogateescape"))
    except FileNotFoundError:
        return None
    return found


def take(file: Path) -> dict[str, Any] | None:
    """Reads and deletes it; of several who try at once one gets it."""
    taken = file.with_suffix(f".{secrets.token_hex(4)}")
    try:
        os.rename(file, taken)
    except FileNotFoundError:
        return None
    _sync(file.parent)
    found = read(taken)
    taken.unlink()
    return found


def delete(file: Path) -> None:
    file.unlink(missing_ok=True)
    _sync(file.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
