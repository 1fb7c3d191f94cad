"""What coding agents print as JSON lines, in one common shape.

An entry is `{"kind", "role", "text", "tool", "result", "usage", "timestamp"}`:

| kind | |
| --- | --- |
| message | `role` ("assistant" or "user") says `text` |
| delta | the same, but `text` goes on in the next entry if that is a delta too |
| thinking | the agent's reasoning in `text` |
| tool | the agent calls `tool`: `{"id", "name", "input"}` |
| result | what the tool answered in `text`; `result` is `{"id", "is_error"}` with the id of the call |
| usage | `usage` is `{"input", "cached", "output", "cost"}`: tokens, and US dollars or null |
| error, system | something went wrong, or is worth knowing |
| raw | a line of no known shape, as it is; `role` is "stdout" or "stderr" |
"""

import re
from collections.abc import Iterator
from typing import Any, Final

import orjson

from tasks.logs.formats import READERS, Entry, entry
from tasks.supervision.folder import at_once

_HEAD_BYTES: Final = 256 * 1024
# It becomes an argument of the agent's next run, so it must not look like an option.
_SESSION: Final = re.compile(r"\w[\w.-]{0,249}")
# A surrogate without its other half, which JavaScript writes where it has cut a text in the middle of a character.
_HALF: Final = re.compile(r"(\\\\|\\u[dD][89abAB]\w\w\\u[dD][c-fC-F]\w\w)|\\u[dD][89a-fA-F]\w\w")


def normalise(record: dict[str, Any], style: str) -> list[Entry]:
    """The entries of one log record (a whole line); none for a line that only marks a beginning."""
    content, stamp = str(record.get("content", "")), record.get("timestamp", "")
    kind = record.get("type")
    if kind in ("system", "error"):
        found = [entry(str(kind), content)]
    else:
        known = _of_line(content, style) if kind == "stdout" else None
        found = [entry("raw", content, role=kind)] if known is None else known
    return [{**one, "timestamp": stamp} for one in found]


def session_of(log: str, style: str) -> str:
    """The agent's own name for its session, from the beginning of its log; empty where it gave none."""
    if style not in READERS:
        return ""
    try:
        with open(log, "rb", opener=at_once) as file:
            head = file.read(_HEAD_BYTES)
    except FileNotFoundError:
        return ""
    for line in _whole_lines(head):
        said = _json(line)
        for name in ("session_id", "thread_id", "sessionID"):
            if isinstance(said.get(name), str) and _SESSION.fullmatch(said[name]):
                return str(said[name])
    return ""


def _whole_lines(head: bytes) -> Iterator[str]:
    """The lines on standard output, those that came in parts put together."""
    line = ""
    for record in map(_json, head.splitlines()):
        if record.get("type") == "stdout":
            line += str(record.get("content", ""))
            if not record.get("partial"):
                yield line
                line = ""


def _of_line(content: str, style: str) -> list[Entry] | None:
    reader = READERS.get(style)
    if reader is None:
        return None
    said = _json(content) or _json(_HALF.sub(lambda found: found[1] or r"\ufffd", content))
    if not said:
        return None
    try:
        found = reader(said)
        orjson.dumps(found)  # What is nested very deep can be read, but not be sent.
    except (AttributeError, KeyError, TypeError):  # a shape that only looked familiar
        return None
    return found


def _json(text: str | bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}
