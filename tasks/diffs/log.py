"""DiffLog: the stream of one attempt's diff, and what feeds it while somebody reads.

One a process and attempt, however many read. It is fed by one task: watch, then read the first state, then wait
for changes, let them gather for a moment, and ask git about what changed. When the attempt has ended its last
state follows, and then `finished`.
"""

import asyncio
import contextlib
import logging
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError

from events import sse
from events.logs import Reader
from events.messages import FileDiff
from events.store import Batch
from tasks import git, scratch
from tasks.diffs import live, source
from tasks.diffs.parse import UnexpectedOutput
from tasks.diffs.records import LatestStore, Place, Records
from tasks.diffs.tracker import Limits, Tracker
from tasks.diffs.watch import Changes, Exhausted, InotifyWatcher, Watcher
from tasks.diffs.watch_others import LEAST_PAUSE, PollingWatcher, WatchfilesWatcher
from tasks.finishing import journal, standing

logger = logging.getLogger("tasks")

DEBOUNCE_SECONDS: Final = 0.15
RECHECK_SECONDS: Final = 5.0
"""How soon a change of the attempt's record made by another process is noticed, at the latest."""
RETRY_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 2.0
STATUS_SECONDS: Final = 1.0
LONGEST_STATUS_PAUSE: Final = 60.0
OPERATION_PAUSE: Final = 0.05
OPERATION_LOOKS: Final = 200
"""How often it is looked whether a merge, rebase or discard has ended, before its middle is shown all the same."""
GIT_SECONDS = 60.0
"""How long git may take where it may run a program of the user's, such as a filter, that perhaps never ends."""
_PLAIN: Final = (
    "Git took longer than {:g} s and was stopped. The diff is now read without the filters that the repository is "
    "configured with, and without changes inside of submodules: files with a filter may look changed."
)
PROGRESS_STEP: Final = 100
"""Files of a first state after which its progress is told again."""

_threads: Final = ThreadPoolExecutor(max_workers=4, thread_name_prefix="diffs")
T = TypeVar("T")


def limits() -> Limits:
    """One file's diff may be as large as a message may be, all together as large as a stream's buffer."""
    return Limits(settings.EVENTS_MAX_MESSAGE_BYTES, settings.EVENTS_BUFFER_BYTES)


def state_folder() -> Path:
    return Path(settings.VIBE_DATA) / "diffs"


def saved_state(attempt_id: UUID) -> Path:
    return state_folder() / f"{attempt_id}.json"


