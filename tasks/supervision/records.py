"""Bytes of a pipe -> lines of the log file. Pure: the clock is given, nothing is read or written.

A line of the file is one JSON object, `{"type", "content", "timestamp"}`, and a line end. `content`
is one line of output without its line end. Where output comes without one (a prompt, a progress
bar, a line longer than a message may be), the record carries `"partial": true` as well: its line
goes on in the next record of the same type.
"""

import codecs
import time
from collections.abc import Callable, Iterator
from json.encoder import encode_basestring as quote

# What a record needs around its content, the frame of the event stream included.
OVERHEAD = 256
# A character takes at most this many bytes in the file: a control character is written as \u0000.
_WIDEST = 6


class Clock:
    """Timestamps that never go back, even when the machine's clock does.

    After a step back, time goes on from the last timestamp by the steady clock, until the
    machine's clock has caught up. `stepped_back` sums the seconds lost so, for whoever reports them.
    """

    def __init__(
        self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic
    ) -> None:
        self._wall = wall
        self.steady = steady
        self._last = 0.0
        self._last_wall = 0.0
        self._last_steady = 0.0
        self._second = -1
        self._text = ""
        self.stepped_back = 0.0

    def stamp(self) -> str:
        """Now, as `2026-01-01T00:00:00.000000Z`."""
        wall, steady = self._wall(), self.steady()
        passed = max(0.0, steady - self._last_steady)
        if wall < self._last_wall:
            self.stepped_back += self._last_wall + passed - wall
        self._last = wall if wall >= self._last else self._last + passed
        self._last_wall, self._last_steady = wall, steady
        second = int(self._last)
        if second != self._second:
            self._second = second
            self._text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._text}.{int((self._last - second) * 1_000_000):06d}Z"


def record(kind: str, content: str, stamp: str, *, partial: bool = False) -> bytes:
    """One line of the file."""
    mark = ',"partial":true' if partial else ""
    text = f'{{"type":"{kind}","content":{quote(content)},"timestamp":"{stamp}"{mark}}}\n'
    return text.encode("utf-8", "replace")


def pieces(text: str, room: int) -> Iterator[str]:
    """The text in parts that each take at most `room` bytes when written."""
    if len(text) * _WIDEST <= room or len(quote(text).encode()) <= room:
        yield text
        return
    middle = len(text) // 2
    yield from pieces(text[:middle], room)
    yield from pieces(text[middle:], room)


class Lines:
    """The records of one pipe. Holds at most one message of text that has no line end yet."""

    def __init__(self, kind: str, max_message_bytes: int) -> None:
        self._kind = kind
        self._room = max_message_bytes - OVERHEAD
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._pending: list[str] = []
        self._pending_size = 0

    @property
    def pending(self) -> bool:
        return self._pending_size > 0

    def feed(self, data: bytes, stamp: str) -> bytes:
        """Records of the lines that `data` completes; the rest is kept until `flush`."""
        text = self._decode(data)
        lines = text.split("\n")
        if len(lines) == 1:
            self._keep(text)
            return self.flush(stamp) if self._pending_size >= self._room else b""
        lines[0] = self._take() + lines[0]
        self._keep(lines.pop())
        if "\r\n" in text or lines[0].endswith("\r"):
            lines = [line[:-1] if line.endswith("\r") else line for line in lines]
        if max(map(len, lines)) * _WIDEST > self._room:
            return b"".join(self._split(line, stamp, partial=False) for line in lines)
        head = f'{{"type":"{self._kind}","content":'
        tail = f',"timestamp":"{stamp}"}}\n'
        return (head + (tail + head).join(map(quote, lines)) + tail).encode()

    def flush(self, stamp: str) -> bytes:
        """What has no line end yet, marked as partial. An unfinished character stays behind."""
        return self._split(self._take(), stamp, partial=True) if self._pending_size else b""

    def end(self, stamp: str) -> bytes:
        """The last line, which has no line end and gets none."""
        self._keep(self._decode(b"", True))
        return self._split(self._take(), stamp, partial=False) if self._pending_size else b""

    def _keep(self, text: str) -> None:
        if text:
            self._pending.append(text)
            self._pending_size += len(text)

    def _take(self) -> str:
        text = "".join(self._pending)
        self._pending.clear()
        self._pending_size = 0
        return text

    def _split(self, line: str, stamp: str, *, partial: bool) -> bytes:
        parts = list(pieces(line, self._room))
        written = [record(self._kind, part, stamp, partial=True) for part in parts[:-1]]
        return b"".join(written) + record(self._kind, parts[-1], stamp, partial=partial)
