"""The log of a run as pages and as a download; logstream.py has the stream. All read one file by byte offset.

A cursor is `<first 8 digits of the run's id>.<offset after the record>`; `….end` means that the run is over and
all was received. In the conversation view a record may make several entries: `….<offset before it>~<n>` is
the cursor after n of them. A record whose line goes on in the next one of its type has a `p` behind the offset.
"""

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson
from django.http import StreamingHttpResponse

from tasks import executors
from tasks.errors import Refused
from tasks.logs import conversation
from tasks.logs.formats import Entry
from tasks.models import ExecutionProcess
from tasks.runs import runfiles
from tasks.supervision.logreader import BLOCK, LogReader

_MOST_IN_GROUP: Final = 200
_MOST_PARTS: Final = 1000
"""Whatever shows its progress on a line that never ends would make ever longer groups, read anew at each look."""
_LONGEST_OFFSET: Final = 18
"""Python itself refuses to read a number of very many digits."""
PARTIAL: Final = b',"partial":true}\n'
"""How the record of a line that goes on ends."""
_BEGINNING: Final = b'{"type":"'


def is_record(line: bytes) -> bool:
    """False for what is no record of ours: half a line that a dying disk left, or what somebody typed in."""
    # Quotes in a content are escaped, so a second beginning is that of the next record, behind half of a torn one.
    return line.rfind(_BEGINNING) == 0 and line.endswith((b'Z"}\n', PARTIAL)) and b"\0" not in line


@dataclass
class Group:
    """Records that make whole lines only together: one, or several where a line came in parts and others between."""

    start: int
    end: int
    records: list[dict[str, Any]]
    parts: int = 0


def groups(file: LogReader, position: int, count: int = BLOCK, over: int | None = None) -> Iterator[Group]:
    """The log from a group's start on, in groups. One that still goes on is left out, unless the log is over there."""
    group = Group(position, position, [])
    open_lines: dict[str, dict[str, Any]] = {}
    while data := file.lines(position, count):
        for line in data.splitlines(keepends=True):
            position += len(line)
            if is_record(line):
                _add(group, open_lines, orjson.loads(line))
            if not open_lines or len(group.records) >= _MOST_IN_GROUP or group.parts >= _MOST_PARTS:
                yield replace(group, end=position)
                group = Group(position, position, [])
                open_lines.clear()
        if not open_lines:
            return
    if open_lines and position == over:
        yield replace(group, end=position)


def _add(group: Group, open_lines: dict[str, dict[str, Any]], record: dict[str, Any]) -> None:
    group.parts += 1
    goes_on = record.pop("partial", False)
    line = open_lines.pop(record["type"], None)
    if line is None:
        line = record
        group.records.append(line)
    else:
        line["content"] += record["content"]
    if goes_on:
        open_lines[record["type"]] = line


def style_of(executor: str) -> str:
    """How its output reads; empty for one that was removed, whose logs are shown as they are."""
    return executors.styles().get(executor, "")


# -- pages -----------------------------------------------------------------------------------------


def first_cursor(process: ExecutionProcess) -> str:
    """The cursor before the first record."""
    return f"{process.pk.hex[:8]}.0"


def cursor_at(process: ExecutionProcess, offset: int, *, partial: bool = False) -> str:
    return f"{process.pk.hex[:8]}.{offset}{'p' if partial else ''}"


def page(
    process: ExecutionProcess, *, before: str | None, after: str | None, limit: int, view: str = ""
) -> list[dict[str, Any]]:
    """Records in their order, each with its `id`: the newest where no cursor is given. Raises Refused."""
    file = LogReader(runfiles.folder_of(process.pk).path)
    if view == "conversation":
        return _conversation_page(process, file, before, after, limit)
    low = _offset(process, file, after) if after else None
    high = _offset(process, file, before) if before else None
    if high is not None and before != f"{process.pk.hex[:8]}.end":
        high = file.back(high, 1)  # not the record itself whose id was given
    if low is None:
        low = file.back(file.end() if high is None else high, limit)
    return list(itertools.islice(_records(process, file, low, high), limit))


