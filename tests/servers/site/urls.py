import json
import os
import threading
from functools import wraps

import psutil
from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path

from events import monitor
from events.api import bundle, stream
from events.logs import MemoryLog, Reader
from events.service import service
from events.store import Batch

service.register_memory("room", max_bytes=int(os.environ.get("SITE_BUFFER", str(64 * 1024**2))))


class FailingLog(MemoryLog):
    """Cannot be read, which shows when the response has begun."""

    async def start(self, cursor: str | None, reader: Reader) -> Batch:
        raise OSError("The disk is away.")


service.register("failing", FailingLog)


@transaction.non_atomic_requests
async def publish(request: HttpRequest) -> JsonResponse:
    """`{"stream": …, "data": …, "count": n}`: n messages, each its number and the data."""
    asked = json.loads(request.body)
    cursor = ""
    for number in range(asked.get("count", 1)):
        cursor = service.publish(asked["stream"], b"%d %b" % (number, asked["data"].encode()))
    return JsonResponse({"cursor": cursor})


def revoke(request: HttpRequest, name: str) -> HttpResponse:
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO revoked VALUES (%s)", [name])
    return HttpResponse(status=204)


def guarded(view):
    """What a project puts around a view: nobody passes without a word."""

    @wraps(view)
    def inner(request: HttpRequest, key: str) -> HttpResponse:
        return view(request, key) if "X-Word" in request.headers else HttpResponse(status=403)

    return inner


@transaction.non_atomic_requests
async def state(request: HttpRequest) -> JsonResponse:
    """What the process holds."""
    process = psutil.Process()
    return JsonResponse(
        {
            "streams": len(service.subscriptions()),
            "threads": threading.active_count(),
            "os_threads": process.num_threads(),
            "resident": process.memory_info().rss,
            "databases": sum(file.path == os.environ["SITE_DATABASE"] for file in process.open_files()),
            "cut": service.metrics.cut,
            "pid": process.pid,
        }
    )


urlpatterns = [
    path("streams", monitor.streams, name="streams"),
    path("metrics", monitor.metrics),
    path("room/<str:key>", stream("room")),
    path("failing/<str:key>", stream("failing")),
    path("guarded/<str:key>", guarded(stream("room"))),
    path("bundle", bundle),
    path("publish", publish),
    path("revoke/<str:name>", revoke),
    path("state", state),
]
