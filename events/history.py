"""What happened to a record, for people: who, by which door, when, what from and to.

Told from the rows that feed the changes stream, as far back as these are kept.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, Final
from uuid import UUID

from django.db.models import JSONField, Model
from django.db.models.fields.json import KeyTransform
from django.db.models.functions import Cast

from events.access import ALL, Scope
from events.models import DatabaseChange
from events.patches import encode
from events.tracking import Tracked, registry
from events.values import moment

_NO_NEWS: Final = frozenset({"updated_at"})
"""Fields that change along with others."""
_BRIEF: Final = 120


@dataclass(frozen=True)
class Entry:
    """One line of a history. `at` is ISO 8601 in UTC; `old` and `value` are JSON values, None where there are none.

    Of a record that was removed, `old` is all of it; of one that was added, there is no `value`.
    """

    id: int
    at: str
    actor_kind: str
    actor_label: str
    """Who, in words: "anna", "anna in the admin", "the runner", "manage.py loaddata"."""
    table: str
    object_id: str
    operation: str
    """add | replace | remove | move; with a field, what was done to that."""
    field: str
    old: Any
    value: Any

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "actor": {"kind": self.actor_kind, "label": self.actor_label}}

    def __str__(self) -> str:
        return f"{self.at} {self.actor_label}: {self.what()}"

    def what(self) -> str:
        thing = _singular(self.table)
        if not self.field:
            return {"add": "made", "remove": "deleted"}.get(self.operation, "moved") + f" the {thing}"
        return f"{thing} {self.field.replace('_', ' ')}: {_brief(self.old)} → {_brief(self.value)}"


def of_record(record: Model, *, scope: Scope = ALL, limit: int = 200) -> list[Entry]:
    """The newest `limit` entries about a tracked record and those that hang or hung on it, newest first.

    With a scope, only what its readers may see: nothing from before a record came into their sight.
    """
    rows = DatabaseChange.objects.filter(object_id__in=_family(record))
    found = (entry_of(row) for row in rows.order_by("-id").iterator() if _shows(row, scope))
    return list(islice(found, limit))


def _family(record: Model) -> set[str]:
    """The ids of a record and of all that hang on it, or did so when they were deleted."""
    tracked = registry[type(record)]
    ids = {tracked: {str(record.pk)}}
    for child, _ in tracked.dependents:
        ids[child] = _children(child, ids[child.parent])
    return set().union(*ids.values())


def _children(child: Tracked, parents: Iterable[str]) -> set[str]:
    alive = child.model._base_manager.filter(**{f"{child.through}__in": parents}).values_list("pk", flat=True)
    removed = DatabaseChange.objects.filter(table=child.name, operation=DatabaseChange.Operation.REMOVE)
    hung_on = KeyTransform(child.place_name, Cast("old_json", JSONField()))
    gone = removed.alias(hung_on=hung_on).filter(hung_on__in=parents).values_list("object_id", flat=True)
    return {*map(str, alive), *gone}


def _shows(row: DatabaseChange, scope: Scope) -> bool:
    places = {UUID(place) for place in (row.scope, row.scope_before) if place is not None}
    return row.field not in _NO_NEWS and all(place in scope for place in places)


def entry_of(row: DatabaseChange) -> Entry:
    is_removed = row.operation == DatabaseChange.Operation.REMOVE
    return Entry(
        row.pk,
        moment(row.at),
        row.actor_kind,
        who(row),
        row.table,
        row.object_id,
        row.operation,
        row.field,
        row.old if row.field or is_removed else None,
        row.value if row.field else None,
    )


def who(row: DatabaseChange) -> str:
    kind, label = row.actor_kind, row.actor_label
    if kind == DatabaseChange.ActorKind.COMMAND:
        return f"manage.py {label}".strip()
    if not label:
        return f"the {kind}"
    return {
        "admin": f"{label} in the admin",
        "token": f"{label} by API token",
        "runner": f"the runner, for {label}",
    }.get(kind, label)


def _singular(table: str) -> str:
    """ "execution_processes" -> "execution process"."""
    return str(next((one.model._meta.verbose_name for one in registry.values() if one.name == table), table))


def _brief(value: Any) -> str:
    if value in (None, "", []):
        return "nothing"
    text = value if isinstance(value, str) else encode(value).decode()
    return f"“{text[:_BRIEF]}…”" if len(text) > _BRIEF else f"“{text}”"
