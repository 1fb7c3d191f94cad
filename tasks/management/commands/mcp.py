"""Serves the board to one agent over stdin and stdout (Model Context Protocol)."""

import os
from collections.abc import Callable
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser

from tasks.tokens import find_token

TOKEN = "VIBE_TOKEN"


class Command(BaseCommand):
    help = f"Serves the board to an agent by MCP on stdin and stdout, as --user or the owner of ${TOKEN}."
    requires_system_checks: list[str] = []  # they would load every page of the site

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--user", help=f"in whose name (default: the owner of the API token in ${TOKEN})")

    def handle(self, *args: Any, user: str | None, **options: Any) -> None:
        person = person_of(user)
        from tasks.mcp_server import make_server  # half a second, of which a refusal has no need

        make_server(person).run("stdio")


def person_of(name: str | None) -> Callable[[], User | None]:
    """Finds the user at each call, so that a revoked token or a deactivated account acts no more."""
    secret = os.environ.pop(TOKEN, "")
    if name is None and not secret:
        raise CommandError(f"Say who acts: --user NAME, or an API token (manage.py token NAME) in ${TOKEN}.")

    def person() -> User | None:
        if name is not None:
            return User.objects.filter(username=name, is_active=True).first()
        token = find_token(secret)
        return token.user if token else None

    if person() is None:
        raise CommandError(
            f"There is no active user {name!r}."
            if name is not None
            else f"The token in ${TOKEN} is not valid."
        )
    return person
