"""The wire format of Server-Sent Events: one pure encoder, one pure reader of cursors.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import random
import re
from typing import Any, Final

import orjson

HEARTBEAT: Final = b": heartbeat\nevent: heartbeat\ndata: {}\n\n"
"""A comment for proxies and a named event for pages; without an id, so that no cursor moves."""

RETRY_MILLISECONDS: Final = 2000
INVALID_CURSOR: Final = "invalid"

_CURSOR = re.compile(r"[A-Za-z0-9._:~-]{1,100}", re.ASCII)
_LINE_ENDS = re.compile(rb"\r\n|\r|\n")


class MessageTooLarge(ValueError):
    """A message over the limit. It was refused whole: nothing of it was published."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"A message of {size} bytes is over the limit of {limit} bytes.")
        self.size = size
        self.limit = limit


def frame(data: bytes, cursor: str = "", event: str = "") -> bytes:
    """One whole event. `data` is UTF-8; each line of it becomes a `data:` line of its own.

    The id stands in the same frame as its data because a reader throws an unfinished event away:
    were they apart, losing the line between them would move the cursor past data that never came.
    """
    head = b""
    if event:
        head = b"event: %b\n" % event.encode("ascii")
    if cursor:
        head += b"id: %b\n" % cursor.encode("ascii")
    if b"\n" in data or b"\r" in data:
        data = b"\ndata: ".join(_LINE_ENDS.split(data))
    return b"%bdata: %b\n\n" % (head, data)


def json_frame(value: Any, cursor: str = "", event: str = "") -> bytes:
    """`frame` of a value as JSON, which has no line ends outside its escapes."""
    return frame(orjson.dumps(value), cursor, event)


def prime(cursor: str, retry: int | None = None) -> bytes:
    """The first bytes of a connection: when to come back, and the cursor to come back with.

    A block with an id and no data sets the reader's last id and dispatches nothing.
    """
    return b"retry: %d\nid: %b\n\n" % (retry or jittered_retry(), cursor.encode("ascii"))


def farewell(spread: int = 3000) -> bytes:
    """The last bytes before the server goes: come back, but not all of you at the same moment."""
    return b"retry: %d\n: goodbye\n\n" % jittered_retry(500, spread)


def jittered_retry(least: int = RETRY_MILLISECONDS, spread: int = 1000) -> int:
    """Milliseconds, at random, so that many readers who lost the line together do not return together."""
    return least + random.randrange(spread)


def reset(reason: str, origin: str) -> bytes:
    """Says that the frames after it start over from a full state: a page clears its view.

    `origin` is the log's cursor for "nothing received yet", which is what its reader then holds.
    """
    return json_frame({"reason": reason}, origin, "reset")


def clean_cursor(raw: str | None) -> str | None:
    """A cursor as a client sent it; None where it sent none. What cannot be one of ours becomes INVALID_CURSOR,
    which every log answers like any other unknown cursor: with a full state.
    """
    if not raw:
        return None
    return raw if _CURSOR.fullmatch(raw) else INVALID_CURSOR
