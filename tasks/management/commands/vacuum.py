from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.template.defaultfilters import filesizeformat

from tasks.models import Project
from tasks.runs import housekeeping


class Command(BaseCommand):
    help = (
        "Compresses old logs, removes worktrees of ended attempts and what belongs to no record any more. "
        "The server does the same every hour. Uncommitted work is removed only where --uncommitted asks for it."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--now", action="store_true", help="also what ended a moment ago")
        parser.add_argument(
            "--uncommitted",
            action="store_true",
            help="also worktrees of ended attempts with uncommitted work, which is kept for 30 days",
        )
        parser.add_argument("--disk", action="store_true", help="only say what each project takes")

    def handle(self, *args: Any, **options: Any) -> None:
        if not options["disk"]:
            self._tell(housekeeping.tidy(now=options["now"], uncommitted=options["uncommitted"]))
        for use in housekeeping.disk_use(Project.objects.all()):
            logs, worktrees = filesizeformat(use.logs), filesizeformat(use.worktrees)
            self.stdout.write(f"{use.project.name}: logs {logs}, worktrees {worktrees}")

    def _tell(self, report: housekeeping.Report) -> None:
        saved = filesizeformat(report.saved_bytes)
        self.stdout.write(
            f"Compressed {report.compressed_logs} logs ({saved} saved); removed {report.removed_worktrees} worktrees, "
            f"{report.removed_folders} folders of deleted runs, {report.expired_refs} kept references."
        )
