"""Bringing the files of a worktree from one tree to another, without ever losing what somebody changed there.

The index is locked meanwhile, so that no other git interferes. The files go first; the references and the index
follow only when all of them are there, and until then everything can be put back (`restore`).
"""

import os
import re
import shutil
import stat
from contextlib import ExitStack
from pathlib import Path, PurePath
from typing import Final

from tasks import git, scratch
from tasks.diffs.parse import shown
from tasks.errors import Refused
from tasks.finishing.journal import FileUpdate

_MARK: Final = "vibe "
_UNDER_WAY: Final = {
    "MERGE_HEAD": "a merge", "CHERRY_PICK_HEAD": "a cherry-pick", "REVERT_HEAD": "a revert",
    "rebase-merge": "a rebase", "rebase-apply": "a rebase",
}  # fmt: skip
_GITLINK: Final = "160000"
_Difference = tuple[str, tuple[str, str], tuple[str, str]]
"""Path, and mode and blob in both trees; an empty blob where a tree has no such file."""
_MOST_NAMES: Final = 200
"""In one question to git: the kernel limits how long a command may be."""
_IN_THE_WAY: Final = re.compile("(?:Entry|Updating|file) '(.+)'")


def check_quiet(folder: Path) -> None:
    """Refused (409) where a merge, a rebase or the like waits to be ended in this worktree."""
    place = git.git_folder(folder)
    for name, what in _UNDER_WAY.items():
        if (place / name).exists():
            raise Refused(f"In {folder} {what} is under way: finish or abort it there first.")


def check_not_rebased(folder: Path, ref: str) -> None:
    """Refused (409) where the branch is off for a rebase or a bisection in this worktree, to come back at its end."""
    place = git.git_folder(folder)
    names = {ref, ref.removeprefix("refs/heads/")}
    for name in ("rebase-merge/head-name", "rebase-apply/head-name", "BISECT_START"):
        file = place / name
        if file.exists() and os.fsdecode(file.read_bytes()).strip() in names:
            what = "bisection" if name == "BISECT_START" else "rebase"
            raise Refused(f"In {folder} a {what} of the branch is under way: finish or abort it there first.")


def check_clean(folder: Path) -> None:
    """Refused (409) with the files where tracked files have changes that are not committed."""
    # A merge leaves submodules where they are, as git's own does, and what they are on is never overwritten.
    options = ["--untracked-files=no", "--no-renames", "--ignore-submodules=all"]
    found = git.run("status", "--porcelain", "-z", *options, cwd=folder).stdout
    changed = [shown(os.fsdecode(line[3:])) for line in found.split(b"\0") if line]
    if changed:
        raise Refused(
            f"The branch is checked out in {folder}, where {len(changed)} files have changes that are not "
            "committed. Commit or stash them first: nothing was changed.",
            files=changed,
        )


def check_submodules(update: FileUpdate) -> None:
    """Refused (409) where a submodule is checked out that would have to move: git leaves it where it is, and what it is
    on then would be taken for work, which takes the new commit back."""
    folder = Path(update.folder)
    for path, old, new in _differences(folder, update):
        if old[0] == _GITLINK and _is_checked_out(folder / path):
            first = f"git fetch and git checkout {new[1]} in it" if new[0] == _GITLINK else "delete it"
            raise Refused(
                f"The submodule {shown(path)} is checked out in {folder}, where git would leave it as it is. First do "
                f"there what the target branch did: {first}. Nothing was changed.",
                files=[shown(path)],
            )


