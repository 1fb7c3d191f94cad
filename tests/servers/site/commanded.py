"""The site as the command `daphne` loads it, where a project lets our Server class serve it."""

from tests.servers.site.asgi import application
from vibe.server import serve_for_the_daphne_command

serve_for_the_daphne_command()

__all__ = ["application"]
