"""What a worktree holds right now, as a tree, without touching its index.

The real index is copied and the copy is brought up to date. Objects go into the repository's store; until a
reference holds them they are what any interrupted `git add` leaves behind.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tasks import git, scratch

WHOLE: Final = ".git.whole"
"""A submodule's git folder on its way into the submodule (finishing/operations.py)."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    head: str
    """The commit checked out in the worktree; empty where its branch has none (any more)."""
    tree: str
    """Everything in it but ignored files."""
    dirty: bool
    """Whether that differs from the commit."""


@contextmanager
def index_copy(worktree: Path) -> Iterator[dict[str, str]]:
    """The environment that makes git use a copy of the worktree's index, thrown away afterwards."""
    real = git.git_folder(worktree) / "index"
    with scratch.folder("index") as folder:
        copy = folder / "index"
        if real.exists():
            shutil.copy2(real, copy)
        yield {"GIT_INDEX_FILE": str(copy)}


def take(worktree: Path) -> Snapshot:
    """Raises GitError, for instance where a file cannot be read."""
    with index_copy(worktree) as env:
        return take_into(worktree, env)


def take_into(worktree: Path, env: dict[str, str]) -> Snapshot:
    """The same into the index that `env` names, which afterwards matches the worktree."""
    head, committed = git.objects_of(worktree, "HEAD^{commit}", "HEAD^{tree}")
    tree = tree_into(worktree, env)
    if committed is None:
        # Of a commit whose tree is missing git says so.
        committed = git.tree_of(worktree, head) if head else git.EMPTY_TREE
    return Snapshot(head or "", tree, tree != committed)


def tree_into(worktree: Path, env: dict[str, str]) -> str:
    """The tree of such a snapshot alone."""
    _add_all(worktree, env)
    return git.run("write-tree", cwd=worktree, env=env).text


def staged_alone(worktree: Path, taken: Snapshot, identity: dict[str, str]) -> str:
    """A commit, made now, of the index where that is neither the commit's nor what lies in the worktree; else empty."""
    with index_copy(worktree) as env:
        # Of a conflict the index holds what commits hold.
        found = git.run("ls-files", "--unmerged", "-z", cwd=worktree, env=env).stdout
        unmerged = b"".join(line.partition(b"\t")[2] + b"\0" for line in found.split(b"\0") if line)
        if unmerged:
            git.run("update-index", "--force-remove", "-z", "--stdin", cwd=worktree, env=env, stdin=unmerged)
        tree = git.run("write-tree", cwd=worktree, env=env).text
    committed = git.tree_of(worktree, taken.head) if taken.head else git.EMPTY_TREE
    if tree in (committed, taken.tree):
        return ""
    parents = ["-p", taken.head] if taken.head else []
    message = b"What was staged and then changed again"
    return git.run("commit-tree", tree, *parents, cwd=worktree, stdin=message, env=identity).text


def _add_all(worktree: Path, env: dict[str, str]) -> None:
    try:
        # --sparse: also what came outside of the part that is checked out.
        git.run("add", "--all", "--sparse", cwd=worktree, env=env)
    except git.GitError as error:
        if "does not have a commit checked out" not in error.stderr:
            raise
        # A repository inside the worktree with no commit of its own cannot be part of a tree at all.
        inner = [name for name in embedded(worktree, env) if not git.commit_of(worktree / name, "HEAD")]
        excluded = [f":(exclude,top,literal){name}" for name in inner]
        args = ["add", "--all", "--sparse", "--", ".", *excluded]
        git.run(*args, cwd=worktree, env=env | {"GIT_LITERAL_PATHSPECS": "0"})


def embedded(worktree: Path, env: dict[str, str] | None = None) -> list[str]:
    """Repositories inside the worktree that git does not track as submodules, without a trailing slash."""
    found = git.run("ls-files", "--others", "--exclude-standard", "-z", cwd=worktree, env=env)
    return [os.fsdecode(name[:-1]) for name in found.stdout.split(b"\0") if name.endswith(b"/")]


def inner_work(worktree: Path) -> list[str]:
    """Repositories inside the worktree that hold something no commit of the worktree can: those that git does not
    track, and submodules with commits that were not pushed or changes that are not committed."""
    listed = git.run("ls-files", "--stage", "-z", cwd=worktree).stdout.split(b"\0")
    links = [os.fsdecode(line.partition(b"\t")[2]) for line in listed if line.startswith(b"160000 ")]
    return [*embedded(worktree), *(name for name in links if _has_own_work(worktree / name))]


def _has_own_work(repository: Path) -> bool:
    if not repository.joinpath(".git").exists():
        return repository.joinpath(WHOLE).exists()
    try:
        commits = ("HEAD", "--all", "--not", "--remotes")
        return is_dirty(repository) or bool(git.run("rev-list", "-n1", *commits, cwd=repository).stdout)
    except git.GitError:  # no commit, or broken: whatever it holds is nowhere else
        return True


def is_dirty(worktree: Path) -> bool:
    """Whether anything but ignored files differs from the commit, whatever git is configured to show."""
    options = ["--untracked-files=normal", "--ignore-submodules=none"]
    return bool(git.run("status", "--porcelain", "-z", *options, cwd=worktree).stdout)
