"""The log of committed changes, and what identifies it."""

import secrets
from typing import Any

import orjson
from django.apps import apps as installed
from django.apps.registry import Apps
from django.db import models
from django.utils import timezone


def new_epoch() -> str:
    return secrets.token_hex(4)


class ChangeLog(models.Model):
    """The one row that says which log this database has, and how much of its beginning is gone.

    `epoch` is a part of every cursor: a cursor of another epoch belongs to another history.
    `pruned_to` is the last row id that was pruned: cursors before it cannot be resumed from.
    """

    epoch = models.CharField(max_length=16, default=new_epoch)
    pruned_to = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.epoch}, pruned to {self.pruned_to}"

    @classmethod
    def current(cls, using: str | None = None) -> "ChangeLog":
        """The row, made at its first use."""
        manager = cls._base_manager.using(using)
        return manager.filter(pk=1).first() or manager.get_or_create(pk=1)[0]

    @classmethod
    def start_over(cls, using: str | None = None) -> "ChangeLog":
        """Begins another history: with the commit of this, every client starts over from a full state."""
        log = cls.current(using)
        log.epoch = new_epoch()
        log.save(using=using, update_fields=["epoch"])
        return log


def ensure_log(using: str, plan: Any = (), apps: Apps = installed, **_: Any) -> None:
    """Makes the row after each migrate, and after a flush, which begins another history.

    So do migrations: they change what records look like, and write past the models' own query sets.
    Where `apps`, the models as they were migrated to, is without the log, there is no table for it.
    """
    if ChangeLog._meta.model_name not in apps.all_models["events"]:
        return
    if plan:
        ChangeLog.start_over(using)
    else:
        ChangeLog.current(using)


class DatabaseChange(models.Model):
    """One RFC 6902 operation on the streamed document, written in the transaction that made the change.

    Ids grow in the order of commits, so a row's id is the cursor of the changes stream.

    `path` is the JSON pointer within the record; "" means the record itself: `add` it, `remove` it, or
    `move` it (nothing in it changed, but who may see it did). `scope` says where the record lies after the
    operation and `scope_before` where it lay before. Where these differ, the first row of the change has
    `full_json`, the whole record: who sees only one of the two gets an `add` of that, or a `remove`, and
    nothing for the other rows. The `…_json` columns hold JSON text as it is sent.
    """

    class Operation(models.TextChoices):
        ADD = "add"
        REPLACE = "replace"
        REMOVE = "remove"
        MOVE = "move"

    class ActorKind(models.TextChoices):
        USER = "user"
        ADMIN = "admin"
        TOKEN = "token"
        COMMAND = "command"
        RUNNER = "runner"
        SYSTEM = "system"

    table = models.CharField(max_length=50)
    object_id = models.CharField(max_length=36, db_index=True)
    operation = models.CharField(max_length=7, choices=Operation.choices)
    path = models.TextField(blank=True)
    value_json = models.TextField(null=True)
    old_json = models.TextField(null=True)
    full_json = models.TextField(null=True)
    scope = models.CharField(max_length=36, null=True)
    scope_before = models.CharField(max_length=36, null=True)
    actor_kind = models.CharField(max_length=10, choices=ActorKind.choices)
    actor_id = models.CharField(max_length=36, null=True)
    actor_label = models.CharField(max_length=150, blank=True)
    at = models.DateTimeField(default=timezone.now)
    size = models.IntegerField(help_text="What the row's JSON occupies, in bytes.")

    class Meta:
        ordering = ["id"]
        verbose_name = "change"
        # The few that tell what hung on a record that is still there.
        indexes = [
            models.Index(fields=["table"], name="events_removals", condition=models.Q(operation="remove"))
        ]

    def __str__(self) -> str:
        return f"{self.operation} /{self.table}/{self.object_id}{self.path}"

    @property
    def field(self) -> str:
        """The public field that changed; "" where the operation is on the record itself."""
        return self.path[1:].partition("/")[0]

    @property
    def value(self) -> Any:
        return None if self.value_json is None else orjson.loads(self.value_json)

    @property
    def old(self) -> Any:
        """What was there before, for people; the whole record for a `remove`."""
        return None if self.old_json is None else orjson.loads(self.old_json)
