"""Looks over the machine, the database and the proxy, and says what to do about what is wrong."""

import json
import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from tasks.doctor import Finding, Level, examine_machine, examine_proxy, worst

MARKS = {Level.OK: "ok     ", Level.NOTE: "note   ", Level.WARNING: "warning", Level.PROBLEM: "PROBLEM"}


class Command(BaseCommand):
    help = "Checks git, agents, database, the proxy in front, file watches and disk, and says what to do."

    # The findings say more than Django's own checks would by stopping the command.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--url", default=settings.PUBLIC_URL, help="the site as people reach it (default: PUBLIC_URL)"
        )
        parser.add_argument(
            "--idle",
            type=float,
            metavar="SECONDS",
            help="how long a silent line must live (default: 4/3 heartbeats)",
        )
        parser.add_argument("--json", action="store_true", dest="as_json", help="one JSON record a line")

    def handle(self, *args: Any, url: str, idle: float | None, as_json: bool, **options: Any) -> None:
        findings = examine_machine()
        if url:
            findings += examine_proxy(url, idle)
        for finding in findings:
            self._show(finding) if not as_json else self.stdout.write(json.dumps(finding.as_dict()))
        if worst(findings) is Level.PROBLEM:
            sys.exit(1)

    def _show(self, finding: Finding) -> None:
        style = {Level.WARNING: self.style.WARNING, Level.PROBLEM: self.style.ERROR}.get(finding.level, str)
        self.stdout.write(f"{style(MARKS[finding.level])}  {finding.check}: {finding.message}")
        if finding.advice:
            self.stdout.write(f"           {finding.advice}")
