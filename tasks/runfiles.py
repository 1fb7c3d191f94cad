"""The run's folder as the server uses it: where it is, and what the server itself writes into the log."""

from pathlib import Path
from uuid import UUID

import orjson
from django.conf import settings

from tasks.supervision.folder import RunFolder
from tasks.supervision.records import Clock, record

_TAIL = 64 * 1024


def runs_folder() -> Path:
    return Path(settings.VIBE_DATA) / "runs"


def folder_of(process_id: UUID | str) -> RunFolder:
    return RunFolder(runs_folder() / str(process_id))


def append(folder: RunFolder, kind: str, content: str) -> None:
    """Adds a record to the log of a run that no supervisor writes to. Raises OSError."""
    folder.make()
    with open(folder.log, "ab+") as file:
        # A supervisor that was killed may have left half a record.
        file.seek(max(0, file.tell() - _TAIL))
        tail = file.read()
        start = b"" if not tail or tail.endswith(b"\n") else b"\n"
        stamp = max(Clock().stamp(), _last_stamp(tail))
        file.write(start + record(kind, content, stamp))


def _last_stamp(tail: bytes) -> str:
    for line in reversed(tail.splitlines()):
        try:
            return str(orjson.loads(line)["timestamp"])
        except (ValueError, KeyError, TypeError):
            continue
    return ""
