"""What every page of the site is given."""

import time

from django.conf import settings
from django.http import HttpRequest


def page(request: HttpRequest) -> dict[str, object]:
    return {"heartbeat_seconds": settings.EVENTS_HEARTBEAT_SECONDS, "now": int(time.time() * 1000)}
