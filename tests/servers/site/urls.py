import json
import os
import threading

import psutil
from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path

from events import monitor
from events.api import stream
from events.service import service

service.register_memory("room", max_bytes=int(os.environ.get("SITE_BUFFER", str(64 * 1024**2))))


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
    path("publish", publish),
    path("revoke/<str:name>", revoke),
    path("state", state),
]
