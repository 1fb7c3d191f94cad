"""What an attempt has changed: as a list, as one file, and as a stream that keeps up (docs/diffs.md)."""

import sys
from collections.abc import Iterator
from typing import Any

from django.conf import settings

from events.messages import FileDiff
from tasks import git, scratch, snapshots
from tasks.diffs import source
from tasks.diffs.live import poke
from tasks.diffs.log import GIT_SECONDS, limits
from tasks.diffs.tracker import Limits, Tracker
from tasks.errors import Refused
from tasks.models import TaskAttempt

__all__ = ["of_attempt", "one_file", "patch", "poke"]


@git.at_most(GIT_SECONDS)
def of_attempt(attempt: TaskAttempt) -> list[dict[str, Any]]:
    """The records that the diff stream gives a fresh reader. Raises Refused (409) where git cannot say."""
    return [record.as_dict() for record in _records(attempt, limits())]


@git.at_most(GIT_SECONDS)
def one_file(attempt: TaskAttempt, file: str) -> list[dict[str, Any]]:
    """The record of one file, whole however large up to a stream's buffer; empty if it does not differ."""
    largest = settings.EVENTS_BUFFER_BYTES
    # Only git can tell which deleted file a new one was, and only by looking at all of them.
    found = _records(attempt, Limits(file=largest, total=sys.maxsize))
    return [record.as_dict() for record in found if record.file == file]


@git.at_most(GIT_SECONDS)
def patch(attempt: TaskAttempt, *files: str) -> bytes:
    """What `git apply` takes, of these files or of all: with the modes and the bytes that records lack."""
    found = source.of(attempt)
    if not found.base:
        return b""
    options = ["-r", "--patch", "--binary", "--find-renames", "--no-ext-diff", "--no-textconv"]
    try:
        tree = found.tip or snapshots.take(found.folder).tree
        # No name steers the terminal that it may be printed on.
        command = ["-c", "core.quotePath=true", "diff-tree", *options, found.base, tree, "--", *files]
        return git.run(*command, cwd=found.folder).stdout
    except git.GitError as error:
        raise Refused(f"git cannot compute the diff: {error.reason}", 409) from error


def _records(attempt: TaskAttempt, limit: Limits) -> Iterator[FileDiff]:
    found = source.of(attempt)
    if not found.base:
        return
    try:
        with scratch.folder("diff") as folder:
            index = None if found.tip else folder / "index"
            yield from Tracker(found.folder, found.base, limit, index_file=index, tip=found.tip).update()
    except git.GitError as error:
        raise Refused(f"git cannot compute the diff: {error.reason}", 409) from error
