"""What tracked writes did, as rows of DatabaseChange in the same transaction.

The rows go in while the transaction that made the change is open, so a rollback, of all or of a savepoint,
takes them along. For row ids to grow in the order of commits, tracked writers take turns: from its first
tracked write until its end, a transaction keeps others from writing tracked records. On SQLite that is how
the database works; on PostgreSQL it is an advisory lock of the transaction.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, Final

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone

from events.actors import current_actor
from events.messages import MISSING
from events.models import DatabaseChange
from events.patches import diff, encode
from events.tracking import Membership, State, Tracked

logger = logging.getLogger("events")

TURN: Final = 0x76696265
"""The key of the advisory lock."""

_COLUMNS: Final = (
    "table", "object_id", "operation", "path", "value_json", "old_json", "full_json", "scope",
    "scope_before", "size", "actor_kind", "actor_id", "actor_label", "at",
)  # fmt: skip
_INSERT: Final = "INSERT INTO {} ({}) VALUES ({})".format(
    DatabaseChange._meta.db_table,
    ", ".join(f'"{name}"' for name in _COLUMNS),
    ", ".join(["%s"] * len(_COLUMNS)),
)
Row = tuple[str | int | None, ...]

_open: Final = threading.local()
_after_commit: list[Callable[[], None]] = []


def call_after_commit(wake: Callable[[], None]) -> None:
    """Has `wake` called, quickly and in any thread, after each commit of this process that wrote rows."""
    _after_commit.append(wake)


def do_not_call(wake: Callable[[], None]) -> None:
    if wake in _after_commit:
        _after_commit.remove(wake)


def _committed() -> None:
    for wake in list(_after_commit):
        wake()


class Recorder:
    """Collects the rows of one tracked write; `recording` inserts them in one statement."""

    def __init__(self, using: str) -> None:
        self.using = using
        self.doomed: set[tuple[type, Any]] = set()
        """What the delete that is going on will take away."""
        self._rows: list[Row] = []

    def added(self, tracked: Tracked, pk: Any, state: State) -> None:
        document = state.document
        if tracked.membership is not None:
            document = {**document, str(tracked.members): []}
        self._row(tracked.name, pk, "add", value=document, scope=state.scope)

    def removed(self, tracked: Tracked, pk: Any, state: State) -> None:
        self._row(tracked.name, pk, "remove", old=state.document, scope_before=state.scope)

    def changed(self, tracked: Tracked, before: Mapping[Any, State], after: Mapping[Any, State]) -> None:
        """What became of these records. Those that are in one of the two only were added or removed."""
        moved = []
        for pk in before.keys() - after.keys():
            self.removed(tracked, pk, before[pk])
        for pk, new in after.items():
            old = before.get(pk)
            if old is None:
                self.added(tracked, pk, new)
            elif self._altered(tracked, pk, old, new):
                moved.append(pk)
        if moved:
            self._move_dependents(tracked, moved, before)

    def _altered(self, tracked: Tracked, pk: Any, old: State, new: State) -> bool:
        """Writes the operations of one record; True if it moved to another scope."""
        changes = diff(old.document, new.document)
        moves = old.scope != new.scope
        for number, (change, was) in enumerate(changes, 1):
            # The move comes last: who sees only the new scope gets the whole record, with all of this in it.
            last = moves and number == len(changes)
            self._row(
                tracked.name,
                pk,
                change.op,
                change.path,
                change.value,
                was,
                full=self._whole(tracked, pk, new) if last else MISSING,
                scope=new.scope if last else old.scope,
                scope_before=old.scope,
            )
        if moves and not changes:
            self._moved(tracked, pk, old.scope, new)
        return moves

    def _moved(self, tracked: Tracked, pk: Any, scope_before: str | None, new: State) -> None:
        full = self._whole(tracked, pk, new)
        self._row(tracked.name, pk, "move", full=full, scope=new.scope, scope_before=scope_before)

    def _move_dependents(self, tracked: Tracked, pks: list[Any], before: Mapping[Any, State]) -> None:
        for child, lookup in tracked.dependents:
            rows = child.model._base_manager.using(self.using).filter(**{f"{lookup}__in": pks})
            parents = dict(rows.values_list("pk", f"{lookup}_id"))
            for pk, state in child.read(rows).items():
                scope_before = before[parents[pk]].scope
                if scope_before != state.scope:
                    self._moved(child, pk, scope_before, state)

    def _whole(self, tracked: Tracked, pk: Any, state: State) -> dict[str, Any]:
        if tracked.membership is None:
            return state.document
        members = tracked.membership.read([pk], self.using)[pk]
        return {**state.document, str(tracked.members): members}

    def members_changed(
        self, membership: Membership, before: Mapping[Any, list[Any]], after: Mapping[Any, list[Any]]
    ) -> None:
        """Who sees these scopes now. Readers concerned start over when they come to such a row."""
        tracked = membership.of
        for pk, new in after.items():
            old = before[pk]
            if old != new and (tracked.model, pk) not in self.doomed:
                scope = str(pk)
                self._row(
                    tracked.name,
                    pk,
                    "replace",
                    f"/{tracked.members}",
                    new,
                    old,
                    scope=scope,
                    scope_before=scope,
                )

    def _row(
        self,
        table: str,
        pk: Any,
        operation: str,
        path: str = "",
        value: Any = MISSING,
        old: Any = MISSING,
        *,
        full: Any = MISSING,
        scope: str | None = None,
        scope_before: str | None = None,
    ) -> None:
        texts = [None if one is MISSING else encode(one).decode() for one in (value, old, full)]
        size = sum(len(text) for text in texts if text is not None)
        self._rows.append((table, str(pk), operation, path, *texts, scope, scope_before, size))

    def insert(self) -> None:
        rows, self._rows = self._rows, []
        if not rows:
            return
        connection = connections[self.using]
        at = connection.ops.adapt_datetimefield_value(timezone.now())
        tail = (*current_actor(), at)
        with transaction.mark_for_rollback_on_error(self.using), connection.cursor() as cursor:
            cursor.executemany(_INSERT, [row + tail for row in rows])
        _call_once_after_commit(connection)


def _call_once_after_commit(connection: BaseDatabaseWrapper) -> None:
    waiting = connection.run_on_commit
    # The last entry is enough to look at: it is dropped only together with what was written after it.
    if _after_commit and not (waiting and waiting[-1][1] is _committed):
        transaction.on_commit(_committed, using=connection.alias)


def take_turn(connection: BaseDatabaseWrapper) -> None:
    """Waits until no other transaction has tracked writes of its own; keeps others waiting until this one ends."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [TURN])


@contextmanager
def recording(using: str) -> Iterator[Recorder]:
    """A transaction, if none is open, in which the block's writes and the rows about them go in together."""
    connection = connections[using]
    with nullcontext() if connection.in_atomic_block else transaction.atomic(using):
        take_turn(connection)
        recorder = Recorder(using)
        yield recorder
        recorder.insert()


@contextmanager
def deleting(using: str) -> Iterator[Recorder]:
    """`recording` for a delete and all it takes along: what its signals report goes in at the end, at once."""
    with recording(using) as recorder:
        enclosing = getattr(_open, "recorder", None)
        _open.recorder = recorder
        try:
            yield recorder
        finally:
            _open.recorder = enclosing


@contextmanager
def within_delete(using: str) -> Iterator[Recorder]:
    """The recorder of the delete that is going on, or one of its own where that began at an untracked record."""
    recorder: Recorder | None = getattr(_open, "recorder", None)
    if recorder is not None and recorder.using == using:
        yield recorder
    else:
        with recording(using) as recorder:
            yield recorder
