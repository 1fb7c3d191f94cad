"""Deletes old rows of the log of changes, as the running server does by itself."""

from argparse import ArgumentParser, ArgumentTypeError
from typing import Any

from django.core.management.base import BaseCommand

from events.pruning import prune


def number(text: str) -> float:
    """Of days or bytes to keep. With less than none, nearly everything would go."""
    found = float(text)
    if not found >= 0:
        raise ArgumentTypeError(f"{text} is not 0 or more")
    return found


class Command(BaseCommand):
    help = "Delete old changes. The running server does this by itself; clients too far behind start over."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--days", type=number, help="keep this many days (default: EVENTS_KEEP_DAYS)")
        parser.add_argument("--bytes", type=number, help="keep this much (default: EVENTS_KEEP_BYTES)")

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(f"Deleted {prune(options['days'], options['bytes'])} changes.")
