"""What a few new files are like among those that are gone: the cost is theirs, however large the repository.

Git is asked with an index of these few and a tree of those that are gone alone.
"""

import os
import shutil
from collections.abc import Mapping, Sequence, Set
from typing import Final, NamedTuple

from tasks import git
from tasks.diffs.index import PrivateIndex, objects_in

_OPTIONS: Final = (
    "--raw",
    "-z",
    "--no-abbrev",
    "-M",
    "-l0",
    "--diff-filter=AR",
    "--no-ext-diff",
    "--no-relative",
)

_MOST_TREES: Final = 4


class Origin(NamedTuple):
    """What a file that is gone was."""

    mode: str
    blob: str


class Like(NamedTuple):
    old: str | None
    """The one that git would pair with it, were there no other new file; None where it is like none."""
    blob: str
    """Of its own content."""


class Likeness:
    def __init__(self, index: PrivateIndex) -> None:
        self._index = index
        self._objects = index.file.with_suffix(".objects")
        self._env = objects_in(self._objects, index.worktree)
        self._trees: dict[frozenset[tuple[str, Origin]], str] = {}

    def of(
        self, paths: Set[str], sources: Mapping[str, Origin], env: Mapping[str, str], options: Sequence[str]
    ) -> dict[str, Like]:
        """Of each path that is there what it is like; of several, no two are like the same one. One source at least."""
        key = frozenset(sources.items())
        if key not in self._trees:
            self._trees[key] = self._tree_of(sources)
        env = {**env, **self._env, **self._only(".few", list(self._index.entries(paths)))}
        args = ("diff", *_OPTIONS, *options, self._trees[key], "--")
        found = git.run(*args, cwd=self._index.worktree, env=env).stdout
        fields = iter(map(os.fsdecode, found.split(b"\0")[:-1]))
        like: dict[str, Like] = {}
        for head in fields:
            blob, status = head.split(" ")[3:]
            old = next(fields) if status[0] == "R" else None
            like[next(fields)] = Like(old, blob)
        return like

    def _tree_of(self, sources: Mapping[str, Origin]) -> str:
        if len(self._trees) >= _MOST_TREES or not self._trees:
            self._trees.clear()
            shutil.rmtree(self._objects, ignore_errors=True)
            self._objects.mkdir()
        lines = [
            b"%b %b 0\t%b" % (origin.mode.encode(), origin.blob.encode(), os.fsencode(path))
            for path, origin in sources.items()
        ]
        env = {**self._env, **self._only(".gone", lines)}
        return git.run("write-tree", "--missing-ok", cwd=self._index.worktree, env=env).text

    def _only(self, suffix: str, lines: list[bytes]) -> dict[str, str]:
        """The environment in which the index holds these entries alone."""
        file = self._index.file.with_suffix(suffix)
        file.unlink(missing_ok=True)
        env = {"GIT_INDEX_FILE": str(file)}
        self._index.write(lines, env)
        return env
