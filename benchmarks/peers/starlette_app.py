"""sse-starlette, as its documentation has it: a queue for each reader. It keeps no history."""

import asyncio
from collections.abc import AsyncIterator

from sse_starlette.sse import EventSourceResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from benchmarks import pace

queues: set[asyncio.Queue[str]] = set()
tasks: set[asyncio.Task[None]] = set()


def send(text: str) -> None:
    for queue in queues:
        queue.put_nowait(text)


async def room(request: Request) -> EventSourceResponse:
    queue: asyncio.Queue[str] = asyncio.Queue()
    queues.add(queue)

    async def events() -> AsyncIterator[dict[str, str]]:
        yield {"comment": "hello"}
        number = 0
        try:
            while True:
                number += 1
                yield {"id": str(number), "data": await queue.get()}
        finally:
            queues.discard(queue)

    return EventSourceResponse(events())


async def publish(request: Request) -> Response:
    asked = request.query_params
    task = asyncio.create_task(
        pace.publish(send, int(asked["count"]), int(asked["size"]), float(asked["rate"]))
    )
    tasks.add(task)
    return Response(status_code=202)


app = Starlette(
    routes=[Route("/room/{key}", room), Route("/publish/{key}", publish, methods=["POST", "GET"])]
)
