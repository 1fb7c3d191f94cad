"""The whole document at one moment: read in one transaction, encoded once, narrowed for each scope."""

import threading
import time
from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from django.db import DEFAULT_DB_ALIAS, connections, transaction

from events.access import ALL, Scope, ScopeId
from events.frames import mark_of
from events.models import ChangeLog, DatabaseChange
from events.patches import encode
from events.tracking import Tracked, registry
from events.values import json_value

_KEPT_VIEWS: Final = 8


@contextmanager
def consistent_read(using: str = DEFAULT_DB_ALIAS) -> Iterator[None]:
    """A transaction in which all reads see the database at one moment, and which keeps no writer waiting.

    Within a transaction that is open already, that one is it.
    """
    connection = connections[using]
    if connection.in_atomic_block:
        yield
        return
    connection.ensure_connection()
    mode = getattr(connection, "transaction_mode", None)
    if connection.vendor == "sqlite":
        # IMMEDIATE, which writers use, would take the write lock.
        connection.transaction_mode = "DEFERRED"  # type: ignore[attr-defined]
    try:
        with transaction.atomic(using):
            if connection.vendor == "postgresql":
                with connection.cursor() as cursor:
                    cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield
    finally:
        if connection.vendor == "sqlite":
            connection.transaction_mode = mode  # type: ignore[attr-defined]


class LogState(NamedTuple):
    """Where the log of changes stands."""

    epoch: str
    pruned_to: int
    last: int
    """The id of the newest row: the cursor of now."""
    mark: str
    """That row's; "0" where there is none."""


def log_state(using: str = DEFAULT_DB_ALIAS) -> LogState:
    """To be called in the same `consistent_read` as what is to agree with it."""
    log = ChangeLog.current(using)
    newest = DatabaseChange.objects.using(using).order_by("-id").values_list("id", "at").first()
    if newest is None:
        return LogState(log.epoch, log.pruned_to, log.pruned_to, "0")
    return LogState(log.epoch, log.pruned_to, max(newest[0], log.pruned_to), mark_of(newest[1]))


class Snapshot:
    """The document, in pieces that are encoded already: a scope's part is found, not made."""

    def __init__(self, state: LogState, began: float) -> None:
        self.state = state
        self.began = began
        """Whatever was committed before this moment (time.monotonic) is in it."""
        self._parts: dict[str, dict[ScopeId, list[bytes]]] = {}
        self._views: OrderedDict[Scope, bytes] = OrderedDict()

    @classmethod
    def read(cls, using: str = DEFAULT_DB_ALIAS) -> "Snapshot":
        began = time.monotonic()
        ChangeLog.current(using)
        with consistent_read(using):
            snapshot = cls(log_state(using), began)
            for tracked in registry.values():
                snapshot._parts[tracked.name] = _encoded(tracked, using)
        return snapshot

    def document(self, scope: Scope) -> bytes:
        """The JSON of what readers with this scope see."""
        found = self._views.get(scope)
        if found is None:
            found = self._views[scope] = b"{%b}" % b",".join(
                b'"%b":{%b}' % (name.encode(), b",".join(_chosen(parts, scope)))
                for name, parts in self._parts.items()
            )
            if len(self._views) > _KEPT_VIEWS:
                self._views.popitem(last=False)
        return found


def _chosen(parts: dict[ScopeId, list[bytes]], scope: Scope) -> Iterator[bytes]:
    if scope is ALL:
        for records in parts.values():
            yield from records
    else:
        assert isinstance(scope, frozenset)
        for key in parts.keys() & scope:
            yield from parts[key]


def _encoded(tracked: Tracked, using: str) -> dict[ScopeId, list[bytes]]:
    """`"<id>": {…}` of each record, by the scope in which it lies."""
    rows = tracked.model._base_manager.using(using).order_by()
    members: dict[object, list[object]] = {}
    if tracked.membership is not None:
        members = tracked.membership.read(rows.values_list("pk", flat=True), using)
    found: dict[ScopeId, list[bytes]] = defaultdict(list)
    selected = rows.values_list("pk", tracked.scope_lookup, *tracked.columns)
    for pk, scope, *values in selected.iterator(chunk_size=5000):
        document = dict(zip(tracked.columns, map(json_value, values), strict=True))
        if tracked.members is not None:
            document[tracked.members] = members.get(pk, [])
        found[scope].append(b'"%b":%b' % (str(pk).encode(), encode(document)))
    return found


class Snapshots:
    """The newest snapshot, made once for all who ask for it at the same time, or while nothing changes."""

    def __init__(self, using: str = DEFAULT_DB_ALIAS) -> None:
        self._using = using
        self._newest: Snapshot | None = None
        self._making = threading.Lock()
        self.made = 0

    def get(self) -> Snapshot:
        """One in which everything is that was committed before this call. Blocks while it is made."""
        asked = time.monotonic()
        with self._making:
            held = self._newest
            if held is not None and (held.began >= asked or held.state == log_state(self._using)):
                return held
            self._newest = Snapshot.read(self._using)
            self.made += 1
            return self._newest

    def forget(self) -> None:
        self._newest = None
