"""Has every client start over: for after raw SQL by hand, or a restored backup."""

from typing import Any

from django.core.management.base import BaseCommand

from events.models import ChangeLog


class Command(BaseCommand):
    help = (
        "Begin another history of changes, so that every client starts over from a full state. "
        "For after records were changed by SQL past Django, or a backup was restored."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        log = ChangeLog.start_over()
        self.stdout.write(f"Every client starts over: the history is now {log.epoch}.")
