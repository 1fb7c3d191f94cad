"""Which models appear in the streamed document, and how a row of theirs looks in it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, NamedTuple
from uuid import UUID

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

from events.values import is_expression, json_value, public

_ROWS_A_QUERY: Final = 10_000
"""Keeps `IN (…)` under the number of parameters that SQLite and PostgreSQL allow."""


_SCOPES_KEPT: Final = 1000


class State(NamedTuple):
    """One record as the database holds it."""

    document: dict[str, Any]
    """Its public columns, as JSON values; those that a write was about, where that is all that is needed."""
    scope: str | None
    """The id of the scope in which it lies; None: seen by nobody but those who see everything."""


@dataclass(frozen=True, eq=False)
class Tracked:
    """How one model appears in the streamed document."""

    model: type[models.Model]
    name: str
    """Its key in the document: records are at `/<name>/<id>`."""
    fields: Sequence[str]
    scope: str | None = None
    """The attribute that holds its scope's id …"""
    through: str | None = None
    """… or the foreign key to the tracked record in whose scope it lies."""
    members: str | None = None
    """On the model that is the scope: the many-to-many field to the users who see it."""

    @cached_property
    def columns(self) -> dict[str, "models.Field[Any, Any]"]:
        """The public fields, by name as the document has it (`project_id`)."""
        by_name = {field.attname: field for field in self.model._meta.concrete_fields}
        return {name: by_name[name] for name in self.fields}

    @cached_property
    def keys(self) -> frozenset[str]:
        """The names under which a write may touch what is public."""
        return frozenset({"pk", *self.columns, *(field.name for field in self.columns.values())})

    @cached_property
    def pk_names(self) -> frozenset[str]:
        return frozenset({"pk", self.model._meta.pk.name})

    @cached_property
    def through_column(self) -> str | None:
        return None if self.through is None else f"{self.through}_id"

    @cached_property
    def scope_lookup(self) -> str:
        """The scope's id as a look-up from this model: "project_id", "task__project_id"."""
        if self.through is None:
            return self.scope or "pk"
        return f"{self.through}__{self._parent.scope_lookup}"

    @property
    def _parent(self) -> "Tracked":
        relation: Any = self.model._meta.get_field(str(self.through))
        return registry[relation.remote_field.model]

    @cached_property
    def dependents(self) -> list[tuple["Tracked", str]]:
        """The tracked models that lie where a record of this one lies, nearest first, and the look-up to it."""
        found: list[tuple[Tracked, str]] = []
        for child in registry.values():
            if child.through is not None and child._parent is self:
                found.append((child, child.through))
                found += [(deeper, f"{path}__{child.through}") for deeper, path in child.dependents]
        return sorted(found, key=lambda pair: pair[1].count("__"))

    @cached_property
    def membership(self) -> "Membership | None":
        """The table of its members, where it has members."""
        if self.members is None:
            return None
        field: Any = self.model._meta.get_field(self.members)
        through = field.remote_field.through
        columns = through._meta
        return Membership(
            self,
            through,
            columns.get_field(field.m2m_field_name()).attname,
            columns.get_field(field.m2m_reverse_field_name()).attname,
        )

    # --- from the database

    def one_row(self, connection: BaseDatabaseWrapper, names: tuple[str, ...] | None = None) -> "OneRow":
        """How to read one record, or these columns of it; compiled once a connection."""
        readers = connection.__dict__.setdefault("_events_readers", {})
        found: OneRow | None = readers.get((self.model, names))
        if found is None:
            found = readers[self.model, names] = OneRow(self, names or tuple(self.columns), connection)
        return found

    def read(self, rows: "models.QuerySet[Any]", names: Sequence[str] | None = None) -> dict[Any, State]:
        """The records that a query set selects, or these columns of them, by primary key, in its order."""
        names = self.fields if names is None else names
        found = {}
        for pk, scope, *values in rows.order_by("pk").values_list("pk", self.scope_lookup, *names):
            document = dict(zip(names, map(json_value, values), strict=True))
            found[pk] = State(document, None if scope is None else str(scope))
        return found

    def read_many(
        self, pks: Iterable[Any], using: str, names: Sequence[str] | None = None
    ) -> dict[Any, State]:
        found: dict[Any, State] = {}
        keys = list(pks)
        for start in range(0, len(keys), _ROWS_A_QUERY):
            batch = keys[start : start + _ROWS_A_QUERY]
            found |= self.read(self.model._base_manager.using(using).filter(pk__in=batch), names)
        return found

    # --- from instances

    def shown(self, names: Iterable[str]) -> tuple[str, ...]:
        """The public columns among the fields with these names."""
        wanted = tuple(names)
        found = self._shown.get(wanted)
        if found is None:
            found = self._shown[wanted] = tuple(
                name
                for name, field in self.columns.items()
                if name in wanted or field.name in wanted or (field.primary_key and "pk" in wanted)
            )
        return found

    @cached_property
    def _shown(self) -> dict[tuple[str, ...], tuple[str, ...]]:
        return {}

    def document(self, instance: models.Model) -> dict[str, Any]:
        """The columns of an instance, as the database would give them back."""
        return {name: public(field, getattr(instance, name)) for name, field in self.columns.items()}

    def state_of(self, instance: models.Model) -> State | None:
        """The same with its scope; None where only the database can tell."""
        values = instance.__dict__
        if self.through is not None or any(is_expression(values.get(name)) for name in self.columns):
            return None
        document = self.document(instance)
        return State(document, document[self.scope] if self.scope else None)


