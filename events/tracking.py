"""Which models appear in the streamed document, and how a row of theirs looks in it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, Final, NamedTuple

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import OuterRef, Subquery

from events.rows import OneRow, State
from events.values import is_expression, json_value, public

_ROWS_A_QUERY: Final = 10_000
"""Keeps `IN (…)` under the number of parameters that SQLite and PostgreSQL allow."""


def batches(keys: Iterable[Any]) -> Iterator[list[Any]]:
    """The keys, as many at a time as one query may ask for."""
    remaining = iter(keys)
    while batch := list(islice(remaining, _ROWS_A_QUERY)):
        yield batch


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
    def scope_lookup(self) -> str:
        """The scope's id as a look-up from this model: "project_id", "task__project_id"."""
        if self.through is None:
            return self.scope or "pk"
        return f"{self.through}__{self.parent.scope_lookup}"

    @cached_property
    def place_name(self) -> str:
        """The public column that says where a record lies."""
        return self.scope or f"{self.through}_id"

    @property
    def place(self) -> "str | Subquery":
        """The scope's id as a value to select: None while what a record hangs on is not there (yet)."""
        if self.through is None:
            return self.scope_lookup
        parent = self.parent
        rows = parent.model._base_manager.filter(pk=OuterRef(self.place_name))
        return Subquery(rows.order_by().values(parent.scope_lookup))

    @property
    def parent(self) -> "Tracked":
        relation: Any = self.model._meta.get_field(str(self.through))
        return registry[relation.remote_field.model]

    @cached_property
    def dependents(self) -> list[tuple["Tracked", str]]:
        """The tracked models that lie where a record of this one lies, nearest first, and the look-up to it."""
        found: list[tuple[Tracked, str]] = []
        for child in registry.values():
            if child.through is not None and child.parent is self:
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
            columns = names or tuple(self.columns)
            found = OneRow(self.model, columns, self.place_name, self.place, connection)
            readers[self.model, names] = found
        return found

    def read(self, rows: "models.QuerySet[Any]", names: Sequence[str] | None = None) -> dict[Any, State]:
        """The records that a query set selects, or these columns of them, by primary key."""
        names = self.fields if names is None else names
        found = {}
        for pk, scope, *values in rows.order_by().values_list("pk", self.place, *names):
            document = dict(zip(names, map(json_value, values), strict=True))
            found[pk] = State(document, None if scope is None else str(scope))
        return found

    def read_many(
        self, pks: Iterable[Any], using: str, names: Sequence[str] | None = None
    ) -> dict[Any, State]:
        found: dict[Any, State] = {}
        for batch in batches(pks):
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


def tracked_as(model: type[models.Model]) -> Tracked | None:
    """How this model, or the one of which it is a proxy, is tracked."""
    return registry.get(model._meta.concrete_model or model)
