"""What cards show of work that goes on: the last line of output, and how many lines an attempt has changed.

Many boards ask every few seconds. Reading a log's tail is cheap; counting changed lines is not in a large
repository, so an answer is kept for a while: the longer, the longer it took.
"""

import re
import time
from dataclasses import dataclass
from threading import Lock
from uuid import UUID

from tasks import diffs
from tasks.errors import Refused
from tasks.logs import runlogs
from tasks.logs.conversation import normalise
from tasks.models import ExecutionProcess, TaskAttempt

TAIL = 12
LONGEST = 160
FRESH_SECONDS = 2.0
# Counting takes at most this share of the time.
SHARE = 0.05
MOST_KEPT = 2_000

_ESCAPE = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])|[\x00-\x08\x0b-\x1f\x7f]"
)


@dataclass(frozen=True)
class Counts:
    additions: int = 0
    deletions: int = 0

    def as_dict(self) -> dict[str, int]:
        return {"additions": self.additions, "deletions": self.deletions}


@dataclass(frozen=True)
class _Kept:
    counts: Counts
    until: float
    mark: object


_kept: dict[UUID, _Kept] = {}
_lock = Lock()


def last_line(process: ExecutionProcess, style: str) -> str:
    """The last words of a run, without colours: of an agent that prints JSON (`style`), what it said or did."""
    for record in reversed(runlogs.page(process, before=None, after=None, limit=TAIL)):
        for entry in reversed(normalise(record, style)):
            said = entry["text"] or (entry["tool"] or {}).get("name", "")
            lines = [line for line in (plain(part) for part in said.splitlines()) if line]
            if lines and entry["kind"] not in ("usage", "system"):
                return lines[-1][:LONGEST]
    return ""


def plain(text: str) -> str:
    """A line as a terminal would leave it: escape sequences gone, only what follows the last carriage return."""
    return _ESCAPE.sub("", text.rstrip("\r").rpartition("\r")[2]).strip()


def counts(attempt: TaskAttempt, state: object = None) -> Counts:
    """The lines added and removed against the attempt's base, at most a few seconds old.

    An answer that was kept under another `state` (the end of a run, say) is not given.
    """
    now = time.monotonic()
    mark = (attempt.updated_at, attempt.outcome, state)
    found = _kept.get(attempt.pk)
    if found is not None and found.until > now and found.mark == mark:
        return found.counts
    counted = _count(attempt)
    took = time.monotonic() - now
    with _lock:
        if len(_kept) >= MOST_KEPT:
            _kept.pop(next(iter(_kept)))
        _kept[attempt.pk] = _Kept(counted, now + max(FRESH_SECONDS, took / SHARE), mark)
    return counted


def _count(attempt: TaskAttempt) -> Counts:
    try:
        records = diffs.of_attempt(attempt)
    except Refused:  # the repository is gone; the task's page says so
        return Counts()
    return Counts(sum(one["additions"] for one in records), sum(one["deletions"] for one in records))
