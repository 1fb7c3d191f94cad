"""Prints the active streams of a running server."""

from argparse import ArgumentParser
from typing import Any

import orjson
from django.core.management.base import BaseCommand, CommandError

from events.control import ask

_COLUMNS = ("stream", "subscribers", "messages", "bytes", "cursor")


class Command(BaseCommand):
    help = "The active streams of a running server: subscribers, buffered messages and bytes, cursor."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print the same as a JSON list")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            servers = ask()
        except TimeoutError:
            raise CommandError("A server runs, but does not answer.") from None
        if not servers:
            raise CommandError("No server is running.")
        rows = [row for server in servers for row in server["streams"]]
        if options["json"]:
            self.stdout.write(orjson.dumps(rows).decode())
        elif not rows:
            self.stdout.write("No stream is open.")
        else:
            self._table([_COLUMNS, *(tuple(str(row[name]) for name in _COLUMNS) for row in rows)])

    def _table(self, rows: list[tuple[str, ...]]) -> None:
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for first, *numbers in rows:
            cells = [first.ljust(widths[0])]
            cells += [cell.rjust(width) for cell, width in zip(numbers, widths[1:], strict=True)]
            self.stdout.write("  ".join(cells))