class Checkout:
    """One update of one worktree. `advance`, then move the references, then `finish`; or `give_up`."""

    def __init__(self, folder: Path, holder: str) -> None:
        self.folder = folder
        self._index = git.git_folder(folder) / "index"
        self._lock = self._index.with_name("index.lock")
        self._mark = f"{_MARK}{holder}\n"
        self._held = ExitStack()
        self._place = self._held.enter_context(scratch.folder("index"))
        self.env = {"GIT_INDEX_FILE": str(self._place / "index")}
        self._locked = False
        self.advanced = False
        """Whether files may have been changed."""

    def lock(self) -> None:
        """Refused (409) where git is at work in the worktree."""
        beside = self._index.with_name(f"index.{self._place.name}")
        beside.write_text(self._mark)
        try:
            # Linked, not written: a lock without our mark in it could not be told from that of a git at work.
            os.link(beside, self._lock)
        except FileExistsError:
            raise Refused(
                f"The index is locked: another git is at work in {self.folder}. If none is, it was cut off: "
                f"remove {self._lock}"
            ) from None
        finally:
            beside.unlink()
        self._hold()

    def _hold(self) -> None:
        self._locked = True
        if self._index.exists():
            shutil.copy2(self._index, self.env["GIT_INDEX_FILE"])

    def check(self, update: FileUpdate) -> None:
        """Refused (409) where a file that git does not track would be overwritten. Changes nothing."""
        git.run("update-index", "-q", "--refresh", cwd=self.folder, env=self.env, accept=(0, 1))
        try:
            self._read_tree("-n", update.from_tree, update.to_tree)
        except git.GitError as error:
            said = f"git will not change the files in {self.folder}: {error.reason}"
            raise Refused(said, files=_IN_THE_WAY.findall(error.stderr)) from error
        differences = _differences(self.folder, update)
        # Git replaces a submodule by a file whatever somebody has changed in it.
        replaced = [
            path for path, old, new in differences
            if old[0] == _GITLINK and new[0] not in ("", _GITLINK) and _is_checked_out(self.folder / path)
        ]  # fmt: skip
        if replaced:
            raise Refused(
                f"Submodules in {self.folder} would be overwritten. Move them away first: nothing was changed.",
                files=[shown(path) for path in replaced],
            )
        # Git takes what it ignores to be of no worth: a file with secrets, for instance.
        if ignored := self._ignored_in_the_way(differences):
            raise Refused(
                f"Files in {self.folder} that git ignores would be overwritten. Move them away first: "
                "nothing was changed.",
                files=[shown(path) for path in ignored],
            )

    def _ignored_in_the_way(self, differences: list[_Difference]) -> list[str]:
        added = [path for path, old, new in differences if new[1] and not old[1]]
        places = sorted({place for path in added for place in _in_the_way(self.folder, path)})
        args = ["ls-files", "--others", "--ignored", "--exclude-standard", "-z", "--"]
        found: list[str] = []
        for start in range(0, len(places), _MOST_NAMES):
            some = places[start : start + _MOST_NAMES]
            listed = git.run(*args, *some, cwd=self.folder, env=self.env).stdout.split(b"\0")
            found += [os.fsdecode(name) for name in listed if name]
        return found

    def advance(self, update: FileUpdate) -> None:
        """Changes the files. Raises GitError, and may then have changed some."""
        self.advanced = True
        self._read_tree("-u", update.from_tree, update.to_tree)

    def _read_tree(self, option: str, from_tree: str, to_tree: str) -> None:
        options = ["-u", "-n"] if option == "-n" else [option]
        git.run("read-tree", "-m", *options, from_tree, to_tree, cwd=self.folder, env=self.env)

    def finish(self, update: FileUpdate) -> None:
        """Puts the new index in place and ends the lock."""
        if update.index_tree != update.to_tree:
            git.run("read-tree", "--reset", update.index_tree, cwd=self.folder, env=self.env)
        git.run("update-index", "-q", "--refresh", cwd=self.folder, env=self.env, accept=(0, 1))
        beside = self._index.with_name("index.vibe")
        shutil.copyfile(self.env["GIT_INDEX_FILE"], beside)
        os.replace(beside, self._index)
        self.give_up()

    def give_up(self) -> None:
        """Ends the lock and leaves the index as it is."""
        if self._locked:
            self._lock.unlink(missing_ok=True)
            self._locked = False

    def leave(self) -> None:
        """Lets the lock stay, for `take_over`."""
        self._locked = False

    def close(self) -> None:
        self.give_up()
        self._held.close()

    def take_over(self) -> bool:
        """Goes on with the lock that a cut-off operation of the same holder left; False where it left none:
        then it had not begun with the files, or had ended with them.
        """
        try:
            if self._lock.read_text(errors="replace") != self._mark:
                return False
        except FileNotFoundError:
            return False
        self._hold()
        return True

    def reset_to(self, update: FileUpdate) -> None:
        """Makes the checkout's index hold the new state, when the files have it already."""
        git.run("read-tree", "--reset", update.to_tree, cwd=self.folder, env=self.env)


