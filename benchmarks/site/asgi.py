import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.site.settings")

from vibe.asgi import application

__all__ = ["application"]
