"""The folder and branch of an attempt: made whole or not at all, and removed without losing work."""

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.utils.text import slugify

from tasks import git, identity, snapshots
from tasks.errors import Refused
from tasks.models import Project, TaskAttempt

KEPT_REFS: Final = "refs/vibe/kept/"
MERGED_REFS: Final = "refs/vibe/merged/"


@dataclass(frozen=True, slots=True)
class Created:
    path: Path
    branch: str
    base_commit: str
    notes: tuple[str, ...]
    """What was not copied, and why, for the run's log."""


def folder_of(attempt_id: UUID) -> Path:
    return Path(settings.VIBE_DATA) / "worktrees" / str(attempt_id)


def existing(worktree: str | None) -> Path | None:
    """The folder, if it is a worktree still: where its `.git` is gone, git takes a repository around it instead, and
    where a folder took its place, that is a repository of its own."""
    folder = Path(worktree) if worktree else None
    return folder if folder is not None and folder.joinpath(".git").is_file() else None


def what_is_gone(attempt: TaskAttempt) -> str:
    """What a person is told of a worktree that does not exist any more; empty where it does, or never did."""
    if attempt.worktree is None or existing(attempt.worktree):
        return ""
    what, rest = "it", ""
    if os.path.isdir(attempt.worktree):
        what, rest = "its .git", " What lies in its folder is then moved to VIBE_DATA/kept."
    return (
        f"The worktree {attempt.worktree} is gone: somebody deleted {what}. Only what was committed to its branch "
        f"{attempt.branch} is left. Start a new attempt, or discard this one.{rest}"
    )


def branch_of(attempt_id: UUID, title: str) -> str:
    return f"vibe/{attempt_id.hex[:8]}-{slugify(title)[:40].strip('-_') or 'task'}"


def create(project: Project, attempt_id: UUID, title: str, target_branch: str) -> Created:
    """A new branch from `target_branch` in a new worktree. Raises Refused, and then has left nothing behind.

    What an earlier call for the same attempt left when the server was killed in its middle is removed first.
    """
    repo = git.check_folder(project.repo_path, settings.VIBE_REPO_ROOTS)
    path, branch = folder_of(attempt_id), branch_of(attempt_id, title)
    base, tip = git.branch_commits(repo, target_branch, branch)
    if base is None:
        git.check_repository(project.repo_path, settings.VIBE_REPO_ROOTS)  # which may know more
        raise Refused(f"The repository {repo} has no branch {target_branch!r}.", 422)
    _clear_leftovers(repo, path, branch, tip, base)
    with _undone_on_failure(repo, path, branch):
        _add(repo, path, branch, base)
        notes = copy_files(repo, path, project.copy_files)
    return Created(path, branch, base, tuple(notes))


def _add(repo: Path, path: Path, branch: str, base: str) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        git.run("worktree", "add", "--quiet", "--no-track", "-b", branch, "--", path, base, cwd=repo)
    except git.GitError as error:
        raise Refused(_why_not(repo, branch, error), 409) from error


def _why_not(repo: Path, branch: str, error: git.GitError) -> str:
    above = branch.partition("/")[0]
    if git.branch_commit(repo, above):
        return f"The repository has a branch called {above!r}, so git can make none called {branch!r}: rename it."
    return f"git cannot make the worktree: {error.reason}"


def _clear_leftovers(repo: Path, path: Path, branch: str, tip: str | None, base: str) -> None:
    if tip is None and not path.exists():
        return
    if tip is not None and not git.is_ancestor(repo, tip, base):
        raise Refused(f"There is a branch {branch} with commits of its own already.", 409)
    if path.exists() and not path.is_dir():
        raise Refused(f"{path} is in the way: it is no folder.", 409)
    _undo(repo, path, branch)


@contextmanager
def _undone_on_failure(repo: Path, path: Path, branch: str) -> Iterator[None]:
    try:
        yield
    except BaseException:
        _undo(repo, path, branch)
        raise


def _undo(repo: Path, path: Path, branch: str) -> None:
    remove(repo, path)
    git.run("update-ref", "-d", f"refs/heads/{branch}", cwd=repo, accept=(0, 1, 128))


