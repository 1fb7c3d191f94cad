"""`make run`'s server on the benchmarks' settings: `python -m benchmarks.site.daphne PORT`."""

import os
import sys

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.site.settings")

if __name__ == "__main__":
    import django

    django.setup()
    from vibe.server import run

    run("127.0.0.1", int(sys.argv[1]))
