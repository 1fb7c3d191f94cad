"""What a write made of the records: their states after it, by primary key.

Taken from the values that were written where these are plain, and read back from the database where they
are expressions, or where the scope hangs on another row.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from django.db import connections, models
from django.db.models import Q

from events.rows import State
from events.tracking import Tracked
from events.values import is_expression, public


def key(tracked: Tracked, pk: Any) -> Any:
    """A primary key as the database gives it back: an instance may hold its text."""
    return tracked.model._meta.pk.to_python(pk)


def read(
    tracked: Tracked, pks: Sequence[Any], using: str, names: tuple[str, ...] | None = None
) -> dict[Any, State]:
    """The records with these keys, or these columns of them."""
    if len(pks) != 1:
        return tracked.read_many(pks, using, names)
    pk = key(tracked, pks[0])
    state = tracked.one_row(connections[using], names).read(pk)
    return {pk: state} if state else {}


def inserted(tracked: Tracked, objs: Sequence[models.Model], using: str) -> dict[Any, State]:
    states = {}
    for obj in objs:
        state = tracked.state_of(obj)
        if state is None:
            return read(tracked, [key(tracked, one.pk) for one in objs], using)
        states[key(tracked, obj.pk)] = state
    return states


def may_conflict(objs: Iterable[models.Model], unique_fields: Iterable["models.Field[Any, Any]"] | None) -> Q:
    """The rows that these objects will be, or are in the way of them."""
    chosen = Q(pk__in=[obj.pk for obj in objs])
    if unique_fields:
        for obj in objs:
            chosen |= Q(**{field.attname: getattr(obj, field.attname) for field in unique_fields})
    return chosen


def updated(
    tracked: Tracked, before: dict[Any, State], written: dict[str, Any], using: str
) -> dict[Any, State]:
    """The states after `written` (by field name or attribute) went into each of these rows."""
    meta = tracked.model._meta
    values = {}
    for name, value in written.items():
        field: Any = meta.pk if name == "pk" else meta.get_field(name)
        if field is meta.pk:
            return read(tracked, [value], using)
        if field.attname not in tracked.columns:
            continue
        if is_expression(value) or field.name == tracked.through:
            return read(tracked, list(before), using, tracked.shown(written))
        if isinstance(value, models.Model):
            value = getattr(value, field.target_field.attname)
        values[field.attname] = public(field, value)
    return {pk: _with(tracked, state, values) for pk, state in before.items()}


def bulk_updated(
    tracked: Tracked, before: dict[Any, State], objs: Sequence[models.Model], names: list[str], using: str
) -> dict[Any, State]:
    fields: list[Any] = [tracked.model._meta.get_field(name) for name in names]
    shown = [field for field in fields if field.attname in tracked.columns]
    moves = any(field.name == tracked.through for field in fields)
    after = {}
    for obj in objs:
        pk = key(tracked, obj.pk)
        written = {field.attname: getattr(obj, field.attname) for field in shown}
        if moves or pk in after or any(is_expression(value) for value in written.values()):
            return tracked.read_many(before, using, tracked.shown(names))
        if pk in before:
            values = {field.attname: public(field, written[field.attname]) for field in shown}
            after[pk] = _with(tracked, before[pk], values)
    return after


def _with(tracked: Tracked, state: State, values: dict[str, Any]) -> State:
    scope = values.get(str(tracked.scope), state.scope)
    return State({**state.document, **values}, scope)
