"""What `make run` does: brings the database up to date, prints a sign-in link, serves."""

import os
import re
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections
from django.db.migrations.executor import MigrationExecutor

from events.capture import actor
from tasks import locks
from tasks.demo import make_demo_project
from tasks.models import Project
from tasks.tokens import make_sign_in_link

ADMIN = "admin"


class Command(BaseCommand):
    help = "Migrates, makes the demo project in an empty database, prints a sign-in link and serves (HOST, PORT)."

    # What they look at is the same in every installation, where the tests have looked; settings are checked when read.
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        host, port = os.environ.get("HOST") or "127.0.0.1", _port()
        # Of two servers that start at once on an empty folder, one makes all this and the other finds it.
        with locks.held(Path(settings.VIBE_DATA) / "start.lock"):
            self._migrate()
            user = self._first_superuser()
        from vibe.server import run

        def listening() -> None:
            shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
            shown = f"[{shown}]" if ":" in shown else shown
            self.stdout.write(f"Sign in: http://{shown}:{port}/sign-in/{make_sign_in_link(user)}")
            self.stdout.flush()

        run(host, port, on_listening=listening)

    def _migrate(self) -> None:
        try:
            executor = MigrationExecutor(connections[DEFAULT_DB_ALIAS])
        except DatabaseError as error:
            raise CommandError(f"{_database()} is a database that cannot be used: {error}") from error
        # The check takes a tenth of what the command takes, and on most starts it is all there is to do.
        if executor.migration_plan(executor.loader.graph.leaf_nodes()):
            call_command("migrate", interactive=False, verbosity=0)

    def _first_superuser(self) -> User:
        user = User.objects.filter(is_superuser=True, is_active=True).order_by("pk").first()
        if user is None:
            # No password exists: the sign-in link is the way in, until one is set in the admin.
            user = User.objects.create_superuser(ADMIN)
        if not Project.objects.exists() and user.last_login is None:
            with actor("command", label="serve"):
                make_demo_project(user)
        return user


def _database() -> str:
    """What names it, without the password."""
    raw = os.environ.get("DATABASE_URL") or f"sqlite:///{connections[DEFAULT_DB_ALIAS].settings_dict['NAME']}"
    return f"DATABASE_URL={re.sub(r'(?<=:)[^/]*(?=@)', '…', raw)!r}"


def _port() -> int:
    raw = os.environ.get("PORT") or "8000"
    if not raw.isdecimal() or not 0 < int(raw) < 65536:
        raise CommandError(f"PORT={raw!r} is not a port number: use 1 to 65535.")
    return int(raw)