def restore(folder: Path, update: FileUpdate) -> None:
    """Puts back what a cut-off `advance` has changed: files that hold the new state, or the beginning of it.

    Whatever else lies there is somebody's work and stays.
    """
    with scratch.folder("index") as place:
        env = {"GIT_INDEX_FILE": str(place / "index")}
        git.run("read-tree", update.from_tree, cwd=folder, env=env)
        wanted = []
        # What was added goes first: it may stand where a folder belongs.
        for path, old, new in sorted(
            _differences(folder, update), key=lambda difference: bool(difference[1][1])
        ):
            if _GITLINK not in (old[0], new[0]) and _is_ours(folder, path, new):
                _remove(folder, path)
                wanted += [os.fsencode(path)] if old[1] else []
        given = b"".join(path + b"\0" for path in wanted)
        git.run("checkout-index", "-f", "-z", "--stdin", cwd=folder, env=env, stdin=given)


def _in_the_way(folder: Path, path: str) -> list[str]:
    """What stands where a new file is to come, or where a folder above it is."""
    names = [path, *(str(above) for above in PurePath(path).parents)][:-1]
    return [
        name
        for name in names
        if os.path.lexists(folder / name) and (name == path or not _is_real_folder(folder / name))
    ]


def _is_real_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _is_checked_out(submodule: Path) -> bool:
    return submodule.joinpath(".git").exists()


def _differences(folder: Path, update: FileUpdate) -> list[_Difference]:
    args = ["diff-tree", "-r", "-z", "--no-renames", "--no-ext-diff", "--raw", "--no-abbrev"]
    fields = git.run(*args, update.from_tree, update.to_tree, cwd=folder).stdout.split(b"\0")
    found = []
    for head, name in zip(fields[0::2], fields[1::2], strict=False):
        modes_and_blobs = head.decode().lstrip(":").split(" ")[:4]
        old_mode, new_mode, old, new = ("" if not word.strip("0") else word for word in modes_and_blobs)
        found.append((os.fsdecode(name), (old_mode, old), (new_mode, new)))
    return found


def _is_ours(folder: Path, path: str, new: tuple[str, str]) -> bool:
    """Whether the file is as the update would leave it, or a part of that: gone, or the beginning of its content."""
    file = folder / path
    try:
        kind = os.lstat(file).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return True
    if not new[1]:
        return False  # The update would have removed it, and it is there: it was not reached.
    content = git.run("cat-file", "--filters", f"--path={path}", new[1], cwd=folder).stdout
    if stat.S_ISLNK(kind):
        return os.fsencode(os.readlink(file)) == content
    return stat.S_ISREG(kind) and content.startswith(file.read_bytes())


def _remove(folder: Path, path: str) -> None:
    file = folder / path
    file.unlink(missing_ok=True)
    for above in file.parents:
        if above == folder or not above.is_dir() or any(above.iterdir()):
            return
        above.rmdir()


def settle_index(folder: Path) -> None:
    """Lets the index follow the branch where the files are right already. Another git at work may do it instead."""
    git.run("reset", "--quiet", "--mixed", cwd=folder, accept=(0, 1, 128))
