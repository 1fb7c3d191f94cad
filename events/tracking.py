"""Which models appear in the streamed document, and how a row of theirs looks in it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, NamedTuple
from uuid import UUID

from django.db import connections, models

from events.values import is_expression, json_value, public

_ROWS_A_QUERY: Final = 10_000
"""Keeps `IN (…)` under the number of parameters that SQLite and PostgreSQL allow."""


class State(NamedTuple):
    """One record as the database holds it."""

    document: dict[str, Any]
    """Its public columns, as JSON values."""
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

    def read_one(self, pk: Any, using: str) -> State | None:
        """One record, by a statement that is compiled once a connection: this is done at every save."""
        readers = connections[using].__dict__.setdefault("_events_readers", {})
        reader: _OneRowReader | None = readers.get(self.model)
        if reader is None:
            reader = readers[self.model] = _OneRowReader(self, using)
        return reader.read(pk)

    def read(self, rows: "models.QuerySet[Any]") -> dict[Any, State]:
        """The records that a query set selects, by primary key, in the order of their keys."""
        found = {}
        for pk, scope, *values in rows.order_by("pk").values_list("pk", self.scope_lookup, *self.columns):
            found[pk] = self.state(scope, values)
        return found

    def read_many(self, pks: Iterable[Any], using: str) -> dict[Any, State]:
        found: dict[Any, State] = {}
        keys = list(pks)
        for start in range(0, len(keys), _ROWS_A_QUERY):
            batch = keys[start : start + _ROWS_A_QUERY]
            found |= self.read(self.model._base_manager.using(using).filter(pk__in=batch))
        return found

    def state(self, scope: Any, values: Iterable[Any]) -> State:
        """Of one row: its scope, and the values of `columns` in their order."""
        document = {name: json_value(value) for name, value in zip(self.columns, values, strict=True)}
        return State(document, None if scope is None else str(scope))

    # --- from instances

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


class _OneRowReader:
    """`SELECT … WHERE pk = …` with its converters, kept with the connection it was compiled for."""

    def __init__(self, tracked: Tracked, using: str) -> None:
        self._tracked = tracked
        self._connection = connections[using]
        self._pk = tracked.model._meta.pk
        rows = tracked.model._base_manager.using(using).order_by().filter(pk=UUID(int=0))
        query = rows.values_list(tracked.scope_lookup, *tracked.columns).query
        self._compiler: Any = query.get_compiler(using)
        self._sql, parameters = self._compiler.as_sql()
        assert len(parameters) == 1, "only the primary key varies"
        self._converters = self._compiler.get_converters([column[0] for column in self._compiler.select])

    def read(self, pk: Any) -> State | None:
        prepared = self._pk.get_db_prep_value(pk, self._connection)
        with self._connection.cursor() as cursor:
            cursor.execute(self._sql, (prepared,))
            row = cursor.fetchone()
        if row is None:
            return None
        scope, *values = next(iter(self._compiler.apply_converters([row], self._converters)))
        return self._tracked.state(scope, values)
