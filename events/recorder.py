"""What tracked writes did, as rows of DatabaseChange in the same transaction.

The rows go in while the transaction that made the change is open, so a rollback, of all or of a savepoint,
takes them along. For row ids to grow in the order of commits, tracked writers take turns: from its first
tracked write until its end, a transaction keeps others from writing tracked records. On SQLite that is how
the database works; on PostgreSQL it is an advisory lock of the transaction.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from django.core.exceptions import FieldDoesNotExist, FieldError
from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import ProtectedError, RestrictedError
from django.utils import timezone

from events.actors import current_actor
from events.messages import MISSING
from events.models import ChangeLog, DatabaseChange
from events.patches import diff, encode
from events.rows import State
from events.tracking import Membership, Tracked, batches

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
_BEFORE_ANY_WRITE: Final = (FieldError, FieldDoesNotExist, ProtectedError, RestrictedError)
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
    """Collects the rows of one tracked write; leaving `recording` inserts them in one statement."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self.connection = connection
        self.using = connection.alias
        self.doomed: set[tuple[type, Any]] = set()
        """What the delete that is going on will take away."""
        self._rows: list[Row] = []
        self._is_astray = False
        """Whether a record hung on one that is not there (yet): nobody can say who sees it."""
        self._cursor: Any = None

    @property
    def cursor(self) -> Any:
        """One for all that a write reads and inserts: opening a cursor costs as much as a small statement."""
        if self._cursor is None:
            self._cursor = self.connection.cursor()
        return self._cursor

    def close(self) -> None:
        if self._cursor is not None:
            self._cursor.close()

    def added(self, tracked: Tracked, pk: Any, state: State) -> None:
        document = state.document
        if tracked.membership is not None:
            document = {**document, str(tracked.members): []}
        self._note_place(tracked, state)
        self._row(tracked.name, pk, "add", value=document, scope=state.scope)

    def removed(self, tracked: Tracked, pk: Any, state: State) -> None:
        self._note_place(tracked, state)
        self._row(tracked.name, pk, "remove", old=state.document, scope_before=state.scope)

    def changed(self, tracked: Tracked, before: Mapping[Any, State], after: Mapping[Any, State]) -> None:
        """What became of these records. Those that are in one of the two only were added or removed."""
        for pk in before.keys() - after.keys():
            self.removed(tracked, pk, before[pk])
        kept = []
        for pk, new in after.items():
            old = before.get(pk)
            if old is None:
                self.added(tracked, pk, new)
            else:
                kept.append((pk, old, new))
        moved = [pk for pk, old, new in kept if old.scope != new.scope]
        wholes = tracked.read_many(moved, self.using) if moved else {}
        for pk, old, new in kept:
            self._altered(tracked, pk, old, new, wholes.get(pk))
        if moved:
            self._move_dependents(tracked, moved, before)

    def _note_place(self, tracked: Tracked, state: State) -> None:
        if state.scope is None and tracked.through is not None:
            self._is_astray = True

    def _altered(self, tracked: Tracked, pk: Any, old: State, new: State, whole: State | None) -> None:
        """Writes the operations of one record; `whole` is all of it if it moved to another scope."""
        self._note_place(tracked, old)
        self._note_place(tracked, new)
        changes = diff(old.document, new.document)
        # Who sees only one of the scopes gets the whole record, or a remove, with the first row and nothing
        # with the others, for these carry what belongs to the other scope.
        full = MISSING if whole is None else whole.document
        for change, was in changes:
            self._row(
                tracked.name,
                pk,
                change.op,
                change.path,
                change.value,
                was,
                full=full,
                scope=new.scope,
                scope_before=old.scope,
            )
            full = MISSING

    def _move_dependents(self, tracked: Tracked, pks: list[Any], before: Mapping[Any, State]) -> None:
        for child, lookup in tracked.dependents:
            for batch in batches(pks):
                rows = child.model._base_manager.using(self.using).filter(**{f"{lookup}__in": batch})
                parents = dict(rows.values_list("pk", f"{lookup}_id"))
                for pk, state in child.read(rows).items():
                    was = before[parents[pk]].scope
                    self._row(
                        child.name, pk, "move", full=state.document, scope=state.scope, scope_before=was
                    )

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
        texts = [b"" if one is MISSING else encode(one) for one in (value, old, full)]
        size = sum(map(len, texts))
        json = [text.decode() or None for text in texts]
        self._rows.append((table, str(pk), operation, path, *json, scope, scope_before, size))

    def insert(self) -> None:
        if self._is_astray:
            self._is_astray = False
            ChangeLog.start_over(self.using)
        if not self._rows:
            return
        rows, self._rows = self._rows, []
        connection = self.connection
        at = connection.ops.adapt_datetimefield_value(timezone.now())
        tail = (*current_actor(), at)
        if len(rows) == 1:
            self.cursor.execute(_INSERT, rows[0] + tail)
        else:
            self.cursor.executemany(_INSERT, [row + tail for row in rows])
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


class recording:
    """A transaction, if none is open, in which the block's writes and the rows about them go in together."""

    __slots__ = ("_recorder", "_transaction")

    def __init__(self, using: str) -> None:
        connection = connections[using]
        self._recorder = Recorder(connection)
        self._transaction = None if connection.in_atomic_block else transaction.atomic(using)

    def __enter__(self) -> Recorder:
        if self._transaction is not None:
            self._transaction.__enter__()
        try:
            take_turn(self._recorder.connection)
        except BaseException as failed:  # Python leaves only what was entered.
            self._leave(type(failed), failed, failed.__traceback__)
            raise
        return self._recorder

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is None:
            try:
                self._recorder.insert()
            except BaseException as failed:
                self._leave(type(failed), failed, failed.__traceback__)
                raise
        self._leave(kind, error, trace)

    def _leave(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._recorder.close()
        if self._transaction is not None:
            self._transaction.__exit__(kind, error, trace)
        elif error is not None and not isinstance(error, _BEFORE_ANY_WRITE):
            # Whoever catches this must not be able to commit a change without its rows.
            self._recorder.connection.needs_rollback = True


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
