"""Where to send what happens, what was sent, and how far the changes have been looked through."""

import base64
import secrets
import uuid

from django.core.validators import URLValidator
from django.db import models
from django.db.models import Q


class WebhookEvent(models.TextChoices):
    RUN_ENDED = "run.ended", "A run has ended"
    TASK_MOVED = "task.moved", "A task has moved to another column"


PING = "ping"


def new_secret() -> str:
    """A secret as standardwebhooks.com has it: `whsec_` and 32 random bytes in base64."""
    return f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"


def all_events() -> list[str]:
    return list(WebhookEvent.values)


class Webhook(models.Model):
    """An address that is told of events. Only superusers name one: the server will call it from inside."""

    url = models.CharField("URL", max_length=1000, validators=[URLValidator(schemes=["http", "https"])])
    events = models.JSONField(default=all_events)
    project = models.ForeignKey(
        "tasks.Project",
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="webhooks",
        help_text="Events of this project only; of all projects if none is chosen.",
    )
    secret = models.CharField(
        max_length=200,
        default=new_secret,
        editable=False,
        help_text="Give it to the receiver, who checks the signature of each message with it.",
    )
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["url"]

    def __str__(self) -> str:
        return self.url


class WebhookDelivery(models.Model):
    """One message to one webhook: what it says, and how sending it went."""

    class Status(models.TextChoices):
        PENDING = "pending", "Pending"
        DELIVERED = "delivered", "Delivered"
        FAILED = "failed", "Given up"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    webhook = models.ForeignKey(Webhook, on_delete=models.CASCADE, related_name="deliveries")
    event = models.CharField(max_length=50)
    change_id = models.BigIntegerField(null=True, editable=False, help_text="The change it tells of.")
    payload = models.JSONField()
    status = models.CharField(max_length=20, choices=Status.choices, default=Status.PENDING)
    attempts = models.PositiveIntegerField(default=0)
    next_attempt_at = models.DateTimeField(null=True)
    response_status = models.PositiveIntegerField(null=True, help_text="The HTTP status of the last answer.")
    error = models.TextField(blank=True, help_text="Why the last attempt failed.")
    created_at = models.DateTimeField(auto_now_add=True)
    delivered_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-created_at"]
        verbose_name_plural = "webhook deliveries"
        constraints = [
            # A change that is looked at twice, after a crash or by two processes, is still one message.
            models.UniqueConstraint(fields=["webhook", "change_id"], name="webhookdelivery_once"),
            models.CheckConstraint(
                condition=Q(status__in=["pending", "delivered", "failed"]),
                name="webhookdelivery_status_valid",
            ),
        ]
        indexes = [models.Index(fields=["status", "next_attempt_at"])]

    def __str__(self) -> str:
        return f"{self.event} to {self.webhook}"


class WebhookCursor(models.Model):
    """The one row (id 1) that says up to which DatabaseChange, of which epoch, deliveries have been made."""

    epoch = models.CharField(max_length=16)
    change_id = models.BigIntegerField()

    def __str__(self) -> str:
        return f"{self.epoch}.{self.change_id}"