def _offset(process: ExecutionProcess, file: LogReader, cursor: str) -> int:
    prefix, _, place = cursor.partition(".")
    place = place.partition("~")[0].removesuffix("p")
    if prefix == process.pk.hex[:8] and place == "end":
        return file.end()
    is_number = place.isdecimal() and len(place) <= _LONGEST_OFFSET
    if prefix != process.pk.hex[:8] or not is_number or not file.is_boundary(int(place)):
        raise Refused(f"{cursor[:100]!r} is no place in this log.", 422)
    return int(place)


def _records(
    process: ExecutionProcess, file: LogReader, low: int, high: int | None
) -> Iterator[dict[str, Any]]:
    for end, record in records(file, low):
        if high is not None and end > high:
            return
        yield {"id": cursor_at(process, end, partial="partial" in record), **record}


def _conversation_page(
    process: ExecutionProcess, file: LogReader, before: str | None, after: str | None, limit: int
) -> list[dict[str, Any]]:
    high = _offset(process, file, before) if before else file.end()
    stop = high + 1 if before and _entries_before(before) else high

    def entries(low: int, skip: int = 0) -> Iterator[dict[str, Any]]:
        found = _entries(process, file, low, stop, skip)
        return itertools.takewhile(lambda entry: entry["id"] != before, found)

    if after:
        return list(itertools.islice(entries(_offset(process, file, after), _entries_before(after)), limit))
    records = limit
    while True:  # a record may make no entry
        low = file.back(high, records)
        newest = deque(entries(low), maxlen=limit)
        if len(newest) == limit or low == 0:
            return list(newest)
        records *= 4


def _entries_before(cursor: str) -> int:
    """How many entries of its group a cursor of the conversation view has behind it."""
    count = cursor.partition("~")[2]
    return int(count) if count.isdecimal() and len(count) <= _LONGEST_OFFSET else 0


def _entries(
    process: ExecutionProcess, file: LogReader, low: int, stop: int, skip: int
) -> Iterator[dict[str, Any]]:
    """From the group that begins at `low` on, but for those that begin at `stop` or behind it."""
    style = style_of(process.task_attempt.executor)
    over = file.end() if process.ended else None
    while True:
        position = low
        for group in groups(file, low, over=over):
            if group.start >= stop:
                return
            low = group.end
            for place, entry in entries_of(group, style, skip):
                yield {"id": f"{process.pk.hex[:8]}.{place}", **entry}
            skip = 0
        if low == position:
            return


def entries_of(group: Group, style: str, skip: int = 0) -> Iterator[tuple[str, Entry]]:
    """The entries that a group makes, but for the first `skip`, each with its place in a cursor."""
    found = [entry for record in group.records for entry in conversation.normalise(record, style)]
    for number, entry in enumerate(found[skip:], skip + 1):
        yield str(group.end) if number == len(found) else f"{group.start}~{number}", entry


def records(file: LogReader, position: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """(offset after it, record) from a boundary to the end."""
    while data := file.lines(position):
        for line in data.splitlines(keepends=True):
            position += len(line)
            if is_record(line):
                yield position, orjson.loads(line)


def download(process: ExecutionProcess) -> StreamingHttpResponse:
    """The whole output as text, in the order in which it came."""
    file = LogReader(runfiles.folder_of(process.pk).path)
    response = StreamingHttpResponse(_text(file), content_type="text/plain; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="run-{process.pk}.log"'
    response["X-Accel-Buffering"] = "no"
    return response


async def _text(file: LogReader) -> AsyncIterator[bytes]:
    position = 0
    while True:
        end, text = await asyncio.to_thread(_text_block, file, position)
        if end == position:
            return
        position = end
        yield text


def _text_block(file: LogReader, position: int) -> tuple[int, bytes]:
    parts = []
    data = file.lines(position)
    for line in filter(is_record, data.splitlines(keepends=True)):
        record = orjson.loads(line)
        parts.append(record["content"] + ("" if record.get("partial") else "\n"))
    return position + len(data), "".join(parts).encode("utf-8", "replace")
