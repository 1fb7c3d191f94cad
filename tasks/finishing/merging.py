"""Merges and rebases as objects alone: no worktree, no index and no reference is touched.

Whatever comes out is only in the object store until a reference is moved to it, so giving up costs nothing.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tasks import git, scratch
from tasks.diffs.index import objects_in
from tasks.diffs.parse import shown
from tasks.errors import Refused

_USAGE: Final = 129
"""The exit code of a git that does not know an option."""

_UNREADABLE: Final = b"error: Could not read "
"""What git (2.39) says where the tree of a commit is missing. It goes on with an empty one, as if all were deleted."""


@dataclass(frozen=True, slots=True)
class Merged:
    tree: str
    conflicts: tuple[str, ...]
    """The files in conflict; empty where git could merge."""


class Conflict(Exception):
    """A commit cannot be put on top of another."""

    def __init__(self, subject: str, files: Sequence[str]) -> None:
        super().__init__(subject)
        self.subject = subject
        self.files = tuple(files)


@contextmanager
def throwaway_objects(repo: Path) -> Iterator[dict[str, str]]:
    """The environment in which git writes objects to a folder that is deleted afterwards."""
    with scratch.folder("objects") as folder:
        yield objects_in(folder, repo)


def merge(repo: Path, ours: str, theirs: str, env: dict[str, str] | None = None) -> Merged:
    """Merges two commits. Raises GitError, for instance where they have no common history."""
    args = ["merge-tree", "--write-tree", "--name-only", "--no-messages", "-z", ours, theirs]
    found = git.run(*args, cwd=repo, env=env, accept=(0, 1, _USAGE))
    if found.code == _USAGE:
        raise Refused("The git on this machine is too old to merge without a worktree: 2.38 is needed.")
    tree, *names = found.stdout.rstrip(b"\0").split(b"\0")
    if _UNREADABLE in found.stderr or not tree or (found.code == 1 and not names):
        said = (
            found.stderr + b"\nThe repository lacks an object, or git may not read it: `git fsck` says which."
        )
        raise git.GitError(["git", *args], found.code, found.stdout, said)
    conflicts = () if found.code == 0 else tuple(dict.fromkeys(shown(os.fsdecode(name)) for name in names))
    return Merged(tree.decode(), conflicts)


def commit(
    repo: Path, tree: str, parents: Sequence[str], message: str, env: dict[str, str] | None = None
) -> str:
    options = [word for parent in parents for word in ("-p", parent)]
    return git.run("commit-tree", tree, *options, cwd=repo, env=env, stdin=message.encode()).text


def picked(repo: Path, change: str, before: str, onto: str, env: dict[str, str]) -> Merged:
    """What the tree `onto` becomes with the difference from the commit `before` to the commit `change`, its child.

    merge-tree takes no base in git 2.39 but finds it: a commit with the tree `onto` and the parent `before` has
    `before` in common with `change`.
    """
    stand_in = commit(repo, onto, [before], "stand-in", env)
    return merge(repo, stand_in, change, env)


def rebased(repo: Path, tip: str, onto: str, env: dict[str, str]) -> str:
    """The commits that `tip` has and `onto` lacks, one after another on top of `onto`; the last one's id.

    As `git rebase` does, leaves out merges, commits that `onto` has in another form, and commits that become
    empty. Raises Conflict.
    """
    args = ["rev-list", "--reverse", "--topo-order", "--no-merges", "--cherry-pick", "--right-only"]
    for change in git.run(*args, f"{onto}...{tip}", cwd=repo).text.split():
        onto = _on_top(repo, change, onto, env)
    return onto


def _on_top(repo: Path, change: str, onto: str, env: dict[str, str]) -> str:
    before = git.commit_of(repo, f"{change}^")
    if before is None:
        raise Conflict("the first commit of an unrelated history", ())
    if before == onto:
        return change
    tree = git.tree_of(repo, onto)
    found = picked(repo, change, before, tree, env)
    if found.conflicts:
        raise Conflict(git.run("show", "-s", "--format=%h %s", change, cwd=repo).text, found.conflicts)
    if found.tree == tree:
        old, new = git.trees_of(repo, before, change)
        if old != new:
            return onto
    return _same_commit(repo, change, found.tree, onto, env)


def _same_commit(repo: Path, change: str, tree: str, parent: str, env: dict[str, str]) -> str:
    """The commit `change` with another tree and parent: its author, date and message, byte for byte."""
    head, _, message = git.run("cat-file", "commit", change, cwd=repo).stdout.partition(b"\n\n")
    fields = dict(line.split(b" ", 1) for line in head.split(b"\n") if b" " in line and line[:1] != b" ")
    author, _, moment = os.fsdecode(fields[b"author"]).rpartition("> ")
    name, _, email = author.rpartition(" <")
    encoding = os.fsdecode(fields.get(b"encoding", b"utf-8"))
    env = env | {"GIT_AUTHOR_NAME": name, "GIT_AUTHOR_EMAIL": email, "GIT_AUTHOR_DATE": f"@{moment}"}
    return git.run(
        "-c",
        f"i18n.commitEncoding={encoding}",
        "commit-tree",
        tree,
        "-p",
        parent,
        cwd=repo,
        env=env,
        stdin=message,
    ).text