class DiffLog:
    def __init__(self, key: str) -> None:
        self.attempt_id = UUID(key)
        short = self.attempt_id.hex[:8]
        self.store = LatestStore(f"diff:{key}")
        self.records = Records(short, self.store)
        self.origin = self.records.origin
        self.end = f"{short}.end"
        self.watcher: Watcher | None = None
        self.gone = asyncio.Event()
        """Closed: what it knew is saved."""
        self._complete = asyncio.Event()
        """The first state is there."""
        self._finished = False
        self._poked = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._job: asyncio.Future[Any] | None = None
        self._restored = False
        self._plain = False
        """A program of the user's took too long: git runs none any more."""
        self._record_changed = False
        self._shown: source.Source | None = None
        self._status_due = asyncio.Event()
        self._failures: set[str] = set()
        """Those that the server's log has been told of."""

    # --- for the engine

    async def opened(self) -> None:
        await live.enter(self)
        self._restored = await self._in_thread(self.records.restore, saved_state(self.attempt_id))
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._feed()), loop.create_task(self._tell_status())]
        for task in self._tasks:
            task.add_done_callback(self._report)

    async def closed(self) -> None:
        try:
            if running := [task for task in self._tasks if task.cancel()]:
                await asyncio.wait(running)
            if self._job is not None and not self._job.done():
                await asyncio.wait([self._job])
            if self._complete.is_set() and not self._finished:
                await self._in_thread(self.records.save, saved_state(self.attempt_id))
        finally:
            live.leave(self)

    async def is_over(self, cursor: str) -> bool:
        if cursor != self.end:
            return False
        found = await self._in_thread(source.load, self.attempt_id)
        return found is None or found.ended

    async def start(self, cursor: str | None, reader: Reader) -> Batch:
        if self._restored:
            # What was sent before the server's last stop is still being compared with what is now.
            await self._complete.wait()
        if cursor is None or cursor == self.origin:
            return await self.read(Place(0, began=self.records.last).position, reader)
        number = self.records.number_of(cursor)
        if number is not None:
            return await self.read(Place(number).position, reader)
        found = await self.read(Place(0, began=self.records.last).position, reader)
        return found._replace(data=sse.reset("The cursor is not known here.", self.origin) + found.data)

    async def read(self, position: int, reader: Reader) -> Batch:
        place = Place.at(position)
        complete = self._complete.is_set()
        finished = self._finished
        data, place = self.records.after(place, extras="status" in reader.parameters)
        if place.number < self.records.last:
            return Batch(data, place.position)
        if complete and not place.told:
            place = place._replace(told=True)
            data += sse.frame(b"{}", self.records.cursor(place.number), "ready")
        if finished and place.told:
            return Batch(data + sse.frame(b"{}", self.end, "finished"), place.position, finished=True)
        return Batch(data, place.position)

    def poke(self) -> None:
        """The attempt's record has changed: look at it. On the loop."""
        self._record_changed = True
        self._poked.set()

    def _report(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("The diff of attempt %s is no longer followed", self.attempt_id, exc_info=error)
            self._note("The diff is no longer followed: the server's log says why.", "error")

    # --- feeding

    async def _feed(self) -> None:
        problem = ""
        while not self._finished:
            self._poked.clear()
            try:
                await self._feed_from(await self._current())
                problem = ""
            except git.TookTooLong as error:
                logger.warning("The diff of attempt %s: %s", self.attempt_id, error)
                if self._plain:
                    self._note_failure(error)
                    await self._wait(git.TIMEOUT_SECONDS)
                self._plain = True
            except (git.GitError, OSError, UnexpectedOutput, DatabaseError) as error:
                # The first time it may be a file that went away while git was reading it.
                await self._wait(RETRY_SECONDS if str(error) == problem else DEBOUNCE_SECONDS)
                if str(error) == problem:
                    self._note_failure(error)
                problem = str(error)

    async def _feed_from(self, found: "source.Source | None") -> None:
        if found is None or found.ended:
            await self._end(found)
        elif found.tip or not found.base:
            # No worktree (yet): it may come at any moment.
            await self._show(found)
            await self._wait(RETRY_SECONDS)
        else:
            await self._follow(found)

    async def _end(self, found: "source.Source | None") -> None:
        if found is not None:
            await self._show(found)
        self._finished = True
        self._set_complete()
        self.records.settle()

    async def _show(self, found: source.Source) -> None:
        """The state of an attempt without a worktree: what its commits say."""
        if found != self._shown:
            self._note(found.note)
            if found.base:
                tracker = Tracker(found.folder, found.base, limits(), tip=found.tip)
                await self._in_thread(self._replace_all, tracker)
            self._shown = found
            self._status_due.set()
        self._set_complete()

    async def _follow(self, found: source.Source) -> None:
        """Keeps up with a worktree until the attempt's record says that it is no longer the one to follow."""
        self._shown = found
        self._status_due.set()
        with contextlib.ExitStack() as held:
            watcher = await self._watching(found.folder)
            try:
                watcher.attach(self._poked.set)
                tracker = await self._in_thread(self._tracker, found, held)
                await self._in_thread(self._replace_all, tracker)
                self._set_complete()
                await self._keep_up(watcher, tracker, found)
            finally:
                watcher.close()
                if self.watcher is not None:
                    self.watcher.close()
                self.watcher = None
                if self._job is not None and not self._job.done():
                    await asyncio.wait([self._job])

    def _tracker(self, found: source.Source, held: contextlib.ExitStack) -> Tracker:
        index_file = held.enter_context(scratch.folder("diff")) / "index"
        return Tracker(found.folder, found.base, limits(), index_file=index_file, plain=self._plain)

    async def _watching(self, folder: Path) -> Watcher:
        try:
            self.watcher = await self._in_thread(self._watch, folder)
        except asyncio.CancelledError:
            # The thread goes on; what it opens is closed.
            if self._job is not None:
                await asyncio.wait([self._job])
                if self._job.exception() is None:
                    self._job.result().close()
            raise
        return self.watcher

    def _watch(self, folder: Path) -> Watcher:
        try:
            watcher: Watcher = (
                InotifyWatcher(folder) if sys.platform == "linux" else WatchfilesWatcher(folder)
            )
            try:
                watcher.start()
            except BaseException:
                watcher.close()
                raise
        except Exhausted as error:
            self._note_polling(error)
            return PollingWatcher()
        self._note(_PLAIN.format(GIT_SECONDS) if self._plain else "")
        return watcher

    async def _keep_up(self, watcher: Watcher, tracker: Tracker, found: source.Source) -> None:
        looked = time.monotonic()
        cost = rest_until = 0.0
        while True:
            await self._wait(RECHECK_SECONDS)
            # From the first change on, not from the last: what never rests is shown too.
            due = max(time.monotonic() + DEBOUNCE_SECONDS, rest_until)
            self._poked.clear()
            changes = watcher.take()
            await self._in_thread(_foresee, tracker, changes)
            await asyncio.sleep(due - time.monotonic())
            self._poked.clear()
            began = time.monotonic()
            changes.add(watcher.take())
            watcher = await self._settle(watcher, changes)
            records = await self._in_thread(_ask, tracker, changes)
            watcher.ignore(tracker.ignored)
            before, cost = cost, time.monotonic() - began
            # Where one look after another takes long, looking takes half of the time at most.
            rest_until = began + cost + min(before, cost, LONGEST_PAUSE_SECONDS)
            if isinstance(watcher, PollingWatcher):
                watcher.pause = max(LEAST_PAUSE, 10 * cost)
            if changes or self._record_changed or began - looked > RECHECK_SECONDS:
                self._record_changed = False
                looked = began
                self._status_due.set()
                # Asked after the files were read: what an operation of the board did to them belongs to a new base.
                if await self._current() != found:
                    return
                await self._in_thread(self._publish, records)

    async def _settle(self, watcher: Watcher, changes: Changes) -> Watcher:
        """Watches what has come; returns the watcher to go on with."""
        try:
            await self._in_thread(watcher.settle, changes)
        except Exhausted as error:
            watcher.close()
            self._note_polling(error)
            self.watcher = watcher = PollingWatcher()
            watcher.attach(self._poked.set)
            changes.everything = True
        return watcher

    async def _current(self) -> source.Source | None:
        """What the record says, as soon as no operation of the board is in its middle."""
        for _ in range(OPERATION_LOOKS):
            if not await self._in_thread(journal.under_way, self.attempt_id):
                break
            await asyncio.sleep(OPERATION_PAUSE)
        return await self._in_thread(source.load, self.attempt_id)

    # --- publishing, in a thread

    def _publish(self, records: list[FileDiff]) -> None:
        for record in records:
            self.records.put(record)

    def _replace_all(self, tracker: Tracker) -> None:
        """The first state of a tracker. Files of the state before that do not differ any more are reverted."""
        before = set(self.records.files())
        for done, record in enumerate(tracker.update()):
            before.discard(record.file)
            self.records.put(record)
            if done % PROGRESS_STEP == 0 and tracker.announced > PROGRESS_STEP:
                self.records.put_event("progress", {"done": done + 1, "total": tracker.announced})
        for file in sorted(before):
            self.records.put(FileDiff(file, "", "reverted"))
        self.records.drop_event("progress")

    async def _tell_status(self) -> None:
        """Ahead, behind, conflicts: whenever they may have changed, but not at every stroke of a key."""
        loop = asyncio.get_running_loop()
        while True:
            await self._status_due.wait()
            self._status_due.clear()
            began = time.monotonic()
            status = await loop.run_in_executor(
                _threads, _within, GIT_SECONDS, standing.status_of, self.attempt_id
            )
            if status is not None:
                self.records.put_event("status", status)
            # Asks git about the whole worktree: where that takes long, it is done rarely.
            rest = min(10 * (time.monotonic() - began), LONGEST_STATUS_PAUSE)
            await asyncio.sleep(max(STATUS_SECONDS, rest))

    # --- small things

    def _set_complete(self) -> None:
        if not self._complete.is_set():
            self._complete.set()
            self.records.settle()

    def _note(self, message: str, level: str = "warning") -> None:
        """An empty message takes the one before back."""
        if message or self.records.has_event("note"):
            self.records.put_event("note", {"level": level, "message": message}, extra=False)

    def _note_failure(self, error: Exception) -> None:
        reason = error.reason if isinstance(error, git.GitError) else str(error)
        if reason not in self._failures:
            self._failures.add(reason)
            logger.warning("The diff of attempt %s cannot be read: %s", self.attempt_id, error)
        self._note(f"The diff cannot be read: {reason}", "error")
        self._set_complete()

    def _note_polling(self, error: Exhausted) -> None:
        logger.warning("Attempt %s is polled: %s", self.attempt_id, error)
        self._note(
            f"This system cannot watch more files ({error.strerror}), so the diff is read anew every few seconds. "
            "Raising fs.inotify.max_user_watches and fs.inotify.max_user_instances helps."
        )

    async def _wait(self, seconds: float) -> None:
        """Until something happens, at most this long."""
        # Not wait_for, which in Python 3.11 loses a cancellation that comes together with what it waits for.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._poked.wait()

    async def _in_thread(self, work: Callable[..., T], *args: Any) -> T:
        # Shielded: a thread cannot be cancelled, and `closed` waits for what it does.
        seconds = git.TIMEOUT_SECONDS if self._plain else GIT_SECONDS
        self._job = asyncio.get_running_loop().run_in_executor(_threads, _within, seconds, work, *args)
        return await asyncio.shield(self._job)


def _foresee(tracker: Tracker, changes: Changes) -> None:
    if not changes.everything:
        tracker.foresee(changes.paths)


def _ask(tracker: Tracker, changes: Changes) -> list[FileDiff]:
    if changes.everything:
        return list(tracker.update())
    return list(tracker.update(changes.paths)) if changes.paths else []


def _within(seconds: float, work: Callable[..., T], *args: Any) -> T:
    with git.at_most(seconds):
        return work(*args)
