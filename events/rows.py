"""One record at a time, by statements that are compiled once a connection: most writes are about one."""

from collections.abc import Sequence
from operator import itemgetter
from typing import Any, Final, NamedTuple
from uuid import UUID

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Subquery

from events.values import is_expression, json_value, public

_SCOPES_KEPT: Final = 1000

Written = Sequence[tuple[Any, Any, Any]]
"""What `Model._do_update` gets: (field, None, the value as it was assigned)."""


class State(NamedTuple):
    """One record as the database holds it."""

    document: dict[str, Any]
    """Its public columns, as JSON values; those that a write was about, where that is all that is needed."""
    scope: str | None
    """The id of the scope in which it lies; None: seen by nobody but those who see everything."""


class OneRow:
    """`SELECT … WHERE pk = …` before each save, for an instance may be older than its row, and the save itself.

    What stayed as it was is recognised by its raw value; only the rest is converted.
    """

    def __init__(
        self,
        model: type[models.Model],
        names: Sequence[str],
        place_name: str,
        place: "str | Subquery",
        connection: Any,
    ) -> None:
        by_name = {field.attname: field for field in model._meta.concrete_fields}
        self._fields = [by_name[name] for name in names]
        self._index = {name: index for index, name in enumerate(names)}
        self._place_name = place_name
        self._scopes: dict[Any, str | None] = {}
        """Scopes by their raw value: few, and met at every save."""
        self._updates: dict[tuple[str, ...], str] = {}
        """The statement that writes these fields, by their names; "" where that is for Django to find."""
        self._connection: BaseDatabaseWrapper = connection
        self._model = model
        self._pk: Any = model._meta.pk
        rows = model._base_manager.using(connection.alias).order_by().filter(pk=UUID(int=0))
        query = rows.values_list(*names, place).query
        compiler: Any = query.get_compiler(connection.alias)
        self._sql, parameters = compiler.as_sql()
        assert len(parameters) == 1, "only the primary key varies"
        self._converters = compiler.get_converters([column[0] for column in compiler.select])

    # --- reading

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

    # --- writing

    def prepared(self, names: tuple[str, ...], written: Written) -> list[Any] | None:
        """The values of these fields as the driver takes them; None where Django is to find the statement."""
        if names not in self._updates:
            self._updates[names] = self._update_statement([field for field, _, _ in written])
        if not self._updates[names] or any(_is_for_django(value) for _, _, value in written):
            return None
        return [field.get_db_prep_save(value, self._connection) for field, _, value in written]

    def _update_statement(self, fields: list[Any]) -> str:
        if any(hasattr(field, "get_placeholder") for field in fields):
            return ""
        quote = self._connection.ops.quote_name
        columns = ", ".join(f"{quote(field.column)} = %s" for field in fields)
        return f"UPDATE {quote(self._model._meta.db_table)} SET {columns} WHERE {quote(self._pk.column)} = %s"

    def update(self, pk: Any, names: tuple[str, ...], prepared: list[Any], cursor: Any) -> bool:
        """Whether there is such a row. The statement is the one that Django would compile anew at each save."""
        prepared.append(self._pk.get_db_prep_value(pk, self._connection))
        cursor.execute(self._updates[names], prepared)
        return bool(cursor.rowcount > 0)

    def differing(
        self, before: tuple[Any, ...], written: Written, prepared: list[Any]
    ) -> tuple[State, State] | None:
        """What differs with these values in the row; None where it moved, and only the database knows whereto."""
        changed = []
        for (field, _, value), raw in zip(written, prepared, strict=False):
            index = self._index.get(field.attname)
            if index is not None and before[index] != raw:
                if field.attname == self._place_name:
                    return None
                changed.append((index, field, value))
        # Django writes in the order of the model's fields, told is in that of the public ones.
        changed.sort(key=itemgetter(0))
        old = {field.attname: self._json(index, before) for index, field, _ in changed}
        new = {field.attname: public(field, value) for _, field, value in changed}
        scope = self._scope(before)
        return State(old, scope), State(new, scope)


def _is_for_django(value: Any) -> bool:
    """An expression, or a record where its key was due."""
    return is_expression(value) or hasattr(value, "prepare_database_save")
