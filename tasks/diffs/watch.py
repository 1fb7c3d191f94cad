"""Which paths of a worktree have changed: inotify on every folder that git does not ignore.

Watches are set before anything is read, and on a new folder before its content is listed, so that no change
falls between. An ignored folder has no watch at all: what goes on in it costs nothing.

Not by way of watchfiles, which is what other systems than Linux get: it drops the kernel's "queue overflow"
without a word, dies of names that are not UTF-8, and cannot leave ignored folders out.
"""

import asyncio
import errno
import os
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from inotify_simple import INotify, flags, parse_events

from tasks import git
from tasks.diffs.index import ignored_among, within

_MASK: Final = (
    flags.CREATE | flags.DELETE | flags.MODIFY | flags.CLOSE_WRITE | flags.ATTRIB | flags.MOVED_FROM
    | flags.MOVED_TO | flags.ONLYDIR | flags.DONT_FOLLOW | flags.EXCL_UNLINK
)  # fmt: skip
RULES: Final = frozenset({".gitignore", ".gitattributes", ".gitmodules"})
GIT_FILES: Final = frozenset({"index", "config", "exclude", "attributes"})
_REFERENCES: Final = frozenset({"HEAD", "packed-refs"})
_READ_BYTES: Final = 32 * 1024
"""Some hundred events: the event loop is free again after a few milliseconds."""
_MANY_FOLDERS: Final = 500
_MOST_IGNORED: Final = 100_000


class Exhausted(OSError):
    """The system has no inotify watches or instances left."""


@dataclass(slots=True)
class Changes:
    paths: set[str] = field(default_factory=set)
    """Files and folders, relative to the worktree."""
    everything: bool = False
    """Something that any path may depend on: the index, a rule of .gitignore, lost events."""
    lost: bool = False
    """Events were lost: folders may have come that nobody told of."""
    refs: bool = False
    """A branch, or which one is checked out."""

    def __bool__(self) -> bool:
        return bool(self.paths or self.everything or self.refs)

    def add(self, later: "Changes") -> None:
        self.paths |= later.paths
        self.everything |= later.everything
        self.lost |= later.lost
        self.refs |= later.refs


class Watcher(Protocol):
    def start(self) -> None:
        """Sets the watches. Blocks; raises Exhausted."""

    def attach(self, on_change: Callable[[], None]) -> None:
        """Begins to call `on_change`, on the running loop, when `take` would give something."""

    def take(self) -> Changes:
        """What has changed since the last call."""

    def settle(self, changes: Changes) -> None:
        """Watches the folders that came with these changes. Blocks; to be called before their state is read."""

    def ignore(self, paths: Collection[str]) -> None:
        """Files that git ignores: their changes are not worth a word until the rules change."""

    def close(self) -> None:
        """Lets all go. May be called again."""


