"""The log of all committed changes: a full state to begin with, then one operation a message.

The rule: at any moment, a client that applied everything up to cursor C holds exactly what the database
held at C (docs/changes.md). Rows are read in the order of their ids, which is the order of commits.
"""

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Final, TypeVar

from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections

from events.access import ALL, Scope, access, narrowed
from events.conf import setting
from events.frames import ROW, Change, Cursor, concerned, full_state, mark_of, view_of
from events.logs import ANYBODY, Reader
from events.models import ChangeLog, DatabaseChange
from events.relay import Relay
from events.snapshot import LogState, Snapshots, consistent_read, log_state
from events.store import CHUNK_BYTES, Batch, Behind, MsgStore
from events.tracking import registry

logger = logging.getLogger("events")

_ROWS_A_READ: Final = 1000
T = TypeVar("T")


def current_cursor(scope: Scope) -> str:
    """The cursor of now for a reader of this scope (`frozenset({project.pk})` for `?project_id=`).

    Taken in the same `consistent_read` as what a page shows, it is where the page's stream goes on.
    """
    state = log_state()
    return str(Cursor(state.epoch, state.last, state.mark, view_of(scope)))


class ChangesLog:
    """The log behind the stream "changes" (`events.logs.Log`).

    Its positions are row ids, moved on by `_offset` when the database begins another history.
    """

    def __init__(self, key: str = "", *, using: str = DEFAULT_DB_ALIAS) -> None:
        self.origin = "start"
        self._using = using
        self._epoch = ""
        self._offset = 0
        self._history_began = 0
        self._given = 0
        """The highest position that a reader started from: what it holds may be newer than what the relay read."""
        self._turning = threading.Lock()
        self._members: dict[str, str] = {}
        """The field of its members, by the name of a table that is a scope."""
        self._barriers: dict[str, int] = {}
        """The position of the newest change of memberships, by user."""
        self.snapshots = Snapshots(using)
        self.store = MsgStore(setting("EVENTS_BUFFER_BYTES"), name="changes")
        self.relay = Relay(self._step)
        self._thread: ThreadPoolExecutor | None = None

    async def opened(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="events-changes")
        await self._read(self._open)
        self.relay.start()

    def _open(self) -> None:
        state = self._state()
        self._members = {one.name: one.members for one in registry.values() if one.members}
        self._epoch = state.epoch
        self.store = MsgStore(setting("EVENTS_BUFFER_BYTES"), name="changes", last=state.last)

    async def closed(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            await asyncio.to_thread(self.relay.stop)
            await asyncio.get_running_loop().run_in_executor(thread, connections.close_all)
            thread.shutdown(wait=False)
        self.store.close()
        self.snapshots.forget()

    async def is_over(self, cursor: str) -> bool:
        return False

    # --- a reader comes

    async def start(self, cursor: str | None, reader: Reader) -> Batch:
        wanted = Cursor.parse(cursor)
        if wanted is not None:
            resumed = await self._read(self._resume, wanted, reader)
            if resumed is not None:
                return resumed
        return await self._read(self._full_state, reader)

    def _resume(self, cursor: Cursor, reader: Reader) -> Batch | None:
        """None if what followed this cursor cannot be told, or is not what this reader is to hold."""
        state = self._state()
        if cursor.epoch != state.epoch or not state.pruned_to <= cursor.row <= state.last:
            return None
        if not self._is_same_row(cursor, state):
            return None
        newest = self._position_of(state)
        # Asked after the state, so that it holds for all that comes before the next change of members.
        scope = self._scope_now(reader)
        if scope is None or view_of(scope) != cursor.view:
            return None
        now = replace(reader, scope=scope, as_of=newest)
        return Batch(b"", newest - state.last + cursor.row, reader=now)

    def _is_same_row(self, cursor: Cursor, state: LogState) -> bool:
        """Whether the row that the cursor names is the one that its reader was sent. Of the last one that was pruned
        nobody can tell, and it is taken to be."""
        if cursor.row in (state.last, state.pruned_to):
            return cursor.row == state.pruned_to or cursor.mark == state.mark
        rows = DatabaseChange.objects.using(self._using).filter(pk=cursor.row)
        return [cursor.mark] == [mark_of(at) for at in rows.values_list("at", flat=True)]

    def _full_state(self, reader: Reader) -> Batch:
        snapshot = self.snapshots.get()
        state = snapshot.state
        position = self._position_of(state)
        scope = self._scope_now(reader)
        seen: Scope = frozenset() if scope is None else scope
        frame = full_state(
            snapshot.document(seen), Cursor(state.epoch, state.last, state.mark, view_of(seen))
        )
        now = replace(reader, scope=seen, as_of=position)
        return Batch(frame, position, finished=scope is None, reader=now)

    def _scope_now(self, reader: Reader) -> Scope | None:
        """What this reader may see by now; None if that is nothing of what they asked for."""
        if reader.principal == ANYBODY:
            return reader.scope
        return narrowed(access().scope(reader.principal), reader.narrow)

    # --- a reader goes on

    def read_now(self, position: int, reader: Reader) -> Batch | None:
        """What follows, where the store has it and nothing else is to be asked: waiting readers share one turn."""
        found = self.store.read(position, reader.view)
        asks = self._barriers.get(str(reader.principal.user_id), 0) > reader.as_of and reader.scope is not ALL
        return None if asks or isinstance(found, Behind) else found

    async def read(self, position: int, reader: Reader) -> Batch:
        found = self.store.read(position, reader.view)
        # Looked at after the store, which gets a change of members only after it was noted here.
        if self._barriers.get(str(reader.principal.user_id), 0) > reader.as_of and reader.scope is not ALL:
            return await self._read(self._look_again, position, reader)
        if not isinstance(found, Behind):
            return found
        return await self._read(self._behind, position, reader)

    def _behind(self, position: int, reader: Reader) -> Batch:
        """What follows from the table, or a full state where a part of it is gone."""
        return self._catch_up(position, reader) or self._full_state(reader)

    def _look_again(self, position: int, reader: Reader) -> Batch:
        """After a change of this reader's memberships: on from here if it changes nothing for this stream."""
        noted = self.store.last
        scope = self._scope_now(reader)
        if scope != reader.scope:
            return self._full_state(reader)
        now = replace(reader, as_of=noted)
        found = self.store.read(position, now.view)
        if isinstance(found, Behind):
            found = self._behind(position, now)
        return found._replace(reader=found.reader or now)

    def _catch_up(self, position: int, reader: Reader) -> Batch | None:
        """What follows from the table; None where a part of that was pruned."""
        with self._turning:
            began, offset, epoch = self._history_began, self._offset, self._epoch
            # Not past what the relay has seen, for it notes the changes of members.
            last = self.store.last - offset
        if position < began:
            return None
        row = position - offset
        with consistent_read(self._using):
            state = log_state(self._using)
            rows = list(self._rows(row, last)) if row >= state.pruned_to else []
        if state.epoch != epoch or row < state.pruned_to:
            return None
        parts: list[bytes] = []
        size = 0
        for values in rows:
            frame = Change(state.epoch, values[: len(ROW)]).frame(reader.view)
            if size + len(frame) > CHUNK_BYTES and parts:
                break
            parts.append(frame)
            size += len(frame)
            row = values[0]
        else:
            row = row if len(rows) == _ROWS_A_READ else last
        return Batch(b"".join(parts), offset + row)

    # --- the relay's turn

    def _step(self) -> bool:
        """Takes over what is new in the table. In the relay's thread."""
        with self._turning:
            began, epoch, last = self._history_began, self._epoch, self.store.last - self._offset
        with consistent_read(self._using):
            state = log_state(self._using)
            follows = state.epoch == epoch and state.pruned_to <= last <= state.last
            rows = list(self._rows(last, state.last)) if follows and last < state.last else []
        with self._turning:
            if self._history_began != began:
                return True  # A reader was first to see another history.
            if not follows:
                self._begin(state)
            for values in rows:
                self._take_over(values)
        return len(rows) == _ROWS_A_READ

    def _rows(self, after: int, last: int) -> Any:
        rows = DatabaseChange.objects.using(self._using).filter(id__gt=after, id__lte=last).order_by("id")
        return rows.values_list(*ROW, "old_json")[:_ROWS_A_READ]

    def _take_over(self, values: tuple[Any, ...]) -> None:
        *row, old = values
        position = self._offset + row[0]
        members = self._members.get(row[1])
        if members:
            for user in concerned(row, old, members):
                self._barriers[user] = position
        self.store.append(position, Change(self._epoch, row))

    def _position_of(self, state: LogState) -> int:
        """The position of the newest row, where a reader starts; goes over to another history, if this is one."""
        with self._turning:
            if state.epoch != self._epoch:
                self._begin(state)
            position = self._offset + state.last
            self._given = max(self._given, position)
            return position

    def _begin(self, state: LogState) -> None:
        """Goes over to the history that the database has. All readers are behind then, and start over."""
        logger.info("The log of changes goes on from another state: all readers start over.")
        position = max(self.store.last, self._given) + 1
        self._offset = position - state.last
        self._epoch = state.epoch
        self._history_began = position
        self.store.start_over(position)

    # --- the database, off the event loop

    def _state(self) -> LogState:
        ChangeLog.current(self._using)
        with consistent_read(self._using):
            return log_state(self._using)

    async def _read(self, work: Callable[..., T], *arguments: Any) -> T:
        assert self._thread is not None, "only between opened and closed"
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, _or_disconnect, work, *arguments
        )


def _or_disconnect(work: Callable[..., T], *arguments: Any) -> T:
    """Lets a connection go on which something failed: the next call gets a new one."""
    try:
        return work(*arguments)
    except DatabaseError:
        connections.close_all()
        raise
