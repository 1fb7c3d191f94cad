"""Writes what happens to tracked models down as DatabaseChange rows in the same transaction.

Django sends no signal for most bulk writes, and none of its signals can hold a transaction around a write.
So tracked models derive from `TrackedModel`, and every write of the ORM passes one of these places:

- `TrackedModel._do_update`: `save()` of what exists, in all its forms, fixtures too
- `TrackedQuerySet._insert`: `save()` of what is new, `create`, `bulk_create`
- `TrackedQuerySet.update`, `bulk_update`: the other updates, SET_NULL and its like too
- the signals in events/deletes.py, and `TrackedQuerySet._raw_delete`: deletes and their cascades
- events/membership.py: the table behind the members of a scope

Only what is public costs anything: a write that touches no public field is left alone. Where Django's
methods are its own business (`_insert`, `_do_update`, `_raw_delete`), the exact pin of its version and a
test of every writer (tests/events/test_capture.py) say when they move.
"""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, TypeVar

from django.core.exceptions import ImproperlyConfigured
from django.db import connections, models, router

from events import deletes, membership, outcomes
from events.actors import acting, actor
from events.recorder import deleting, recording, take_turn
from events.tracking import Tracked, registry

__all__ = ["TrackedManager", "TrackedModel", "TrackedQuerySet", "acting", "actor", "serialize", "track"]

M = TypeVar("M", bound=models.Model)


def track(
    model: type[models.Model],
    *,
    name: str,
    fields: Sequence[str],
    scope: str | None = None,
    through: str | None = None,
    members: str | None = None,
) -> None:
    """Puts a model into the streamed document at `/<name>/<id>`, with these fields.

    `scope` is the attribute that holds the id of the scope in which a record lies, or `through` the foreign
    key to the tracked record in whose scope it lies; `members`, on the model that is the scope itself, is the
    many-to-many field to the users who see it, and is shown as the list of their ids.
    """
    tracked = registry[model] = Tracked(model, name, fields, scope, through, members)
    _check(tracked)
    deletes.watch(tracked)
    if tracked.membership is not None:
        membership.watch(tracked.membership)


def _check(tracked: Tracked) -> None:
    """Raises ImproperlyConfigured for a model whose changes would not all be seen."""
    model = tracked.model
    if not issubclass(model, TrackedModel) or not isinstance(model._base_manager, TrackedManager):
        raise ImproperlyConfigured(
            f"{model.__name__} must derive from TrackedModel and keep its base manager."
        )
    if not isinstance(model._meta.pk, models.UUIDField) or not model._meta.pk.has_default():
        raise ImproperlyConfigured(f"The primary key of {model.__name__} must be a UUID made by default.")
    place = tracked.scope or tracked.through_column
    if place not in tracked.columns:
        raise ImproperlyConfigured(f"{model.__name__}: {place}, which decides who sees it, must be public.")
    for name, field in tracked.columns.items():
        if getattr(field.remote_field, "on_delete", None) is models.SET_DEFAULT:
            raise ImproperlyConfigured(
                f"{model.__name__}.{name}: Django writes SET_DEFAULT past the query set. Use SET(value)."
            )


def serialize(instance: models.Model) -> dict[str, Any]:
    """The public fields of a tracked record, as JSON values: what the streams show and REST answers.

    One query where the record has members, unless they were prefetched.
    """
    tracked = registry[type(instance)]
    document = tracked.document(instance)
    if tracked.members is not None:
        document[tracked.members] = sorted(user.pk for user in getattr(instance, tracked.members).all())
    return document


