"""The site on our daphne: `python -m tests.servers.site.daphne PORT`."""

import os
import sys

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.servers.site.settings")

if __name__ == "__main__":
    django.setup()
    from vibe.server import run

    run("127.0.0.1", int(sys.argv[1]))
