"""Watching a worktree where there is no inotify: through watchfiles, or by looking again and again."""

import asyncio
import os
import threading
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

from watchfiles import watch

from tasks import git, snapshots
from tasks.diffs.watch import GIT_FILES, RULES, Changes

LEAST_PAUSE: Final = 1.0
"""Seconds between two looks at a worktree that cannot be watched."""


class PollingWatcher:
    """Says again and again that everything may have changed, the more slowly the more a look costs (`pause`)."""

    def __init__(self) -> None:
        self.pause = LEAST_PAUSE
        self._timer: asyncio.TimerHandle | None = None
        self._on_change: Callable[[], None] = lambda: None
        self._due = False

    def start(self) -> None:
        """There is nothing to set."""

    def attach(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._timer = asyncio.get_running_loop().call_later(self.pause, self._tick)

    def _tick(self) -> None:
        self._due = True
        self._on_change()

    def take(self) -> Changes:
        if self._due and self._timer is not None:
            self._due = False
            self._timer = asyncio.get_running_loop().call_later(self.pause, self._tick)
            return Changes(everything=True, refs=True)
        return Changes()

    def settle(self, changes: Changes) -> None:
        """Nothing is watched."""

    def ignore(self, paths: Collection[str]) -> None:
        """Nothing is watched."""

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class WatchfilesWatcher:
    """File events of the system through watchfiles, in one thread. Ignored folders are watched too."""

    def __init__(self, worktree: Path) -> None:
        self._top = os.fspath(worktree.resolve())
        self._places = [str(git.git_folder(worktree).resolve()), str(git.common_folder(worktree).resolve())]
        self._ignored: set[str] = set()
        self._nested: set[str] = set()
        self._pending = Changes()
        self._stop = threading.Event()
        self._watching = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._on_change: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=self._run, name="diff-watch", daemon=True)

    def start(self) -> None:
        self._find_nested()
        self._thread.start()
        self._watching.wait(30)

    def _run(self) -> None:
        refs = [place for place in (f"{self._places[1]}/refs/heads",) if os.path.isdir(place)]
        while not self._stop.is_set():
            events = watch(
                self._top,
                *self._places,
                *refs,
                watch_filter=None,
                debounce=50,
                step=10,
                rust_timeout=50,
                yield_on_timeout=True,
                stop_event=self._stop,
                raise_interrupt=False,
            )
            try:
                for found in events:
                    self._watching.set()
                    if found:
                        self._tell([path for _, path in found])
            except (RuntimeError, FileNotFoundError):
                # A name that is not UTF-8, or a folder that is gone: what exactly, nobody knows.
                self._tell([f"{self._top}/.git"])
                self._stop.wait(0.2)

    def _tell(self, paths: list[str]) -> None:
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._note, paths)

    def _note(self, paths: list[str]) -> None:
        for path in paths:
            place = next((place for place in self._places if path.startswith(f"{place}/")), None)
            if place is not None:
                self._note_git(path, path.removeprefix(f"{place}/"))
            elif path.startswith(f"{self._top}/"):
                self._note_path(path.removeprefix(f"{self._top}/"))
        if self._pending:
            self._on_change()

    def _note_git(self, path: str, name: str) -> None:
        if name == "HEAD" or name.startswith("refs/heads/") or name == "packed-refs":
            self._pending.refs = True
        elif os.path.basename(path) in GIT_FILES:
            self._pending.everything = True

    def _note_path(self, name: str) -> None:
        inner, inside, _ = f"{name}/".partition("/.git/")
        if inside:
            self._nested.add(inner)
        base = os.path.basename(name)
        if base in RULES or base == ".git":
            self._pending.everything = True
        if name not in self._ignored:
            self._pending.paths.add(next((top for top in self._nested if name.startswith(f"{top}/")), name))

    def _find_nested(self) -> None:
        """Repositories inside the worktree: what changes in one concerns the path it stands at."""
        listed = git.run("ls-files", "--stage", "-z", cwd=self._top).stdout.split(b"\0")
        links = {os.fsdecode(line.partition(b"\t")[2]) for line in listed if line.startswith(b"160000 ")}
        self._nested = links | set(snapshots.embedded(Path(self._top)))

    def attach(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._loop = asyncio.get_running_loop()

    def take(self) -> Changes:
        taken, self._pending = self._pending, Changes()
        return taken

    def settle(self, changes: Changes) -> None:
        if changes.everything:
            self._ignored.clear()
            self._find_nested()

    def ignore(self, paths: Collection[str]) -> None:
        self._ignored.update(paths)

    def close(self) -> None:
        self._stop.set()
