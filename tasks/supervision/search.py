"""Searches a run's log from its first record to its last. Standard library only.

It runs as a program of its own (`tasks/logs/log_search.py`): a pattern that backtracks for ever costs the server
nothing, and a search is cancelled by ending it.
"""

import json
import re
import resource
from collections.abc import Callable, Iterator
from typing import Any, Final

from tasks.supervision.child import end_with_parent
from tasks.supervision.logreader import BLOCK, LogReader

CPU_SECONDS: Final = 60
MOST_HITS: Final = 10_000
_AROUND: Final = 300
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")

Find = Callable[[str], tuple[int, int] | None]


def matcher(query: str, *, regex: bool, case: bool) -> Find:
    """Finds the query in a line: (start, end), or None. Raises ValueError for what is no regular expression."""
    if regex:
        try:
            compiled = re.compile(query, 0 if case else re.IGNORECASE)
        except (re.error, OverflowError, RecursionError) as error:  # a count, or a depth, that is too large
            raise ValueError(f"{query!r} is no regular expression: {error}") from None

        def by_pattern(text: str) -> tuple[int, int] | None:
            found = compiled.search(text)
            return found.span() if found else None

        return by_pattern
    return _by_words(query, case)


def _by_words(query: str, case: bool) -> Find:
    wanted = query if case else query.lower()

    def by_words(text: str) -> tuple[int, int] | None:
        start = (text if case else text.lower()).find(wanted)
        return None if start < 0 else (start, start + len(query))

    return by_words


def _worth_decoding(query: str, *, regex: bool, case: bool) -> Callable[[bytes], bool]:
    """Whether raw lines of the file may hold a match: a fast look that is never wrong about "no"."""
    plain = query.isascii() and query.isprintable() and not set('"\\') & set(query)
    if regex or not plain:
        return lambda data: True
    wanted = query.encode() if case else query.lower().encode()

    def look(data: bytes) -> bool:
        # Colours may lie within the words.
        return wanted in (data if case else data.lower()) or b"\\u001b" in data

    return look


def search(
    folder: str, query: str, *, regex: bool = False, case: bool = False, most: int = MOST_HITS
) -> Iterator[dict[str, Any]]:
    """A hit each `{"line", "content"}` (line from 0), now and then `{"scanned", "total"}` in bytes, then `{"done"}`.

    Colours are not part of the text: "red" is found though half of it is bold.
    """
    reader, find = LogReader(folder), matcher(query, regex=regex, case=case)
    may_hold = _worth_decoding(query, regex=regex, case=case)
    total, position, line_number, hits = reader.size(), 0, 0, 0
    while data := reader.lines(position, BLOCK):
        if may_hold(data):
            for number, line in enumerate(data.splitlines(), line_number):
                hit = _hit(line, find) if may_hold(line) else None
                if hit is not None:
                    yield {"line": number, "content": hit}
                    hits += 1
                    if hits >= most:
                        yield {"done": True, "hits": hits, "truncated": True}
                        return
        line_number += data.count(b"\n")
        position += len(data)
        yield {"scanned": position, "total": max(total, position)}
    yield {"done": True, "hits": hits, "truncated": False}


def _hit(line: bytes, find: Find) -> str | None:
    """The text around the match."""
    try:
        text = _ANSI.sub("", json.loads(line)["content"])
    except (ValueError, KeyError, TypeError):  # no record of ours
        return None
    found = find(text)
    if found is None:
        return None
    start = max(0, found[0] - _AROUND)
    return text[start : min(len(text), max(found[1], start) + _AROUND)]


def limit_myself() -> None:
    end_with_parent()
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
