"""What differs now, kept up to date at the price of what changed, not of the repository's size.

`update(paths)` asks git about these paths alone. Renames are the exception: which deleted file a new one comes
from is a question about all files that are new or gone, so as soon as one of those is touched, all of them are asked.
"""

import hashlib
import os
import subprocess
from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from events.messages import FileDiff
from tasks import git
from tasks.diffs.index import PrivateIndex, within
from tasks.diffs.parse import Change, Parser, shown

MANY_PATHS: Final = 200
"""From so many on, one question about everything is cheaper: git compares each file with each of them."""
_READ_BYTES: Final = 256 * 1024
_OPTIONS: Final = (
    "--raw", "--numstat", "--patch", "-z", "-M", "-U3", "--inter-hunk-context=0", "--no-color", "--no-ext-diff",
    "--no-textconv", "--no-relative", "--submodule=short", "--src-prefix=a/", "--dst-prefix=b/", "-O/dev/null",
)  # fmt: skip
_PAIRED: Final = frozenset("ADR")


@dataclass(frozen=True, slots=True)
class Known:
    """What is remembered of a file that differs."""

    status: str
    old_path: str | None
    size: int
    """Of its diff, in bytes of JSON; 0 where the diff is left out."""
    digest: str
    crowded_out: bool = False
    """Left out because all diffs together are over the limit, not for its own size."""


def digest(record: FileDiff) -> str:
    """Tells whether a record is the one that was sent before, also after a restart."""
    return hashlib.blake2b(record.json(), digest_size=12).hexdigest()


def run_diff(
    worktree: Path, args: list[str], env: dict[str, str], parser: Parser
) -> Iterator[tuple[Change, FileDiff]]:
    """The records of one `git diff`, each as soon as git has written it. Raises GitError at the end."""
    command = ["git", "-c", "diff.autoRefreshIndex=true", "-c", "diff.suppressBlankEmpty=false"]
    command += ["diff", *_OPTIONS, *args]
    with subprocess.Popen(
        command,
        cwd=worktree,
        env=git.environment(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        try:
            while data := os.read(process.stdout.fileno(), _READ_BYTES):
                yield from parser.feed(data)
            said = process.stderr.read()
        except GeneratorExit:
            process.kill()
            raise
        if process.wait():
            raise git.GitError(command, process.returncode, b"", said)
    yield from parser.close()


@dataclass(frozen=True, slots=True)
class Limits:
    file: int
    """The most bytes, as JSON, that one file's diff may have."""
    total: int
    """The most that all of them may have together."""


class Tracker:
    """The files that differ from the commit `base`: those of a worktree, or, without one, of the commit `tip`."""

    def __init__(
        self, folder: Path, base: str, limits: Limits, *, index_file: Path | None = None, tip: str = ""
    ) -> None:
        self.folder = folder
        self.base = base
        self.known: dict[str, Known] = {}
        self.ignored: set[str] = set()
        """Of the paths of the latest update, the files that git has nothing to say about."""
        self._index = PrivateIndex(folder, index_file) if index_file else None
        self._tip = tip
        self._limits = limits
        self._parser = Parser(limits.file)
        self._total = 0

    @property
    def announced(self) -> int:
        """How many files the update that goes on has to look at."""
        return len(self._parser.changes)

    def update(self, paths: Set[str] | None = None) -> Iterator[FileDiff]:
        """Yields the record of each file whose diff has changed since the last update; None looks at all.

        A path may be a folder: all in it is looked at. A file that no longer differs gives a record `reverted`.
        """
        asked = self._prepare(paths)
        before = {path for path in self.known if asked is None or self._concerns(path, asked)}
        for change, record in self._ask(asked):
            before.discard(change.path)
            yield from self._learn(change, record)
        for path in sorted(before):
            self._forget(path)
            del self.known[path]
            yield FileDiff(shown(path), "", "reverted")
        yield from self._readmit()

    def _prepare(self, paths: Set[str] | None) -> Set[str] | None:
        """Brings the index up to date, and says which paths to ask about."""
        self.ignored = set()
        if self._index is None:
            return None
        if paths is None or len(paths) > MANY_PATHS:
            self._index.reload()
            return None
        listing = self._index.add_untracked(paths)
        known = {path for path in self.known if self._concerns(path, paths)}
        self.ignored = {
            path for path in paths - listing.tracked - listing.untracked - known if self._is_file(path)
        }
        new = listing.untracked | {path for path in known if self.known[path].status in _PAIRED}
        if all(self._is_file(path) for path in listing.tracked | known) and not (new and self._has_gone()):
            return paths
        asked = paths | self._partners()
        return asked if len(asked) <= MANY_PATHS else None

    def _has_gone(self) -> bool:
        return any(known.status in "DR" for known in self.known.values())

    def _partners(self) -> set[str]:
        """All files that are new or gone: between any two of them may be a rename."""
        paired = {path: known.old_path for path, known in self.known.items() if known.status in _PAIRED}
        return {*paired, *(old for old in paired.values() if old is not None)}

    def _is_file(self, path: str) -> bool:
        file = self.folder / path
        return file.is_symlink() or file.is_file()

    def _ask(self, asked: Set[str] | None) -> Iterator[tuple[Change, FileDiff]]:
        args = [self.base, *([self._tip] if self._tip else []), "--", *sorted(asked or ())]
        env = self._index.env if self._index else {}
        self._parser = Parser(self._limits.file)
        return run_diff(self.folder, args, env, self._parser)

    def _concerns(self, path: str, asked: Set[str]) -> bool:
        old_path = self.known[path].old_path
        return within(path, asked) or (old_path is not None and within(old_path, asked))

    def _learn(self, change: Change, record: FileDiff) -> Iterator[FileDiff]:
        self._forget(change.path)
        size = len(record.json())
        crowded_out = record.omitted is None and self._total + size > self._limits.total
        if record.omitted is None and (crowded_out or size > self._limits.file):
            record = _without_diff(record)
        mark = digest(record)
        old = self.known.get(change.path)
        size = 0 if record.omitted else size
        self._total += size
        self.known[change.path] = Known(change.status, change.old_path, size, mark, crowded_out)
        if old is None or old.digest != mark:
            yield record

    def _forget(self, path: str) -> None:
        if path in self.known:
            self._total -= self.known[path].size

    def _readmit(self) -> Iterator[FileDiff]:
        """Files that were crowded out come back once there is room for them."""
        for path in [path for path, known in self.known.items() if known.crowded_out]:
            if self._total > self._limits.total * 0.9:
                return
            for change, record in self._ask({path, self.known[path].old_path or path}):
                if change.path == path:
                    yield from self._learn(change, record)


def _without_diff(record: FileDiff) -> FileDiff:
    return FileDiff(
        record.file, "", record.change, record.old_path, record.additions, record.deletions, "too_large"
    )
