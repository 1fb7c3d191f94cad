"""An index of the board's own for a worktree: the real one's entries plus the untracked files.

With it, one `git diff` against a commit shows all that differs, renames to new files included, and neither the
real index nor the object store is written: an untracked file is an entry without content, which git takes to be
changed and reads from the worktree.
"""

import os
import shutil
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path

from tasks import git
from tasks.diffs.parse import quoted


@dataclass(frozen=True, slots=True)
class Listing:
    """What git knows of some paths."""

    tracked: set[str] = field(default_factory=set)
    untracked: set[str] = field(default_factory=set)
    """Neither tracked nor ignored. Repositories inside the worktree stand here without the slash."""


def within(path: str, paths: Set[str]) -> bool:
    """Whether the path, or a folder that it lies in, is among `paths`."""
    while path:
        if path in paths:
            return True
        path = path.rpartition("/")[0]
    return "" in paths


def ignored_among(
    worktree: str | Path, paths: Iterable[str], env: Mapping[str, str] | None = None
) -> set[str]:
    """Those that a rule ignores, and that git does not track; folders end with a slash."""
    given = b"".join(b"./%b\0" % os.fsencode(path) for path in paths)
    if not given:
        return set()
    # It refuses paths that are said to be literal; behind ./ they are.
    env = {**(env or {}), "GIT_LITERAL_PATHSPECS": "0"}
    args = ["check-ignore", "--stdin", "-z"]
    # 128: one lies behind a link or in a submodule now.
    found = git.run(*args, cwd=worktree, env=env, stdin=given, accept=(0, 1, 128)).stdout
    return {os.fsdecode(name[2:]) for name in found.split(b"\0") if name}


def objects_in(folder: Path, repo: Path) -> dict[str, str]:
    """The environment in which git writes objects to this folder, and reads those of the repository too."""
    real = os.fsencode(git.common_folder(repo) / "objects")
    known = quoted(real)
    if b":" in known and known == real:
        known = b'"' + known + b'"'
    return {"GIT_OBJECT_DIRECTORY": str(folder), "GIT_ALTERNATE_OBJECT_DIRECTORIES": os.fsdecode(known)}


class PrivateIndex:
    def __init__(self, worktree: Path, file: Path, base: str) -> None:
        """Of a worktree in whose repository `base` is the id of a commit."""
        self.worktree = worktree
        self.env = {"GIT_INDEX_FILE": str(file)}
        self.file = file
        self._real = git.git_folder(worktree) / "index"
        self._empty_blob = git.empty_blob(base)
        self._added: set[str] = set()

    def reload(self) -> None:
        """Starts over from the real index, with all untracked files. A conflict becomes what lies in the worktree, as a
        plain file that differs."""
        temporary = self.file.with_suffix(".new")
        try:
            shutil.copy2(self._real, temporary)
            os.replace(temporary, self.file)
        except FileNotFoundError:
            self.file.unlink(missing_ok=True)
        unmerged, self._added = self._loose()
        self.write([*(self._removal(path) for path in unmerged), *self.entries([*unmerged, *self._added])])

    def _loose(self) -> tuple[set[str], set[str]]:
        """The files in conflict, and the untracked ones."""
        args = ["ls-files", "-t", "--unmerged", "--others", "--exclude-standard", "-z"]
        found = git.run(*args, cwd=self.worktree, env=self.env).stdout
        lines = [os.fsdecode(line) for line in found.split(b"\0") if line]
        return (
            {line.partition("\t")[2] for line in lines if line[0] != "?"},
            {line[2:].removesuffix("/") for line in lines if line[0] == "?"},
        )

    def add_untracked(self, paths: Set[str]) -> Listing:
        """Takes in untracked files among `paths`, and drops those that are gone."""
        listing = self.look_up(paths)
        gone = {
            path for path in self._added if within(path, paths) and not os.path.lexists(self.worktree / path)
        }
        self.write([*(self._removal(path) for path in gone), *self.entries(listing.untracked)])
        self._added = (self._added - gone) | listing.untracked
        return listing

    def look_up(self, paths: Collection[str]) -> Listing:
        args = ["ls-files", "-t", "--others", "--cached", "--exclude-standard", "-z", "--", *paths]
        found = git.run(*args, cwd=self.worktree, env=self.env).stdout
        names = [os.fsdecode(line) for line in found.split(b"\0") if line]
        return Listing(
            tracked={name[2:] for name in names if name[0] != "?"},
            untracked={name[2:].removesuffix("/") for name in names if name[0] == "?"},
        )

    def entries(self, paths: Collection[str]) -> Iterator[bytes]:
        for path in paths:
            mode, blob = self._mode(path), self._empty_blob
            if mode == "160000":
                head = git.commit_of(self.worktree / path, "HEAD")
                if head is None:
                    continue  # A repository with no commit: git has no way to show it.
                blob = head
            if mode:
                yield b"%b %b 0\t%b" % (mode.encode(), blob.encode(), os.fsencode(path))

    def _mode(self, path: str) -> str:
        """Empty where the file has gone in the meantime, or may not be read."""
        file = self.worktree / path
        try:
            found = os.lstat(file).st_mode
        except OSError:
            return ""
        if stat.S_ISDIR(found):
            return "160000"
        if stat.S_ISLNK(found):
            return "120000"
        if not os.access(file, os.R_OK):
            return ""
        return "100755" if found & stat.S_IXUSR else "100644"

    def _removal(self, path: str) -> bytes:
        return b"0 %b\t%b" % (self._empty_blob.encode(), os.fsencode(path))

    def write(self, lines: list[bytes], env: Mapping[str, str] | None = None) -> None:
        """Takes in entries as `update-index` reads them, into another index where `env` names one."""
        if lines:
            given = b"".join(line + b"\0" for line in lines)
            git.run(
                "update-index",
                "--replace",
                "-z",
                "--index-info",
                cwd=self.worktree,
                env=env or self.env,
                stdin=given,
            )