class TrackedQuerySet(models.QuerySet[M]):
    """Writes its bulk changes (`update`, `bulk_create`, …) down, which send no signals in Django."""

    _recorded = True
    """False on the copy of itself that `bulk_update` works with."""

    def _clone(self) -> "TrackedQuerySet[M]":
        clone: TrackedQuerySet[M] = super()._clone()  # type: ignore[misc]
        clone._recorded = self._recorded
        return clone

    @property
    def _tracked(self) -> Tracked | None:
        return registry.get(self.model)

    def _write_alias(self) -> str:
        self._for_write = True
        return self.db

    def _fetch_all(self) -> None:
        if self._result_cache is None and self.query.select_for_update and self._tracked is not None:
            connection = connections[self.db]
            if connection.in_atomic_block:
                # The turn comes before any row lock, always, or two transactions could wait for each other.
                take_turn(connection)
        super()._fetch_all()

    # --- inserts

    def _insert(
        self,
        objs: Sequence[M],
        fields: Sequence[Any],
        returning_fields: Any = None,
        raw: bool = False,
        using: str | None = None,
        on_conflict: Any = None,
        update_fields: Any = None,
        unique_fields: Any = None,
    ) -> Any:
        tracked = self._tracked
        using = using or self._write_alias()
        insert = super()._insert  # type: ignore[misc]
        options = (returning_fields, raw, using, on_conflict, update_fields, unique_fields)
        if tracked is None:
            return insert(objs, fields, *options)
        with recording(using) as recorder:
            if on_conflict is None:
                result = insert(objs, fields, *options)
                recorder.changed(tracked, {}, outcomes.inserted(tracked, objs, using))
            else:
                in_the_way = outcomes.may_conflict(objs, unique_fields)
                rows = self.model._base_manager.using(using).filter(in_the_way)
                before = tracked.read(rows)
                result = insert(objs, fields, *options)
                recorder.changed(tracked, before, tracked.read(rows))
        return result

    # --- updates

    def update(self, **kwargs: Any) -> int:
        tracked = self._tracked
        is_plain = self._recorded and not self.query.is_sliced and not self.query.combinator
        if tracked is None or not is_plain or tracked.keys.isdisjoint(kwargs):
            return super().update(**kwargs)
        using = self._write_alias()
        with recording(using) as recorder:
            names = None if tracked.pk_names & kwargs.keys() else tracked.shown(kwargs)
            before = tracked.read(self._chosen(using), names)
            changed = super().update(**kwargs)
            if before:
                recorder.changed(tracked, before, outcomes.updated(tracked, before, kwargs, using))
        return changed

    update.alters_data = True  # type: ignore[attr-defined]

    def _chosen(self, using: str) -> "models.QuerySet[M]":
        """The same records, by a query set that anything may be asked of."""
        query = self.query
        if self._fields is None and not (query.distinct or query.annotations or query.extra):  # type: ignore[attr-defined]
            return self.using(using)
        return self.model._base_manager.using(using).filter(pk__in=self.order_by().values("pk"))

    def bulk_update(self, objs: Iterable[M], fields: Iterable[str], batch_size: int | None = None) -> int:
        """As Django's, with one statement more to read what was there and one for all that changed."""
        tracked = self._tracked
        objs, names = tuple(objs), list(fields)
        is_odd = any(obj.pk is None for obj in objs)
        if tracked is None or is_odd or tracked.keys.isdisjoint(names):
            return super().bulk_update(objs, names, batch_size)
        using = self._write_alias()
        within = self._chain()  # type: ignore[attr-defined]
        within._recorded = False
        with recording(using) as recorder:
            pks = {outcomes.key(tracked, obj.pk) for obj in objs}
            before = tracked.read_many(pks, using, tracked.shown(names))
            changed = super(TrackedQuerySet, within).bulk_update(objs, names, batch_size)
            recorder.changed(tracked, before, outcomes.bulk_updated(tracked, before, objs, names, using))
        return changed

    bulk_update.alters_data = True  # type: ignore[attr-defined]

    # --- deletes

    def delete(self) -> tuple[int, dict[str, int]]:
        if self._tracked is None:
            return super().delete()
        with deleting(self._write_alias()):
            return super().delete()

    delete.alters_data = True  # type: ignore[attr-defined]
    delete.queryset_only = True  # type: ignore[attr-defined]

    def _raw_delete(self, using: Any) -> Any:
        tracked = self._tracked
        raw_delete = super()._raw_delete
        if tracked is None:
            return raw_delete(using)
        with recording(using) as recorder:
            recorder.changed(tracked, tracked.read(self._chosen(using)), {})
            return raw_delete(using)

    _raw_delete.alters_data = True  # type: ignore[attr-defined]


class TrackedManager(models.Manager.from_queryset(TrackedQuerySet)):  # type: ignore[misc]
    """The default manager of a tracked model, and its base manager, for cascades use that."""

    def __class_getitem__(cls, item: Any) -> Any:
        return cls


class TrackedModel(models.Model):
    """A model whose records may be tracked."""

    objects: ClassVar[TrackedManager] = TrackedManager()

    class Meta:
        abstract = True
        base_manager_name = "objects"

    def _do_update(  # type: ignore[override] # the stubs are those of the next Django
        self, base_qs: Any, using: str, pk_val: Any, values: Any, update_fields: Any, forced_update: Any
    ) -> bool:
        tracked = registry.get(type(self))
        update: Any = super()._do_update
        shown = tracked.shown(field.name for field, _, _ in values) if tracked is not None else ()
        if tracked is None or not shown:
            return bool(update(base_qs, using, pk_val, values, update_fields, forced_update))
        with recording(using) as recorder:
            # Read before and after: the instance may be older than its row, and a value be an expression.
            row = tracked.one_row(recorder.connection, shown)
            before = row.raw(pk_val, recorder.cursor)
            changed = bool(update(base_qs, using, pk_val, values, update_fields, forced_update))
            after = row.raw(pk_val, recorder.cursor)
            if before is not None and after is not None and before != after:
                pk = outcomes.key(tracked, pk_val)
                old, new = row.compare(before, after)
                recorder.changed(tracked, {pk: old}, {pk: new})
        return changed

    def delete(self, using: str | None = None, keep_parents: bool = False) -> tuple[int, dict[str, int]]:
        with deleting(using or router.db_for_write(type(self), instance=self)):
            return super().delete(using, keep_parents)

    delete.alters_data = True  # type: ignore[attr-defined]
