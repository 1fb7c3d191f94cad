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
from typing import Any, ClassVar, Final, TypeVar

from django.core.exceptions import ImproperlyConfigured
from django.db import connections, models, router
from django.db.models.expressions import Col
from django.db.models.lookups import Exact
from django.db.models.sql.where import AND

from events import deletes, membership, outcomes
from events.actors import actor
from events.recorder import Recorder, deleting, recording, take_turn
from events.tracking import Tracked, registry, tracked_as

__all__ = ["TrackedManager", "TrackedModel", "TrackedQuerySet", "actor", "serialize", "track"]

M = TypeVar("M", bound=models.Model)
_WRITE_NOTHING: Final = (models.CASCADE, models.PROTECT, models.RESTRICT, models.DO_NOTHING)


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

    `scope` is the attribute that holds the id, a UUID, of the scope in which a record lies, or `through` the foreign
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
    meta = model._meta
    is_whole = isinstance(model._base_manager, TrackedManager) and not model._base_manager.all().query.where
    if not issubclass(model, TrackedModel) or not is_whole:
        raise ImproperlyConfigured(
            f"{model.__name__} must derive from TrackedModel and keep its base manager, which leaves nothing out."
        )
    if not isinstance(meta.pk, models.UUIDField) or not meta.pk.has_default():
        raise ImproperlyConfigured(f"The primary key of {model.__name__} must be a UUID made by default.")
    is_parent = any(getattr(relation, "parent_link", False) for relation in meta.related_objects)
    if is_parent or meta.get_parent_list():
        raise ImproperlyConfigured(
            f"{model.__name__} must have one table: no model may inherit from another."
        )
    if tracked.place_name not in tracked.columns:
        raise ImproperlyConfigured(
            f"{model.__name__}: {tracked.place_name}, which decides who sees it, must be public."
        )
    place: Any = tracked.columns[tracked.place_name]
    if not isinstance(place.target_field if place.is_relation else place, models.UUIDField):
        raise ImproperlyConfigured(
            f"{model.__name__}.{tracked.place_name}, which decides who sees it, must be a UUID."
        )
    if tracked.through is not None and tracked.columns[tracked.place_name].null:
        raise ImproperlyConfigured(
            f"{model.__name__}.{tracked.through} decides who sees it: it cannot be null."
        )
    for name, field in tracked.columns.items():
        _check_field(f"{model.__name__}.{name}", field)


def _check_field(name: str, field: Any) -> None:
    if getattr(field, "generated", False):
        raise ImproperlyConfigured(f"{name}: only the database sees when a generated field changes.")
    on_delete = getattr(field.remote_field, "on_delete", None)
    # Of those that write into the field, Django's deletes call only the lazy ones on the query set.
    is_seen = on_delete in _WRITE_NOTHING or getattr(on_delete, "lazy_sub_objs", False)
    if on_delete is not None and not is_seen:
        raise ImproperlyConfigured(
            f"{name}: Django writes SET_DEFAULT and SET(function) past the query set. Use SET(value) or SET_NULL."
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
        return tracked_as(self.model)

    def _write_alias(self) -> str:
        self._for_write = True
        return self.db

    def _fetch_all(self) -> None:
        if self._result_cache is None:
            self._take_turn_to_lock()
        super()._fetch_all()

    def _iterator(self, *args: Any) -> Any:
        self._take_turn_to_lock()
        return super()._iterator(*args)  # type: ignore[misc]

    def _take_turn_to_lock(self) -> None:
        """The turn comes before any row lock, always, or two transactions could wait for each other."""
        if self.query.select_for_update and self._tracked is not None:
            connection = connections[self.db]
            if connection.in_atomic_block:
                take_turn(connection)

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
            pk = self._named_pk()
            if pk is None:
                before = tracked.read(self._chosen(using), names)
                changed = self._held_to(before, recorder)._update_unrecorded(kwargs)
            else:
                before = outcomes.read(tracked, [pk], using, names)
                changed = super().update(**kwargs)
            if before and changed == len(before):
                recorder.changed(tracked, before, outcomes.updated(tracked, before, kwargs, using))
            elif changed:
                recorder.changed(tracked, before, outcomes.read(tracked, list(before), using, names))
        return changed

    update.alters_data = True  # type: ignore[attr-defined]

    def _update_unrecorded(self, values: dict[str, Any]) -> int:
        return super().update(**values)

    def _named_pk(self) -> Any:
        """The primary key that the conditions ask for, if they do: then it is this record or none."""
        where = self.query.where
        if where.connector != AND or where.negated:
            return None
        for condition in where.children:
            if isinstance(condition, Exact) and condition.rhs_is_direct_value():
                column = condition.lhs
                is_own = isinstance(column, Col) and column.alias == self.query.base_table
                if is_own and column.target.primary_key:
                    return condition.rhs
        return None

    def _chosen(self, using: str) -> "models.QuerySet[M]":
        """The same records, by a query set that anything may be asked of."""
        chosen = self.using(using)
        query = chosen.query
        query.select_for_update = False  # The write itself locks, and does so where this query must not.
        if chosen._fields is None and not (query.distinct or query.annotations or query.extra):  # type: ignore[attr-defined]
            return chosen
        return self.model._base_manager.using(using).filter(pk__in=chosen.order_by().values("pk"))

    def _held_to(self, before: dict[Any, Any], recorder: Recorder) -> "TrackedQuerySet[M]":
        """Only what was read: others may commit what is not public, which takes no turn, meanwhile."""
        if recorder.connection.vendor == "sqlite":
            return self
        return self.filter(pk__in=list(before))

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
            if changed == len(before):
                after = outcomes.bulk_updated(tracked, before, objs, names, using)
            else:  # Some are not in this query set.
                after = tracked.read_many(before, using, tracked.shown(names))
            recorder.changed(tracked, before, after)
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
        if tracked is None:
            return super()._raw_delete(using)
        with recording(using) as recorder:
            before = tracked.read(self._chosen(using))
            recorder.changed(tracked, before, {})
            return super(TrackedQuerySet, self._held_to(before, recorder))._raw_delete(using)

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
        tracked = tracked_as(type(self))
        update: Any = super()._do_update
        names = tuple([field.attname for field, _, _ in values])
        shown = tracked.shown(names) if tracked is not None else ()
        if tracked is None or not shown:
            return bool(update(base_qs, using, pk_val, values, update_fields, forced_update))
        with recording(using) as recorder:
            row = tracked.one_row(recorder.connection, shown)
            # The instance may be older than its row.
            before = row.raw(pk_val, recorder.cursor)
            prepared = row.prepared(names, values)
            if prepared is None:
                changed = bool(update(base_qs, using, pk_val, values, update_fields, forced_update))
            else:
                changed = row.update(pk_val, names, prepared, recorder.cursor)
            if changed and before is not None:
                differing = None if prepared is None else row.differing(before, values, prepared)
                old, new = differing or row.compare(before, row.raw(pk_val, recorder.cursor) or before)
                pk = outcomes.key(tracked, pk_val)
                recorder.changed(tracked, {pk: old}, {pk: new})
        return changed

    def delete(self, using: str | None = None, keep_parents: bool = False) -> tuple[int, dict[str, int]]:
        with deleting(using or router.db_for_write(type(self), instance=self)):
            return super().delete(using, keep_parents)

    delete.alters_data = True  # type: ignore[attr-defined]
