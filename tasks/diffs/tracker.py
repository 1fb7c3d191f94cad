"""What differs now, kept up to date at the price of what changed, not of the repository's size.

`update(paths)` asks git about these paths alone. Renames are the exception: which deleted file a new one comes
from is a question about all files that are new or gone, so as soon as one of those is touched, all of them are asked.
"""

import hashlib
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Set
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Final

from events.messages import FileDiff
from tasks import git
from tasks.diffs.index import PrivateIndex, ignored_among, within
from tasks.diffs.likeness import Like, Likeness, Origin
from tasks.diffs.parse import Change, Parser, shown

MANY_PATHS: Final = 200
"""From so many on, one question about everything is cheaper: git compares each file with each of them."""
_MOST_COMPARED: Final = 1_000_000
"""Pairs of files that are compared ahead; as many as git compares by itself."""
_READ_BYTES: Final = 256 * 1024
_OPTIONS: Final = (
    "--raw", "--no-abbrev", "--numstat", "--patch", "-z", "-M", "-U3", "--inter-hunk-context=0", "--no-color",
    "--no-ext-diff", "--no-textconv", "--no-relative", "--submodule=short", "--src-prefix=a/", "--dst-prefix=b/",
    "-O/dev/null",
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
    origin: Origin | None = None
    """What it was, of a file that is gone or was renamed."""
    as_it_was: bool = False
    """Renamed, with the content it had: git pairs such files first, and compares them with no others."""
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
    deadline = time.monotonic() + git.patience.get()
    # Not a pipe: git and the filters it starts may say more about thousands of files than a pipe holds unread.
    with (
        tempfile.TemporaryFile() as said,
        git.begun(
            command,
            cwd=worktree,
            env=git.environment(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,
        ) as process,
    ):
        assert process.stdout is not None
        try:
            while data := _read(process.stdout.fileno(), deadline):
                yield from parser.feed(data)
        except (TimeoutError, GeneratorExit) as error:
            # Until it is waited for, its number is no other's.
            os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, TimeoutError):
                raise git.TookTooLong(command) from None
            raise
        if process.wait():
            said.seek(0)
            raise git.GitError(command, process.returncode, b"", said.read(_READ_BYTES))
    yield from parser.close()


def _read(descriptor: int, deadline: float) -> bytes:
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    if not waiting.poll(max(0.0, deadline - time.monotonic()) * 1000):
        raise TimeoutError
    return os.read(descriptor, _READ_BYTES)


@dataclass(frozen=True, slots=True)
class Limits:
    file: int
    """The most bytes, as JSON, that one file's diff may have."""
    total: int
    """The most that all of them may have together."""


class Tracker:
    """The files that differ from the commit `base`: those of a worktree, or, without one, of the commit `tip`.

    `plain`: no program that the repository's configuration names is run for it. What a filter would change looks
    changed, and changes inside of submodules do not show.
    """

    def __init__(
        self,
        folder: Path,
        base: str,
        limits: Limits,
        *,
        index_file: Path | None = None,
        tip: str = "",
        plain: bool = False,
    ) -> None:
        self.folder = folder
        self.base = base
        self.known: dict[str, Known] = {}
        self.ignored: set[str] = set()
        """Of the paths of the latest update, the files that git ignores."""
        self._index = PrivateIndex(folder, index_file, base) if index_file else None
        self._likeness = Likeness(self._index) if self._index else None
        self._env = self._index.env if self._index else {}
        # Said in any case: a submodule that git is configured not to show is merged all the same.
        self._options = [f"--ignore-submodules={'dirty' if plain else 'untracked'}"]
        if plain:
            self._env = self._env | git.without_filters(folder)
        self._tip = tip
        self._limits = limits
        self._parser = Parser(limits.file)
        self._pairs: dict[str, tuple[str, str | None]] | None = None
        """What git must say of the files that are asked about, where all were paired anew."""
        self._rivals: dict[str, bool] = {}
        """Of renamed files that were edited: whether another new file would be paired in their place."""
        self._moved_alone: Set[str] | None = None
        """Files that were moved as they were, and that no new one is like but those that they became; if asked."""
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
        found = self._ask(asked)
        if self._pairs is not None and asked is not None:
            found, asked = self._checked(found, asked, self._pairs)
        before = {path for path in self.known if asked is None or self._concerns(path, asked)}
        for change, record in found:
            before.discard(change.path)
            yield from self._learn(change, record)
        for path in sorted(before):
            self._forget(path)
            self._rivals.pop(path, None)
            del self.known[path]
            yield FileDiff(shown(path), "", "reverted")
        yield from self._readmit()

    def foresee(self, paths: Set[str]) -> None:
        """Asks now, while changes of these paths still gather, what their update would have to ask about all files."""
        renamed = [path for path in paths if self._status(path) == "R"]
        if len(renamed) == 1 and len(self._partners()) > MANY_PATHS:
            path = renamed[0]
            if self._names_allow(path, compared_anew=self._as_it_was(path)):
                self._has_rival(path)

    def _prepare(self, paths: Set[str] | None) -> Set[str] | None:
        """Brings the index up to date, and says which paths to ask about."""
        self.ignored = set()
        self._pairs = None
        if self._index is None:
            return None
        if paths is None or len(paths) > MANY_PATHS:
            self._rivals.clear()
            self._moved_alone = None
            self._index.reload()
            return None
        listing = self._index.add_untracked(paths)
        known = {path for path in self.known if self._concerns(path, paths)}
        unheard_of = paths - listing.tracked - listing.untracked - known
        # Asked: a file may also have come a moment after git had looked.
        self.ignored = ignored_among(self.folder, filter(self._is_file, unheard_of), self._env)
        new = listing.untracked | {path for path in known if self.known[path].status in _PAIRED}
        none_gone = all(self._is_file(path) for path in listing.tracked | known)
        if none_gone and not (new and any(known.origin for known in self.known.values())):
            return paths
        asked = paths | self._partners()
        if len(asked) <= MANY_PATHS:
            return asked
        if none_gone and self._stay_unpaired(new):
            return paths
        if none_gone and len(new) == 1 and (pair := self._stays_paired(*new)):
            return paths | pair
        return self._paired_anew(paths)

    def _paired_anew(self, paths: Set[str]) -> set[str] | None:
        """The paths and those whose pairs are others now, each with its partners; None where that is nearly all.

        Git is asked for the pairs of all files here, which is less than half of the work of their diffs.
        """
        # Another file may have become a rival. That one may no longer be is left until all is looked at again.
        self._rivals = {path: True for path, rivals in self._rivals.items() if rivals}
        self._moved_alone = None
        self._pairs = self._ask_pairs()
        before = {path: (known.status, known.old_path) for path, known in self.known.items()}
        both = (before, self._pairs)
        asked = {
            *paths,
            *(
                path
                for path in before.keys() | self._pairs.keys()
                if before.get(path) != self._pairs.get(path)
            ),
        }
        links = [{path, old} for pairs in both for path, (_, old) in pairs.items() if old is not None]
        size = 0
        while size < len(asked) <= MANY_PATHS:
            size = len(asked)
            asked.update(*(link for link in links if link & asked))
        return asked if len(asked) <= MANY_PATHS else None

    def _ask_pairs(self, but: str = "") -> dict[str, tuple[str, str | None]]:
        """Of each file that differs, `but` one, its status and old path."""
        args = [
            "diff",
            "--name-status",
            "-z",
            "-M",
            "--no-ext-diff",
            "--no-relative",
            *self._options,
            self.base,
            "--",
        ]
        env = self._env
        if but:
            args.append(f":(exclude,literal){but}")
            env = env | {"GIT_LITERAL_PATHSPECS": "0"}
        fields = iter(map(os.fsdecode, git.run(*args, cwd=self.folder, env=env).stdout.split(b"\0")[:-1]))
        pairs: dict[str, tuple[str, str | None]] = {}
        for status in fields:
            old = next(fields) if status[0] == "R" else None
            pairs[next(fields)] = (status[0], old)
        return pairs

    def _checked(
        self,
        found: Iterator[tuple[Change, FileDiff]],
        asked: Set[str],
        pairs: dict[str, tuple[str, str | None]],
    ) -> tuple[Iterator[tuple[Change, FileDiff]], Set[str] | None]:
        """The answers and what was asked, or those about all files, where git pairs the fewer otherwise than all."""
        first = list(islice(found, 1))
        expected = {path: pair for path, pair in pairs.items() if within(path, asked)}
        if {change.path: (change.status, change.old_path) for change in self._parser.changes} == expected:
            return chain(first, found), asked
        return self._ask(None), None

    def _gone(self, *, as_it_was: bool | None = None) -> dict[str, Origin]:
        """The files that a new one may come from: all, those that another is now as they were, or the others."""
        return {
            known.old_path or path: known.origin
            for path, known in self.known.items()
            if known.origin is not None and as_it_was in (None, known.as_it_was)
        }

    def _stay_unpaired(self, new: Set[str]) -> bool:
        """Whether these files were new before, or came now, and resemble none of those that are gone.

        Then they can take none from another file, nor did they leave one to it, and all other pairs stay as they are:
        git pairs by likeness, the most alike first, and these were and are like nothing.
        """
        if len(new) > MANY_PATHS or any(self._status(path) not in ("", "A") for path in new):
            return False
        fresh = {path for path in new if path not in self.known}
        if fresh and not self._leave_rules_alone(fresh, but=fresh):
            return False
        like = self._like(new, self._gone())
        if all(found.old is None for found in like.values()):
            return True
        others = self._gone(as_it_was=False)
        if self._is_one_of(self._gone(as_it_was=True), *like.values()):
            return False
        if others and any(found.old for found in self._like(new, others).values()):
            return False
        # They are like one that was moved as it was, which nobody can have before the file that it became is edited.
        self._moved_alone = None
        self._rivals = {
            path: found for path, found in self._rivals.items() if found or not self._as_it_was(path)
        }
        return True

    def _stays_paired(self, path: str) -> set[str]:
        """A renamed file and the one it came from, if that is still the most like it, and no other new file wants it.

        Then all pairs stay as they are: git would pair the others so without these two.
        """
        if not self._names_allow(path, compared_anew=self._as_it_was(path)) or self._has_rival(path):
            return set()
        known = self.known[path]
        old, origin = known.old_path, known.origin
        assert old is not None and origin is not None
        like = self._like({path}, self._gone(as_it_was=False) | {old: origin}).get(path)
        if like is None or like.old != old:
            return set()
        taken = self._gone(as_it_was=True)
        taken.pop(old, None)
        if self._is_one_of(taken, like):
            return set()
        if like.blob == origin.blob and not self._names_allow(path, compared_anew=True):
            return set()
        return {path, old}

    def _names_allow(self, path: str, *, compared_anew: bool) -> bool:
        """Whether no name of another file, nor their number, could make git pair this renamed one otherwise.

        `compared_anew`: it is no longer as it was, or is so again, so that two names come to those compared, or go.
        """
        old = self.known[path].old_path if path in self.known else None
        if old is None:
            return False
        if not compared_anew:
            return self._leave_rules_alone({path}, but={path})
        others = map(os.path.basename, self._gone(as_it_was=False).keys() - {old})
        return os.path.basename(path) not in others and self._leave_rules_alone({old}, but={path})

    def _has_rival(self, path: str) -> bool:
        """Whether another new file would be paired in the place of this renamed one."""
        if path not in self._rivals:
            old = self.known[path].old_path or ""
            alone = self._as_it_was(path) and old in self._found_alone()
            self._rivals[path] = not alone and self._ask_pairs(but=path).get(old) != ("D", None)
        return self._rivals[path]

    def _found_alone(self) -> Set[str]:
        """Asked at the first edit of any of them, for all."""
        if self._moved_alone is None:
            new = self._compared()
            names = set(map(os.path.basename, new))
            moved = {
                path: origin
                for path, origin in self._gone(as_it_was=True).items()
                if os.path.basename(path) not in names
            }
            self._moved_alone = moved.keys() if len(new) * len(moved) <= _MOST_COMPARED else set()
            if self._moved_alone:
                like = self._like(new, moved | self._gone(as_it_was=False))
                if not moved.keys().isdisjoint(found.old for found in like.values()):
                    self._moved_alone = set()
        return self._moved_alone

    def _compared(self) -> set[str]:
        """The new files that git compares with those that are gone."""
        return {path for path, known in self.known.items() if known.status in "AR" and not known.as_it_was}

    def _like(self, new: Set[str], sources: dict[str, Origin]) -> dict[str, Like]:
        assert self._likeness is not None
        return self._likeness.of(new, sources, self._env, self._options)

    def _is_one_of(self, gone: dict[str, Origin], *like: Like) -> bool:
        """Whether one of these files has the content of one that is gone."""
        return not {found.blob for found in like}.isdisjoint(origin.blob for origin in gone.values())

    def _leave_rules_alone(self, names: Set[str], but: Set[str]) -> bool:
        """Whether git pairs the others as it would without these few: it prefers a name, without its folder, that only
        one new file has, and compares no contents where there are too many files (diff.renameLimit).
        """
        new = self._compared() - but
        if set(map(os.path.basename, names)) & set(map(os.path.basename, new)):
            return False
        asked = ["config", "--type=int", "--default=400", "--get", "diff.renameLimit"]
        limit = int(git.run(*asked, cwd=self.folder).text)
        return limit <= 0 or len(new | but) * (len(self._gone(as_it_was=False)) + 1) <= limit * limit

    def _as_it_was(self, path: str) -> bool:
        return path in self.known and self.known[path].as_it_was

    def _status(self, path: str) -> str:
        return self.known[path].status if path in self.known else ""

    def _partners(self) -> set[str]:
        """All files that are new or gone: between any two of them may be a rename."""
        paired = {path: known.old_path for path, known in self.known.items() if known.status in _PAIRED}
        return {*paired, *(old for old in paired.values() if old is not None)}

    def _is_file(self, path: str) -> bool:
        file = self.folder / path
        return file.is_symlink() or file.is_file()

    def _ask(self, asked: Set[str] | None) -> Iterator[tuple[Change, FileDiff]]:
        args = [*self._options, self.base, *([self._tip] if self._tip else []), "--", *sorted(asked or ())]
        self._parser = Parser(self._limits.file)
        return run_diff(self.folder, args, self._env, self._parser)

    def _concerns(self, path: str, asked: Set[str]) -> bool:
        old_path = self.known[path].old_path
        return within(path, asked) or (old_path is not None and within(old_path, asked))

    def _learn(self, change: Change, record: FileDiff) -> Iterator[FileDiff]:
        self._forget(change.path)
        origin = Origin(change.old_mode, change.old_blob) if change.status in "DR" else None
        as_it_was = change.status == "R" and not record.diff and record.omitted is None
        size = len(record.json())
        crowded_out = record.omitted is None and self._total + size > self._limits.total
        if record.omitted is None and (crowded_out or size > self._limits.file):
            record = _without_diff(record)
        mark = digest(record)
        old = self.known.get(change.path)
        size = 0 if record.omitted else size
        self._total += size
        self.known[change.path] = Known(
            change.status, change.old_path, size, mark, origin, as_it_was, crowded_out
        )
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
