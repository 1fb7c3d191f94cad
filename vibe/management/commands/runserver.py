"""Django's development server on our own Server class, with the static files of our own application."""

from typing import Any

from daphne.management.commands.runserver import Command as DaphneCommand
from daphne.management.commands.runserver import get_default_application

from vibe.server import Server


class Command(DaphneCommand):
    server_cls = Server

    def get_application(self, options: dict[str, Any]) -> Any:
        return get_default_application()
