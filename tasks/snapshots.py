"""What a worktree holds right now, as a tree, without touching its index.

The real index is copied and the copy is brought up to date. Objects go into the repository's store; until a
reference holds them they are what any interrupted `git add` leaves behind.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tasks import git


@dataclass(frozen=True, slots=True)
class Snapshot:
    head: str
    """The commit checked out in the worktree."""
    tree: str
    """Everything in it but ignored files."""
    dirty: bool
    """Whether that differs from the commit."""


@contextmanager
def index_copy(worktree: Path) -> Iterator[dict[str, str]]:
    """The environment that makes git use a copy of the worktree's index, thrown away afterwards."""
    real = git.git_folder(worktree, "index")
    with tempfile.TemporaryDirectory(prefix="vibe-index-") as folder:
        copy = Path(folder, "index")
        if real.exists():
            shutil.copy2(real, copy)
        yield {"GIT_INDEX_FILE": str(copy)}


def take(worktree: Path) -> Snapshot:
    """Raises GitError, for instance where a file cannot be read."""
    with index_copy(worktree) as env:
        return take_into(worktree, env)


def take_into(worktree: Path, env: dict[str, str]) -> Snapshot:
    """The same into the index that `env` names, which afterwards matches the worktree."""
    head = git.run("rev-parse", "--verify", "HEAD^{commit}", cwd=worktree).text
    _add_all(worktree, env)
    tree = git.run("write-tree", cwd=worktree, env=env).text
    return Snapshot(head, tree, tree != git.tree_of(worktree, head))


def _add_all(worktree: Path, env: dict[str, str]) -> None:
    try:
        git.run("add", "--all", cwd=worktree, env=env)
    except git.GitError as error:
        if "does not have a commit checked out" not in error.stderr:
            raise
        # A repository inside the worktree with no commit of its own cannot be part of a tree at all.
        inner = [name for name in embedded(worktree, env) if not git.commit_of(worktree / name, "HEAD")]
        excluded = [f":(exclude,top,literal){name}" for name in inner]
        git.run("add", "--all", "--", ".", *excluded, cwd=worktree, env=env | {"GIT_LITERAL_PATHSPECS": "0"})


def embedded(worktree: Path, env: dict[str, str] | None = None) -> list[str]:
    """Repositories inside the worktree that git does not track as submodules, without a trailing slash."""
    found = git.run("ls-files", "--others", "--exclude-standard", "-z", cwd=worktree, env=env)
    return [os.fsdecode(name[:-1]) for name in found.stdout.split(b"\0") if name.endswith(b"/")]
