"""The run's folder as the server uses it: where it is, and what the server itself writes into the log."""

from pathlib import Path
from uuid import UUID

import orjson
from django.conf import settings

from tasks.supervision.folder import RunFolder, at_once
from tasks.supervision.logreader import LogReader
from tasks.supervision.records import Clock, record


def runs_folder() -> Path:
    return Path(settings.VIBE_DATA) / "runs"


def folder_of(process_id: UUID | str) -> RunFolder:
    return RunFolder(runs_folder() / str(process_id))


def append(folder: RunFolder, kind: str, content: str) -> None:
    """Adds a record for each line to the log of a run that no supervisor writes to. Raises OSError."""
    folder.make()
    end = LogReader(folder.path).end()
    with open(folder.log, "ab", opener=at_once) as file:
        file.truncate(end)  # a supervisor that was killed may have left half a record
        stamp = max(Clock().stamp(), _last_stamp(folder, end))
        file.write(b"".join(record(kind, line, stamp) for line in content.split("\n")))


def _last_stamp(folder: RunFolder, end: int) -> str:
    reader = LogReader(folder.path)
    try:
        return str(orjson.loads(reader.lines(reader.back(end, 1)))["timestamp"])
    except (ValueError, KeyError, TypeError):
        return ""
