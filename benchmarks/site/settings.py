from vibe.settings import *  # noqa: F403

ROOT_URLCONF = "benchmarks.site.urls"
ASGI_APPLICATION = "benchmarks.site.asgi.application"
EVENTS_ACCESS = "benchmarks.site.access.RoomsToo"
EVENTS_BUFFER_BYTES = 64 * 1024**2
EVENTS_MAX_STREAMS_PER_USER = 12_000
