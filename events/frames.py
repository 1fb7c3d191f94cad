"""Rows of DatabaseChange as frames: each reader's part of an operation, and the cursor that goes with it."""

import hashlib
from collections.abc import Hashable, Iterable
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, NamedTuple
from uuid import UUID

import orjson

from events import sse
from events.access import ALL, Scope
from events.models import DatabaseChange

ROW: Final = (
    "id", "table", "object_id", "operation", "path", "value_json", "full_json", "scope", "scope_before",
    "at",
)  # fmt: skip


class Cursor(NamedTuple):
    """`<epoch>.<row id>.<mark of the row>.<what its reader sees>`.

    The mark tells the row from another that has got its id: a power loss may take the last commits away, a restored
    backup more, while clients hold cursors of them. The last part makes a resume with another view of the records (a
    membership more or less, another `?project_id=`) what it is: a cursor of another document, answered with a full
    state.
    """

    epoch: str
    row: int
    mark: str
    view: str

    def __str__(self) -> str:
        return f"{self.epoch}.{self.row}.{self.mark}.{self.view}"

    @classmethod
    def parse(cls, raw: str | None) -> "Cursor | None":
        """None for anything that this log cannot have made."""
        parts = (raw or "").split(".")
        if len(parts) != 4 or not (parts[1].isascii() and parts[1].isdigit()):
            return None
        return cls(parts[0], int(parts[1]), parts[2], parts[3])


def mark_of(at: datetime) -> str:
    """Of a row written at this moment: its microsecond within the hour."""
    return f"{(at.minute * 60 + at.second) * 1_000_000 + at.microsecond:x}"


@lru_cache(4096)
def view_of(scope: Scope) -> str:
    """A short name for a scope, the same in every process."""
    if scope is ALL:
        return "all"
    assert isinstance(scope, frozenset)
    return hashlib.blake2s("".join(sorted(map(str, scope))).encode(), digest_size=6).hexdigest()


def full_state(document: bytes, cursor: Cursor) -> bytes:
    return sse.frame(b'{"op":"replace","path":"","value":%b}' % document, str(cursor))


class Change:
    """One row, as an entry of the store (`events.store.Entry`)."""

    __slots__ = ("_after", "_before", "_epoch", "_first", "_full", "_mark", "_op", "_remove", "_row", "size")

    def __init__(self, epoch: str, row: Iterable[Any]) -> None:
        number, table, object_id, operation, path, value, full, scope, scope_before, at = row
        record = f"/{table}/{object_id}"
        self._epoch = epoch
        self._row: int = number
        self._mark = mark_of(at)
        self._before = None if scope_before is None else UUID(scope_before)
        self._after = None if scope is None else UUID(scope)
        self._op = b"" if operation == "move" else _operation(operation, record + path, value)
        self._full = None if full is None else _operation("add", record, full)
        self._remove = _operation("remove", record)
        self._first = path == "" and operation in ("add", "remove")
        self.size = 300 + len(self._op) + len(self._full or b"")

    def frame(self, view: Hashable) -> bytes:
        data = self.data(view)
        return (
            sse.frame(data, str(Cursor(self._epoch, self._row, self._mark, view_of(view)))) if data else b""
        )

    def data(self, scope: Any) -> bytes:
        """The operation as readers with this scope need it; empty if it is none of their business."""
        sees_before, sees_after = self._before in scope, self._after in scope
        if self._first:
            # There was, or is, nothing on the other side.
            return self._op if sees_before or sees_after else b""
        if sees_before and sees_after:
            return self._op
        if self._full is None:
            return b""
        if sees_after:
            return self._full
        return self._remove if sees_before else b""


def _operation(operation: str, path: str, value: str | None = None) -> bytes:
    head = b'{"op":"%b","path":%b' % (operation.encode(), orjson.dumps(path))
    return head + (b"}" if value is None else b',"value":%b}' % value.encode())


def concerned(row: Iterable[Any], old_json: str | None, members: str) -> set[str]:
    """The users whose membership this row gives or takes; none for other rows."""
    _, _, _, operation, path, value, *_ = row
    if operation != DatabaseChange.Operation.REPLACE or path != f"/{members}":
        return set()
    old, new = (set(map(str, orjson.loads(text or "[]"))) for text in (old_json, value))
    return old ^ new
