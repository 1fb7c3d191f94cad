"""Values of model fields as the JSON values that clients see."""

import datetime
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson
from django.db import models
from django.utils import timezone

from events.patches import encode


def is_expression(value: Any) -> bool:
    """Whether only the database knows what will become of this value (F("position") + 1)."""
    return hasattr(value, "resolve_expression")


def public(field: "models.Field[Any, Any]", value: Any) -> Any:
    """A value that was assigned to a field, as the JSON value that the database will give back."""
    if value is None:
        return None
    if isinstance(field, models.JSONField):
        return orjson.loads(encode(value))
    if type(value) is str and isinstance(field, (models.CharField, models.TextField)):
        return value
    return json_value(field.to_python(value))


def json_value(value: Any) -> Any:
    convert = _CONVERSIONS.get(type(value))
    if convert is not None:
        return convert(value)
    if isinstance(value, str):  # A member of TextChoices.
        return str(value)
    return value


def moment(value: datetime.datetime) -> str:
    """ISO 8601 in UTC with microseconds and a Z."""
    if timezone.is_naive(value):
        value = timezone.make_aware(value)
    return value.astimezone(datetime.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


_CONVERSIONS: dict[type, Callable[[Any], Any]] = {
    UUID: str,
    datetime.datetime: moment,
    datetime.date: datetime.date.isoformat,
    Decimal: str,
}
