"""The engine's settings, each with the default that it has in a project that does not set it."""

from typing import Any, Final

from django.conf import settings

DEFAULTS: Final[dict[str, Any]] = {
    "EVENTS_ACCESS": "events.access.SignedIn",
    "EVENTS_BUFFER_BYTES": 64 * 1024**2,
    "EVENTS_HEARTBEAT_SECONDS": 15.0,
    "EVENTS_KEEP_BYTES": 512 * 1024**2,
    "EVENTS_KEEP_DAYS": 30.0,
    "EVENTS_MAX_MESSAGE_BYTES": 1024**2,
    "EVENTS_MAX_STREAMS": 12_000,
    "EVENTS_MAX_STREAMS_PER_USER": 200,
    "EVENTS_PRUNE_SECONDS": 300.0,
    "EVENTS_SEND_TIMEOUT_SECONDS": 30.0,
}


def setting(name: str) -> Any:
    """The project's value of this setting, or the default."""
    return getattr(settings, name, DEFAULTS[name])
