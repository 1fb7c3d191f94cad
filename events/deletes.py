"""The signals of deletes: the one place where the capture listens to any.

With receivers connected, Django fetches and announces every record that a delete takes along.
"""

from typing import Any

from django.db import models
from django.db.models.signals import post_delete, pre_delete

from events.recorder import within_delete
from events.tracking import State, Tracked, registry

_STATE = "_events_state_before_delete"


def watch(tracked: Tracked) -> None:
    pre_delete.connect(_before, sender=tracked.model, dispatch_uid=f"events.before_delete.{tracked.name}")
    post_delete.connect(_after, sender=tracked.model, dispatch_uid=f"events.after_delete.{tracked.name}")


def _before(sender: type[models.Model], instance: models.Model, using: str, **_: Any) -> None:
    """Reads the record, for the instance may be stale, and says that it will go."""
    if sender not in registry:
        return
    with within_delete(using) as recorder:
        recorder.doomed.add((sender, instance.pk))
        instance.__dict__[_STATE] = registry[sender].one_row(recorder.connection).read(instance.pk)


def _after(sender: type[models.Model], instance: models.Model, using: str, **_: Any) -> None:
    state: State | None = instance.__dict__.pop(_STATE, None)
    if state is not None:
        with within_delete(using) as recorder:
            recorder.removed(registry[sender], instance.pk, state)
