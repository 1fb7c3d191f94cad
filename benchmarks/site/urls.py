import asyncio

from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from benchmarks import pace
from events.api import stream
from events.service import service
from vibe.urls import urlpatterns as project

service.register_memory("room")
_publishing: set[asyncio.Task[None]] = set()


@csrf_exempt
async def publish(request: HttpRequest, key: str) -> HttpResponse:
    asked = request.GET
    task = asyncio.create_task(
        pace.publish(
            lambda text: service.publish(f"room:{key}", text.encode()) and None,
            int(asked["count"]),
            int(asked["size"]),
            float(asked["rate"]),
        )
    )
    _publishing.add(task)
    task.add_done_callback(_publishing.discard)
    return HttpResponse(status=202)


urlpatterns = [
    path("room/<str:key>", stream("room")),
    path("publish/<str:key>", publish),
    *project,
]