class Membership(NamedTuple):
    """The table that says which users see which scope."""

    of: Tracked
    through: type[models.Model]
    scope_key: str
    user_key: str

    def read(self, scopes: Iterable[Any], using: str) -> dict[Any, list[Any]]:
        """The sorted user ids of each of these scopes."""
        found: dict[Any, list[Any]] = {scope: [] for scope in scopes}
        rows = self.through._base_manager.using(using).filter(**{f"{self.scope_key}__in": list(found)})
        for scope, user in rows.order_by(self.user_key).values_list(self.scope_key, self.user_key):
            found[scope].append(user)
        return found


registry: dict[type[models.Model], Tracked] = {}


class OneRow:
    """`SELECT … WHERE pk = …`: done at every save, for an instance may be older than its row.

    Kept with the connection for which it was compiled. What stayed as it was is recognised by its raw value;
    only the rest is converted.
    """

    def __init__(self, tracked: Tracked, names: tuple[str, ...], connection: BaseDatabaseWrapper) -> None:
        self._fields = [tracked.columns[name] for name in names]
        self._scopes: dict[Any, str | None] = {}
        """Scopes by their raw value: few, and met at every save."""
        self._connection = connection
        self._pk = tracked.model._meta.pk
        rows = tracked.model._base_manager.using(connection.alias).order_by().filter(pk=UUID(int=0))
        query = rows.values_list(*names, tracked.scope_lookup).query
        compiler: Any = query.get_compiler(connection.alias)
        self._sql, parameters = compiler.as_sql()
        assert len(parameters) == 1, "only the primary key varies"
        self._converters = compiler.get_converters([column[0] for column in compiler.select])

    def raw(self, pk: Any, cursor: Any) -> tuple[Any, ...] | None:
        """The row as the driver gives it; its scope comes last."""
        cursor.execute(self._sql, (self._pk.get_db_prep_value(pk, self._connection),))
        row: tuple[Any, ...] | None = cursor.fetchone()
        return row

    def state(self, row: tuple[Any, ...]) -> State:
        document = {field.attname: self._json(index, row) for index, field in enumerate(self._fields)}
        return State(document, self._scope(row))

    def read(self, pk: Any) -> State | None:
        with self._connection.cursor() as cursor:
            row = self.raw(pk, cursor)
        return None if row is None else self.state(row)

    def compare(self, old: tuple[Any, ...], new: tuple[Any, ...]) -> tuple[State, State]:
        """What differs between two readings of a row, before and after."""
        before: dict[str, Any] = {}
        after: dict[str, Any] = {}
        for index, field in enumerate(self._fields):
            if old[index] != new[index]:
                before[field.attname] = self._json(index, old)
                after[field.attname] = self._json(index, new)
        return State(before, self._scope(old)), State(after, self._scope(new))

    def _scope(self, row: tuple[Any, ...]) -> str | None:
        raw = row[-1]
        if raw not in self._scopes:
            if len(self._scopes) >= _SCOPES_KEPT:
                self._scopes.clear()
            scope = self._json(len(self._fields), row)
            self._scopes[raw] = None if scope is None else str(scope)
        return self._scopes[raw]

    def _json(self, index: int, row: tuple[Any, ...]) -> Any:
        value = row[index]
        converters, column = self._converters.get(index, ((), None))
        for convert in converters:
            value = convert(value, column, self._connection)
        return json_value(value)
