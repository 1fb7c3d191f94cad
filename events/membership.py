"""Watches the table behind a scope's members, whoever writes it: `add`, `set`, `clear`, a form, a cascade.

Django makes that table's model itself and sends no signal when a cascade, or a write to the table as such,
changes it. So its manager is replaced by one whose query set compares the members before and after.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import models, router

from events.recorder import recording, within_delete
from events.tracking import Membership

_watched: dict[type[models.Model], Membership] = {}


def watch(membership: Membership) -> None:
    _watched[membership.through] = membership
    meta: Any = membership.through._meta
    meta.local_managers.clear()
    manager = _MembershipManager()
    manager.auto_created = True
    manager.contribute_to_class(membership.through, "objects")
    # Cascades select through the base manager.
    meta.base_manager_name = "objects"
    meta._expire_cache()
    membership.through.delete = _delete  # type: ignore[assignment, method-assign]


class _MembershipQuerySet(models.QuerySet[Any]):
    def _write_alias(self) -> str:
        self._for_write = True
        return self.db

    def _scopes(self, using: str) -> set[Any]:
        rows = self.model._base_manager.using(using).filter(pk__in=self.using(using).order_by().values("pk"))
        return set(rows.values_list(_watched[self.model].scope_key, flat=True))

    def _insert(self, objs: Any, fields: Any, *args: Any, using: str | None = None, **kwargs: Any) -> Any:
        using = using or self._write_alias()
        scopes = {getattr(obj, _watched[self.model].scope_key) for obj in objs}
        with _comparing(self.model, lambda: scopes, using):
            return super()._insert(objs, fields, *args, using=using, **kwargs)  # type: ignore[misc]

    def update(self, **kwargs: Any) -> int:
        using = self._write_alias()
        moved_to = {
            getattr(value, "pk", value)
            for name, value in kwargs.items()
            if self.model._meta.get_field(name).attname == _watched[self.model].scope_key
        }
        with _comparing(self.model, lambda: self._scopes(using) | moved_to, using):
            return super().update(**kwargs)

    update.alters_data = True  # type: ignore[attr-defined]

    def _update(self, values: Any) -> int:
        """What `save()` of one of its records calls."""
        using = self._write_alias()
        membership = _watched[self.model]
        moved_to = {value for field, _, value in values if field.attname == membership.scope_key}
        with _comparing(self.model, lambda: self._scopes(using) | moved_to, using):
            changed: int = super()._update(values)  # type: ignore[misc]
        return changed

    def _raw_delete(self, using: Any) -> Any:
        with _comparing(self.model, lambda: self._scopes(using), using):
            return super()._raw_delete(using)

    _raw_delete.alters_data = True  # type: ignore[attr-defined]


def _delete(self: models.Model, using: str | None = None, **_: Any) -> tuple[int, dict[str, int]]:
    """`delete()` of one record: Django's goes past the query set, and would find nothing else to do."""
    rows = type(self)._base_manager.using(using or router.db_for_write(type(self), instance=self))
    deleted = rows.filter(pk=self.pk)._raw_delete(rows.db)
    return deleted, {self._meta.label: deleted}


class _MembershipManager(models.Manager.from_queryset(_MembershipQuerySet)):  # type: ignore[misc]
    pass


@contextmanager
def _comparing(through: type[models.Model], touched: Callable[[], set[Any]], using: str) -> Iterator[None]:
    """Writes down how the members of the scopes that the block touches changed within it."""
    membership = _watched[through]
    # Once for the turn and the transaction, which hold for both readings; the rows belong to the delete
    # that is going on, if one is, for it knows which scopes are about to go altogether.
    with recording(using), within_delete(using) as recorder:
        # Before the turn, others may bring another scope among those that the block is about.
        scopes = {membership.of.model._meta.pk.to_python(scope) for scope in touched()}
        before = membership.read(scopes, using)
        yield
        recorder.members_changed(membership, before, membership.read(scopes, using))
