"""What the streams say: small frozen records, each of which knows its JSON."""

from dataclasses import dataclass
from typing import Any, Final, Literal

import orjson

LogType = Literal["stdout", "stderr", "system", "error"]
ChangeKind = Literal["added", "deleted", "modified", "renamed", "mode", "reverted"]
Omitted = Literal["binary", "too_large"]
Operation = Literal["add", "replace", "remove"]


class _Missing:
    """Tells "no value" from the value null."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One line of a run's output. `timestamp` is ISO 8601 in UTC with microseconds and a Z."""

    type: LogType
    content: str
    timestamp: str

    def json(self) -> bytes:
        return orjson.dumps({"type": self.type, "content": self.content, "timestamp": self.timestamp})


@dataclass(frozen=True, slots=True)
class FileDiff:
    """The whole current diff of one file against its attempt's base.

    `omitted` says why `diff` is empty although the file differs; the counts are true even then.
    """

    file: str
    diff: str
    change: ChangeKind
    old_path: str | None = None
    additions: int = 0
    deletions: int = 0
    omitted: Omitted | None = None

    def as_dict(self) -> dict[str, str | int | None]:
        return {
            "file": self.file,
            "diff": self.diff,
            "change": self.change,
            "old_path": self.old_path,
            "additions": self.additions,
            "deletions": self.deletions,
            "omitted": self.omitted,
        }

    def json(self) -> bytes:
        return orjson.dumps(self.as_dict())


@dataclass(frozen=True, slots=True)
class PatchOp:
    """One RFC 6902 operation. `value` is absent (MISSING) for a remove, and may be None, which is null."""

    op: Operation
    path: str
    value: Any = MISSING

    def as_dict(self) -> dict[str, Any]:
        if self.value is MISSING:
            return {"op": self.op, "path": self.path}
        return {"op": self.op, "path": self.path, "value": self.value}

    def json(self) -> bytes:
        return orjson.dumps(self.as_dict())
