"""django-eventstream in the smallest Django project, without a store, as it comes."""

import asyncio
import os
from typing import Any

from django.conf import settings

settings.configure(
    SECRET_KEY="only for benchmarks",
    ALLOWED_HOSTS=["*"],
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django_eventstream"],
    ROOT_URLCONF=__name__,
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["BENCH_DATABASE"]}},
    LOGGING_CONFIG=None,
)

import django  # noqa: E402

django.setup()

import django_eventstream.urls  # noqa: E402
from asgiref.sync import sync_to_async  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.urls import include, path  # noqa: E402
from django_eventstream import send_event  # noqa: E402

from benchmarks import pace  # noqa: E402

tasks: set[asyncio.Task[None]] = set()


def send(text: str) -> Any:
    return sync_to_async(send_event)("room", "message", text, json_encode=False)


async def publish(request: HttpRequest, key: str) -> HttpResponse:
    asked = request.GET
    tasks.add(
        asyncio.create_task(pace.publish(send, int(asked["count"]), int(asked["size"]), float(asked["rate"])))
    )
    return HttpResponse(status=202)


urlpatterns = [
    path("room/<str:key>/", include(django_eventstream.urls), {"channels": ["room"]}),
    path("publish/<str:key>", publish),
]
application = get_asgi_application()
