"""The log of a run as a stream of the engine. Its cursors are those of tasks/logs/runlogs.py."""

import asyncio
import logging
import os
from collections import OrderedDict
from typing import Any, Final

import orjson
from asgiref.sync import sync_to_async
from django.db import DatabaseError

from events import sse
from events.logs import Reader
from events.store import Batch, MsgStore
from events.wheel import close_connections
from tasks.logs.runlogs import PARTIAL, entries_of, groups, is_record, style_of
from tasks.models import ExecutionProcess, ProcessStatus
from tasks.runs import runfiles
from tasks.supervision.logreader import BLOCK, LogReader

logger = logging.getLogger("tasks.runlogs")

POLL_SECONDS: Final = 0.03
_STATUS_SECONDS: Final = 3.0  # between looks at the database while nothing says that the run has ended
_UNFINISHED_SECONDS: Final = 0.2
_RETRY_SECONDS: Final = 1.0
_RING_BYTES: Final = 1024 * 1024
_SHARED: Final = 8


class RunLog:
    """The stream `logs:<process id>`. Behind the ring lies the file, so no reader is ever too slow for it.

    While somebody reads, the file's size is looked at every POLL_SECONDS; what it grew by goes into the ring,
    in blocks, for those who are at the end. Others read the file. Encoding is done in a thread, block by block.

    A position is an offset in the file, and as much more as lies behind the positions before somebody last cut it.
    """

    def __init__(self, process_id: str) -> None:
        self.process_id = process_id
        self.prefix = process_id.replace("-", "")[:8]
        self.store = MsgStore(_RING_BYTES, name=f"logs:{process_id}")
        self.origin = f"{self.prefix}.0"
        self._folder = runfiles.folder_of(process_id)
        self._file = LogReader(self._folder.path)
        self._style = ""
        self._base = 0  # the position of the file's first byte
        self._end: int | None = None  # the position behind the last record, once the run is over
        self._farewell = b""
        self._bounds: set[int] = set()  # the positions between the ring's blocks
        self._shared: OrderedDict[tuple[int, int, str], Batch] = OrderedDict()
        self._feeder: asyncio.Task[None] | None = None

    async def opened(self) -> None:
        end = await asyncio.to_thread(self._file.end)
        if end:
            self.store.start_over(end)
        self._bounds.add(end)
        await self._look_for_end(end)
        self._feeder = asyncio.get_running_loop().create_task(self._feed(end))

    async def closed(self) -> None:
        if self._feeder is not None and self._feeder.cancel():
            await asyncio.wait([self._feeder])
        self.store.close()

    async def is_over(self, cursor: str) -> bool:
        # A full disk may have kept nothing of the end but what the database says.
        return cursor == f"{self.prefix}.end" and (self._end is not None or self._has_exit())

    async def start(self, cursor: str | None, reader: Reader) -> Batch:
        # Taken before the place is looked for: the log may be cut meanwhile.
        base, place, skip, reason = self._base, 0, 0, ""
        cursor = None if cursor == self.origin else cursor
        if cursor is None:
            place = await asyncio.to_thread(self._first, reader)
        else:
            place, skip, reason = await asyncio.to_thread(self._place, cursor, reader)
        batch = await self.read(base + place, reader, skip)
        data = batch.data
        if not data and (cursor is None or reason) and "tail" in reader.parameters:
            # From the origin, who comes back would get the last records of that time.
            data = sse.prime(f"{self.prefix}.{place}~0")
        return batch._replace(data=sse.reset(reason, self.origin) + data if reason else data)

    async def read(self, position: int, reader: Reader, skip: int = 0) -> Batch:
        if position < self._base:
            batch = await self.start(None, reader)
            return batch._replace(data=sse.reset("the log was cut", self.origin) + batch.data)
        if self._end is not None and position >= self._end:
            return Batch(self._farewell, self._end + 1, finished=True)
        view = "conversation" if reader.parameters.get("view") == "conversation" else ""
        if not view and position in self._bounds:
            found = self.store.read(position)
            if isinstance(found, Batch):
                over = self._end is not None and found.position > self._end
                return found._replace(finished=over)
        if not view and position >= self.store.last:
            return Batch(b"", position)
        batch = await self._from_file(position, view, skip)
        if batch.position == position < self.store.last:
            # A line that still goes on, or a file that was cut: the store has more already.
            await asyncio.sleep(_UNFINISHED_SECONDS)
        return batch

    async def _from_file(self, position: int, view: str, skip: int) -> Batch:
        # Only up to the next block of the ring, so that a reader who catches up joins those at the end.
        limit = min((bound for bound in self._bounds if bound > position), default=position + BLOCK)
        key = (position, skip, view)
        if view == "" and (found := self._shared.get(key)):
            return found
        make = self._conversation if view else self._frames
        batch = await asyncio.to_thread(
            make, self._base, position, min(BLOCK, limit - position) if not view else BLOCK, skip
        )
        if view == "" and batch.data:
            self._shared[key] = batch
            if len(self._shared) > _SHARED:
                self._shared.popitem(last=False)
        return batch

    def _first(self, reader: Reader) -> int:
        """Where a fresh reader begins."""
        tail = reader.parameters.get("tail", "")
        if not tail.isdecimal() or len(tail) > 12:  # No log has as many.
            return 0
        return self._file.back(self._file.end(), int(tail))

    def _place(self, cursor: str, reader: Reader) -> tuple[int, int, str]:
        """Offset, entries to skip, and why the cursor cannot be honoured (then the offset is a fresh reader's)."""
        prefix, _, place = cursor.partition(".")
        offset, _, entries = place.partition("~")
        offset = offset.removesuffix("p")
        if prefix != self.prefix or not offset.isdecimal() or (entries and not entries.isdecimal()):
            return self._first(reader), 0, "unknown cursor"
        if not self._file.is_boundary(int(offset)):
            return self._first(reader), 0, "the log does not reach as far as this cursor, or was cut"
        return int(offset), int(entries or 0), ""

    # -- feeding ---------------------------------------------------------------------------------

    async def _feed(self, position: int) -> None:
        since_status, patience = 0.0, POLL_SECONDS
        while True:
            try:
                if self._was_cut(position - self._base):
                    position = await self._start_over()
                if self._end is not None:  # Who is slow still reads the file.
                    await asyncio.sleep(_RETRY_SECONDS)
                    continue
                batch = await self._what_follows(position)
                if batch is not None:
                    position = batch.position
                    self._bounds.add(position)
                    self.store.append(position, batch.data)
                    self._bounds = {bound for bound in self._bounds if bound >= self.store.floor}
                    continue
                since_status += POLL_SECONDS
                if since_status >= (patience if self._has_exit() else _STATUS_SECONDS):
                    # The runner writes the end down a moment after exit.json; where it is away, that takes longer.
                    since_status, patience = 0.0, min(patience * 1.5, _STATUS_SECONDS)
                    await self._look_for_end(position)
            except OSError as error:  # too many open files, most likely
                logger.warning("The log of run %s cannot be read now: %s", self.process_id, error)
                await asyncio.sleep(_RETRY_SECONDS)
            except Exception:  # Were this task to end, its readers would wait for ever.
                logger.exception("The log of run %s cannot be read now", self.process_id)
                await asyncio.sleep(_RETRY_SECONDS)
            await asyncio.sleep(POLL_SECONDS)

    def _was_cut(self, offset: int) -> bool:
        if self._file.size() >= offset:
            return False
        try:
            return os.stat(self._file.path).st_size < offset
        except (
            FileNotFoundError,
            NotADirectoryError,
        ):  # deleted: the supervisor puts it back whole, if there is one
            return self._end is not None

    async def _start_over(self) -> int:
        """Somebody cut the file: all readers begin anew, with what is left of it."""
        end = await asyncio.to_thread(self._file.end)
        self._base = self.store.last + 1
        self._shared.clear()
        self._bounds = {self._base + end}
        self.store.start_over(self._base + end)
        if self._end is not None:
            self._finish(self._base + end)
        return self._base + end

    async def _what_follows(self, position: int) -> Batch | None:
        if self._file.size() <= position - self._base:
            return None
        batch = await asyncio.to_thread(self._frames, self._base, position, BLOCK, 0)
        return batch if batch.position > position else None

    def _has_exit(self) -> bool:
        return os.path.exists(self._folder.exit)

    async def _look_for_end(self, position: int) -> None:
        """Ends the stream once the record says how the run ended and nothing more is in the file."""
        try:
            found = await sync_to_async(_outcome, thread_sensitive=False)(self.process_id)
        except DatabaseError as error:  # away for a moment: the log itself goes on
            logger.warning("How run %s stands is not known now: %s", self.process_id, error)
            return
        self._style = found["style"]
        if not found["ended"] or self._base + await asyncio.to_thread(self._file.end) > position:
            return
        data = orjson.dumps({"status": found["status"], "exit_code": found["exit_code"]})
        self._farewell = sse.frame(data, f"{self.prefix}.end", "finished")
        self._finish(position)

    def _finish(self, position: int) -> None:
        self._end = position
        self.store.append(position + 1, self._farewell)

    # -- encoding --------------------------------------------------------------------------------

    def _frames(self, base: int, position: int, count: int, _: int) -> Batch:
        """Frames of whole lines. The lines of the file are the data of the frames, byte for byte, but for the mark of
        a line that goes on: that is in the id, and the data is a record of three fields."""
        parts = []
        start = b"id: " + self.prefix.encode()
        position -= base
        head, partial = start + b".%d\ndata: %b\n\n", start + b".%dp\ndata: %b}\n\n"
        for line in self._file.lines(position, count).splitlines(keepends=True):
            position += len(line)
            if not is_record(line):
                continue
            if line.endswith(PARTIAL):
                parts.append(partial % (position, line[: -len(PARTIAL)]))
            else:
                parts.append(head % (position, line[:-1]))
        return Batch(b"".join(parts), base + position)

    def _conversation(self, base: int, position: int, count: int, skip: int) -> Batch:
        parts = []
        position -= base
        over = None if self._end is None else self._end - base
        for group in groups(self._file, position, count, over=over):
            for place, entry in entries_of(group, self._style, skip):
                parts.append(sse.json_frame(entry, f"{self.prefix}.{place}"))
            position, skip = group.end, 0
        return Batch(b"".join(parts), base + position)


def _outcome(process_id: str) -> dict[str, Any]:
    try:
        row = (
            ExecutionProcess.objects.filter(pk=process_id)
            .values("status", "exit_code", "task_attempt__executor")
            .first()
        )
        if row is None:  # deleted: nothing follows
            return {"ended": True, "status": ProcessStatus.INTERRUPTED, "exit_code": None, "style": ""}
        style = style_of(row["task_attempt__executor"])
        return {**row, "ended": row["status"] in ExecutionProcess.ENDED, "style": style}
    finally:
        close_connections()
