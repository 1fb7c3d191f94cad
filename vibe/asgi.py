"""The application as every ASGI server loads it: lifespan, static files, Django."""

import os
import sys

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "vibe.settings")
django.setup(set_prefix=False)

from events.asgi import StreamHandler  # noqa: E402
from events.lifecycle import Lifespan  # noqa: E402
from vibe.static import StaticFiles  # noqa: E402

if "daphne.cli" in sys.modules:  # The others are spared the loading of Twisted.
    from vibe.server import serve_for_the_daphne_command

    serve_for_the_daphne_command()

application = Lifespan(StaticFiles(StreamHandler()))