class InotifyWatcher:
    def __init__(self, worktree: Path) -> None:
        self._top = os.fspath(worktree)
        self._git_folder = git.git_folder(worktree)
        self._common = git.common_folder(worktree)
        try:
            self._inotify = INotify(nonblocking=True)
        except OSError as error:
            raise Exhausted(error.errno, "no inotify instance is left") from error
        self._folders: dict[int, str] = {}
        self._watches: dict[str, int] = {}
        self._git: dict[int, str] = {}
        """Watches on folders of git's own: what kind each is, or the path of the repository inside they belong to."""
        self._nested: set[str] = set()
        self._ignored_folders: set[str] = set()
        self._ignored_files: set[str] = set()
        self._pending = Changes()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._on_change: Callable[[], None] = lambda: None
        self._closed = False
        # Between the thread that adds watches and a `close` from the loop.
        self._lock = threading.Lock()

    # --- setting watches, in a thread

    def start(self) -> None:
        self._watch_git()
        self._walk_all(self._find_ignored(None))

    def settle(self, changes: Changes) -> None:
        if changes.refs:
            self._watch_tree_of_git(self._common / "refs/heads")
        if changes.everything:
            self._ignored_files.clear()
            ignored = self._find_ignored(None)
            if changes.lost or ignored != self._ignored_folders:
                self._walk_all(ignored)
        self._settle_folders(changes.paths)

    def _settle_folders(self, paths: Collection[str]) -> None:
        folders = [path for path in paths if _is_folder(os.path.join(self._top, path))]
        if len(folders) > _MANY_FOLDERS:
            self._walk_all(self._find_ignored(None))
        elif folders:
            self._ignored_folders |= self._find_ignored(folders)
            for folder in folders:
                if not within(folder, self._ignored_folders):
                    self._walk(folder)
        self._forget([path for path in paths if path in self._watches and path not in set(folders)])

    def _walk_all(self, ignored: set[str]) -> None:
        self._nested.clear()
        self._forget(ignored & self._watches.keys())
        self._ignored_folders = ignored
        self._walk("")

    def _find_ignored(self, paths: Collection[str] | None) -> set[str]:
        """Ignored folders, the topmost ones."""
        args = ["ls-files", "--others", "--ignored", "--exclude-standard", "--directory", "-z"]
        found = git.run(*args, "--", *(paths or ()), cwd=self._top).stdout.split(b"\0")
        # Among them are folders that only hold ignored files. What comes into those need not be ignored.
        folders = [os.fsdecode(name) for name in found if name.endswith(b"/")]
        return {name[:-1] for name in ignored_among(self._top, folders)}

    def _walk(self, top: str) -> None:
        waiting = [top]
        while waiting:
            folder = waiting.pop()
            if not self._watch(folder):
                continue
            try:
                entries = list(os.scandir(os.path.join(self._top, folder)))
            except OSError:
                continue
            for entry in entries:
                path = f"{folder}/{entry.name}" if folder else entry.name
                if entry.name == ".git":
                    self._watch_nested(folder, entry)
                elif entry.is_dir(follow_symlinks=False) and path not in self._ignored_folders:
                    waiting.append(path)

    def _watch(self, folder: str) -> bool:
        watch = self._add(os.path.join(self._top, folder))
        if watch is None:
            return False
        self._folders[watch] = folder
        self._watches[folder] = watch
        return True

    def _add(self, path: str) -> int | None:
        """None where there is no such folder."""
        with self._lock:
            if self._closed:
                return None
            try:
                return int(self._inotify.add_watch(path, _MASK))
            except OSError as error:
                if error.errno == errno.ENOSPC:
                    raise Exhausted(errno.ENOSPC, "no inotify watch is left") from error
                return None

    def _forget(self, folders: Collection[str]) -> None:
        """Takes back the watches of folders that are gone, or ignored now, and of all in them."""
        gone = set(folders)
        if not gone:
            return
        for path in [path for path in self._watches if within(path, gone)]:
            watch = self._watches.pop(path)
            # A folder that was only renamed has been walked under its new name, and keeps its watch.
            if self._folders.get(watch) == path:
                del self._folders[watch]
                self._remove(watch)

    def _remove(self, watch: int) -> None:
        with self._lock:
            if not self._closed:
                try:
                    self._inotify.rm_watch(watch)
                except OSError as error:
                    if error.errno != errno.EINVAL:  # The kernel was quicker.
                        raise

    def _watch_git(self) -> None:
        for folder in {self._git_folder, self._common, self._common / "info", self._git_folder / "info"}:
            watch = self._add(str(folder))
            if watch is not None:
                self._git[watch] = ""
        self._watch_tree_of_git(self._common / "refs/heads")

    def _watch_tree_of_git(self, top: Path) -> None:
        for folder, _, _ in os.walk(top):
            watch = self._add(folder)
            if watch is not None:
                self._git[watch] = "refs"

    def _watch_nested(self, folder: str, entry: "os.DirEntry[str]") -> None:
        """A repository inside the worktree: all that happens in it concerns the one path it stands at."""
        if not folder:
            return
        self._nested.add(folder)
        place = entry.path
        if not entry.is_dir(follow_symlinks=False):
            try:
                with open(entry.path, encoding="utf-8", errors="surrogateescape") as file:
                    place = os.path.join(self._top, folder, file.read().removeprefix("gitdir:").strip())
            except OSError:
                return
        for name in ("", "logs"):
            watch = self._add(os.path.join(place, name))
            if watch is not None:
                self._git[watch] = f"/{folder}"

    # --- reading events, on the loop

    def attach(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._inotify.fileno(), self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._inotify.fileno(), _READ_BYTES)
        except BlockingIOError:
            return
        for watch, mask, _, name in parse_events(data):
            self._note(watch, mask, name)
        if self._pending:
            self._on_change()

    def _note(self, watch: int, mask: int, name: str) -> None:
        if mask & flags.Q_OVERFLOW:
            self._pending.everything = self._pending.lost = True
        elif mask & flags.IGNORED:
            self._git.pop(watch, None)
            folder = self._folders.pop(watch, None)
            if folder is not None and self._watches.get(folder) == watch:
                del self._watches[folder]
        elif watch in self._git:
            self._note_git(self._git[watch], name)
        elif name and (folder := self._folders.get(watch)) is not None:
            self._note_path(folder, mask, name)

    def _note_git(self, kind: str, name: str) -> None:
        if name.endswith(".lock"):
            return
        if kind.startswith("/"):
            self._pending.paths.add(kind[1:])
        elif kind == "refs" or name in _REFERENCES:
            self._pending.refs = True
        elif name in GIT_FILES:
            self._pending.everything = True

    def _note_path(self, folder: str, mask: int, name: str) -> None:
        path = f"{folder}/{name}" if folder else name
        if mask & flags.ISDIR:
            if mask & (flags.ATTRIB | flags.MODIFY):
                return
        elif path in self._ignored_files:
            return
        if name in RULES:
            self._pending.everything = True
        elif name == ".git":
            self._pending.everything = self._pending.lost = True
        self._pending.paths.add(self._owner(path))

    def _owner(self, path: str) -> str:
        """The path itself, or the repository inside the worktree that it belongs to."""
        if self._nested:
            above = path.rpartition("/")[0]
            while above:
                if above in self._nested:
                    return above
                above = above.rpartition("/")[0]
        return path

    def take(self) -> Changes:
        taken, self._pending = self._pending, Changes()
        return taken

    def ignore(self, paths: Collection[str]) -> None:
        if len(self._ignored_files) + len(paths) > _MOST_IGNORED:
            self._ignored_files.clear()
        self._ignored_files.update(paths)

    def watched(self) -> list[str]:
        """The folders that have a watch, relative to the worktree."""
        return list(self._watches)

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if self._loop is not None and not self._loop.is_closed():
                self._loop.remove_reader(self._inotify.fileno())
            self._inotify.close()


def _is_folder(path: str) -> bool:
    return os.path.isdir(path) and not os.path.islink(path)
