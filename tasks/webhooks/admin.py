"""Webhooks and what was sent to them, for superusers."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from tasks.admin import SuperusersOnly
from tasks.webhooks.models import (
    PING,
    Webhook,
    WebhookDelivery,
    WebhookEvent,
    all_events,
    new_secret,
)

Status = WebhookDelivery.Status


class WebhookForm(forms.ModelForm):
    events = forms.MultipleChoiceField(
        choices=WebhookEvent.choices, initial=all_events, widget=forms.CheckboxSelectMultiple
    )

    class Meta:
        model = Webhook
        fields = ["url", "events", "project", "enabled"]


@admin.register(Webhook)
class WebhookAdmin(SuperusersOnly):
    """The server calls these addresses from inside its own network, so only superusers name them."""

    form = WebhookForm
    list_display = ["url", "events", "project", "enabled", "last_delivery"]
    list_filter = ["enabled", "project"]
    search_fields = ["url"]
    actions = ["send_test", "change_secret"]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        """Before it is saved a webhook has no secret: the one that a form would show is not the one it gets."""
        return ["secret", "created_at"] if obj else []

    @admin.display(description="last delivery")
    def last_delivery(self, webhook: Webhook) -> str:
        last = webhook.deliveries.order_by("-created_at").first()
        return "–" if last is None else f"{last.event}: {last.get_status_display()}"

    @admin.action(description="Send a test message")
    def send_test(self, request: HttpRequest, webhooks: QuerySet[Webhook]) -> None:
        for webhook in webhooks:
            payload = {"type": PING, "timestamp": timezone.now().isoformat(), "data": {"text": "It works."}}
            WebhookDelivery.objects.create(
                webhook=webhook, event=PING, payload=payload, next_attempt_at=timezone.now()
            )
        self.message_user(
            request, "Test messages are on their way: see Webhook deliveries.", messages.SUCCESS
        )

    @admin.action(description="Make a new secret (the old one stops working)")
    def change_secret(self, request: HttpRequest, webhooks: QuerySet[Webhook]) -> None:
        for webhook in webhooks:
            webhook.secret = new_secret()
            webhook.save(update_fields=["secret"])
        self.message_user(request, "The new secrets are on the webhooks' pages.", messages.SUCCESS)


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(SuperusersOnly):
    list_display = [
        "created_at", "event", "webhook", "status", "attempts", "response_status", "next_attempt_at",
    ]  # fmt: skip
    list_filter = ["status", "event", "webhook"]
    list_select_related = ["webhook"]
    search_fields = ["id", "error", "webhook__url"]
    date_hierarchy = "created_at"
    actions = ["send_again"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return [field.name for field in WebhookDelivery._meta.fields]

    @admin.action(description="Send again")
    def send_again(self, request: HttpRequest, deliveries: QuerySet[WebhookDelivery]) -> None:
        count = deliveries.update(status=Status.PENDING, attempts=0, next_attempt_at=timezone.now())
        self.message_user(request, f"{count} messages will be sent again now.", messages.SUCCESS)