def remove(repo: str | Path, path: str | Path) -> None:
    """Removes the folder and git's note of it, also where one of them is gone already. The branch stays."""
    path = Path(path)
    # Twice --force: also where the worktree is locked. Not `worktree prune`, which would forget other
    # people's worktrees too, such as those on a disk that is not mounted now.
    # 255: a folder in it is read-only.
    command = ("worktree", "remove", "--force", "--force", "--", path)
    git.run(*command, cwd=repo, accept=(0, 128, 255))
    if path.exists():
        delete_folder(path)
        git.run(*command, cwd=repo, accept=(0, 128))


def delete_folder(path: Path) -> None:
    """Deletes a folder with all in it, read-only folders included (package caches make such)."""

    def make_writable(delete: Callable[..., Any], name: str, _: Any) -> None:
        if os.path.lexists(name):
            os.chmod(os.path.dirname(name), stat.S_IRWXU)
            if not os.path.islink(name):
                os.chmod(name, stat.S_IRWXU)
            if os.path.isdir(name) and not os.path.islink(name):
                shutil.rmtree(name)
            else:
                os.unlink(name)

    shutil.rmtree(path, onerror=make_writable)


def kept_ref(attempt_id: UUID) -> str:
    return f"{KEPT_REFS}{attempt_id}"


def merged_ref(attempt_id: UUID) -> str:
    """Holds the last commit of a merged attempt, so that its diff can still be shown."""
    return f"{MERGED_REFS}{attempt_id}"


def keep_work(repo: Path, path: Path, attempt_id: UUID, *, branch: str = "") -> str | None:
    """Keeps all that the worktree holds, committed, staged or not, untracked files included, under
    `refs/vibe/kept/<attempt>`.

    Returns the reference; None where the worktree holds nothing that another reference does not hold.
    """
    taken, env = snapshots.take(path), identity.environment(path)
    staged = snapshots.staged_alone(path, taken, env)
    if not taken.dirty and not staged and (not taken.head or git.is_held(repo, taken.head)):
        return None
    # A commit of its own also where there is one already: its date says how long it has been kept.
    parents = [word for parent in (taken.head, staged) if parent for word in ("-p", parent)]
    message = f"Work kept from {branch or path.name}".encode()
    commit = git.run("commit-tree", taken.tree, *parents, cwd=path, stdin=message, env=env).text
    ref = kept_ref(attempt_id)
    git.run("update-ref", "-m", "vibe: keep work", ref, commit, cwd=repo)
    return ref


def copy_files(repo: Path, path: Path, patterns: str) -> list[str]:
    """Copies what the patterns name (one a line, relative to the repository) into the worktree.

    Only files that lie in the repository, whatever links say, and none over a file that is there. Returns
    a line for each that was not copied.
    """
    notes = []
    for pattern in filter(None, (line.strip() for line in patterns.splitlines())):
        if pattern.startswith("#"):
            continue
        if os.path.isabs(pattern) or {"..", ".git"} & set(Path(pattern).parts):
            notes.append(
                f"Not copied: {pattern} (only paths inside the repository are, and none of git's own)"
            )
            continue
        try:
            found = [file for match in sorted(repo.glob(pattern.rstrip("/"))) for file in _files(match)]
        except (ValueError, IndexError) as error:  # the latter of "."
            notes.append(f"Not copied: {pattern} (it is no pattern: {error})")
            continue
        if not found:
            notes.append(f"Not copied: {pattern} (there is no such file)")
        notes += [note for file in found if (note := _copy(repo, file, path))]
    return notes


def _files(match: Path) -> Iterator[Path]:
    if match.is_dir() and not match.is_symlink():
        for folder, folders, names in os.walk(match):
            folders[:] = [name for name in folders if name != ".git"]
            yield from (Path(folder, name) for name in names)
    elif match.name != ".git":
        yield match


def _copy(repo: Path, source: Path, worktree: Path) -> str | None:
    name = source.relative_to(repo)
    goal = worktree / name
    if ".git" in name.parts:
        return f"Not copied: {name} (it belongs to git)"
    real = source.resolve()
    if not real.is_file() or not real.is_relative_to(repo):
        return f"Not copied: {name} (it is no file inside the repository)"
    if os.path.lexists(goal):
        return None
    if not goal.parent.resolve().is_relative_to(worktree.resolve()):
        return f"Not copied: {name} (a link leads it out of the worktree)"
    try:
        goal.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(real, goal)
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        return f"Not copied: {name} ({error.strerror})"
    return None
