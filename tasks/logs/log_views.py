"""Parts of a log for the page: lines by number, and a search through all of it; and what a project takes on disk."""

import asyncio
import json
import sys
import threading
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    JsonResponse,
    StreamingHttpResponse,
)
from django.urls import path

from events.responses import never_compress, no_buffering, nobody_known, problem
from tasks import permissions
from tasks.api.auth import caller
from tasks.logs import runlogs
from tasks.models import ExecutionProcess
from tasks.runs import housekeeping, runfiles
from tasks.supervision.logreader import LogReader, index_of
from tasks.supervision.search import matcher

_PROGRAM: Final = Path(__file__).resolve().parent / "log_search.py"
_MOST_LINES: Final = 5000
_MOST_BYTES: Final = 4_000_000
"""Of records in one answer, or one record: a line may have a megabyte, and a page asks for hundreds of lines."""
_LONGEST_QUERY: Final = 1000
_searches: Final = threading.BoundedSemaphore(8)
"""Each search is a process of its own."""


def lines(request: HttpRequest, process_id: UUID) -> HttpResponse:
    """Records by number: `?first=` (from 0; negative counts from the end) and `?count=`.

    `{"first", "total", "cursor", "records"}`; a stream opened with `cursor` gives exactly what follows. Of very long
    lines fewer come: the first of those that were asked for, or, counted from the end, the last.
    """
    process = _process(request, process_id)
    if isinstance(process, JsonResponse):
        return process
    try:
        first, count = int(request.GET.get("first", 0)), int(request.GET.get("count", 500))
    except ValueError:
        return problem(422, "first and count are whole numbers.")
    return JsonResponse(range_of(process, first, max(1, min(count, _MOST_LINES))))


def disk(request: HttpRequest, project_id: UUID) -> HttpResponse:
    """What a project takes on disk: `{"logs", "worktrees"}` in bytes. Counts file by file, so it may take seconds."""
    user = caller(request)
    if user is None:
        return nobody_known()
    (use,) = housekeeping.disk_use(permissions.visible_projects(user).filter(pk=project_id)) or (None,)
    if use is None:
        return problem(404, f"There is no project {project_id} that you may see.")
    return JsonResponse({"logs": use.logs, "worktrees": use.worktrees})


def range_of(process: ExecutionProcess, first: int, count: int) -> dict[str, Any]:
    folder = runfiles.folder_of(process.pk).path
    index, file = index_of(folder), LogReader(folder)
    total = index.total()
    from_end = first < 0
    first = max(0, total + first) if from_end else min(first, total)
    offset = index.offset(first)
    found: deque[dict[str, Any]] = deque()
    sizes: deque[int] = deque()
    held = 0
    for end, record in runlogs.records(file, offset):
        if held + end - offset > _MOST_BYTES and found and not from_end:
            break
        found.append(record)
        sizes.append(end - offset)
        held += end - offset
        offset = end
        while held > _MOST_BYTES and len(found) > 1:
            found.popleft()
            held -= sizes.popleft()
            first += 1
            count -= 1
        if len(found) == count:
            break
    return {
        "first": first,
        "total": max(total, first + len(found)),
        "cursor": runlogs.cursor_at(process, offset),
        "records": list(found),
    }


def search(request: HttpRequest, process_id: UUID) -> HttpResponseBase:
    """Hits as JSON lines while they are found; closing the connection ends the search.

    `?q=`, `?regex=1`, `?case=1`. A hit is `{"line", "content"}`; now and then `{"scanned", "total"}`; last `{"done"}`.
    """
    process = _process(request, process_id)
    if isinstance(process, JsonResponse):
        return process
    query = request.GET.get("q", "")
    options = {"regex": request.GET.get("regex") == "1", "case": request.GET.get("case") == "1"}
    if not query or len(query) > _LONGEST_QUERY:
        return problem(422, f"q is 1 to {_LONGEST_QUERY} characters.")
    try:
        matcher(query, **options)
    except ValueError as error:
        return problem(422, str(error))
    folder = runfiles.folder_of(process.pk).path
    never_compress(request)
    response = StreamingHttpResponse(
        _hits(folder, {"query": query, **options}), content_type="application/x-ndjson"
    )
    no_buffering(response)
    return response


async def _hits(folder: str, query: dict[str, Any]) -> AsyncGenerator[bytes]:
    if not _searches.acquire(blocking=False):
        yield _gave_up("Many searches go on already: try again in a moment.")
        return
    try:
        async for data in _found(folder, query):
            yield data
    finally:
        _searches.release()


async def _found(folder: str, query: dict[str, Any]) -> AsyncIterator[bytes]:
    # No thread waits for it: the interpreter would wait for that when the server ends.
    worker = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", str(_PROGRAM), folder),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert worker.stdin is not None and worker.stdout is not None
    try:
        worker.stdin.write(json.dumps(query).encode())
        worker.stdin.close()
        while data := await worker.stdout.read(65536):
            yield data
        if await worker.wait():
            yield _gave_up("The search took too long and was ended.")
    finally:
        with suppress(ProcessLookupError):  # It has ended by itself.
            worker.kill()
        await worker.wait()


def _gave_up(why: str) -> bytes:
    return json.dumps({"done": True, "hits": 0, "truncated": True, "error": why}).encode() + b"\n"


def _process(request: HttpRequest, process_id: UUID) -> ExecutionProcess | JsonResponse:
    """The run, or the answer to whoever may not see it."""
    user = caller(request)
    if user is None:
        return nobody_known()
    try:
        return permissions.get_process(user, process_id)
    except Http404 as error:
        return problem(404, str(error))


urlpatterns = [
    path("projects/<uuid:project_id>/disk", disk, name="project-disk"),
    path("processes/<uuid:process_id>/logs/lines", lines, name="log-lines"),
    path("processes/<uuid:process_id>/logs/search", search, name="log-search"),
]
