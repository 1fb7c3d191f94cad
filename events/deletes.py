"""The signals of deletes: the one place where the capture listens to any.

With receivers connected, Django fetches and announces every record that a delete takes along.
"""

from typing import Any

from django.apps import apps
from django.db import models
from django.db.models.signals import post_delete, pre_delete

from events.recorder import within_delete
from events.rows import State
from events.tracking import Tracked, tracked_as

_STATE = "_events_state_before_delete"


def watch(tracked: Tracked) -> None:
    for model in apps.get_models():
        if (
            model._meta.concrete_model is tracked.model
        ):  # It, or a proxy, whose deletes have signals of their own.
            pre_delete.connect(
                _before, sender=model, dispatch_uid=f"events.before_delete.{model._meta.label}"
            )
            post_delete.connect(_after, sender=model, dispatch_uid=f"events.after_delete.{model._meta.label}")


def _before(sender: type[models.Model], instance: models.Model, using: str, **_: Any) -> None:
    """Reads the record, for the instance may be stale, and says that it will go."""
    tracked = tracked_as(sender)
    if tracked is None:
        return
    with within_delete(using) as recorder:
        recorder.doomed.add((tracked.model, instance.pk))
        instance.__dict__[_STATE] = tracked.one_row(recorder.connection).read(instance.pk)


def _after(sender: type[models.Model], instance: models.Model, using: str, **_: Any) -> None:
    state: State | None = instance.__dict__.pop(_STATE, None)
    tracked = tracked_as(sender)
    if state is not None and tracked is not None:
        with within_delete(using) as recorder:
            recorder.removed(tracked, instance.pk, state)
