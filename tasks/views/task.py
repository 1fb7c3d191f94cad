"""The page of a task: its attempts, their runs, logs and diffs, live from the moment it was rendered."""

from typing import Any, Final
from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from events.capture import serialize
from events.changes import current_cursor
from events.snapshot import consistent_read
from tasks import executors
from tasks.board import markdown
from tasks.board.history import of_task
from tasks.models import ExecutionProcess, Executor, RunReason, Task, TaskAttempt
from tasks.permissions import START_RUN, get_task, has

Status = ExecutionProcess.Status
FIRST_LINES: Final = 256


@login_required
@never_cache
@require_GET
def task(request: HttpRequest, task_id: UUID) -> HttpResponse:
    """`?attempt=`, `?run=` and `?view=log|conversation|changes|history` say what is open; the script reads them."""
    return render(request, "tasks/task_detail.html", _context(request, task_id))


@login_required
@never_cache
@require_GET
def compare(request: HttpRequest, task_id: UUID) -> HttpResponse:
    """Two attempts side by side: `?a=` and `?b=`, by default the latest two."""
    return render(request, "tasks/task_compare.html", _context(request, task_id))


@login_required
@require_GET
def description(request: HttpRequest, task_id: UUID) -> HttpResponse:
    """The description as safe HTML, for a page that is open while it changes."""
    return HttpResponse(markdown.render(get_task(request.user, task_id).description))


@login_required
@require_GET
def history(request: HttpRequest, task_id: UUID) -> JsonResponse:
    """What happened to the task, its attempts and runs, newest first."""
    return JsonResponse({"entries": of_task(get_task(request.user, task_id), request.user)})


def _context(request: HttpRequest, task_id: UUID) -> dict[str, Any]:
    with consistent_read():
        found = get_task(request.user, task_id)
        cursor = current_cursor(frozenset({found.project_id}))
        state = {"cursor": cursor, **_state(found)}
    known = executors.definitions()
    offered = executors.available(known)
    state |= {
        "may_start": has(request.user, START_RUN),
        "executors": executors.startable(request.user, offered),
        "conversational": [
            name for name, one in known.items() if one.output_format != Executor.OutputFormat.TEXT
        ],
    }
    return {
        "task": found,
        "project": found.project,
        "state": state,
        "description": markdown.render(found.description),
        "statuses": Task.Status.choices,
        "log_ahead": _log_ahead(request, state),
        "executors": state["executors"],
        "missing": executors.missing(offered),
    }


def _log_ahead(request: HttpRequest, state: dict[str, Any]) -> str:
    """Where the lines are that the page most likely shows first, so that they come while its scripts do; or empty.
    task-page.js decides what is shown, and log-source.js asks for the same lines."""
    query = request.GET
    attempt = query.get("attempt") or (state["attempts"][-1]["id"] if state["attempts"] else None)
    runs = [run for run in state["processes"] if run["task_attempt_id"] == attempt]
    own = [run for run in runs if run["run_reason"] != RunReason.DEVSERVER and run["status"] != Status.QUEUED]
    chosen = [run for run in state["processes"] if run["id"] == query.get("run")]
    running = [run for run in own if run["status"] == Status.RUNNING]
    run = (chosen or running[:1] or own[-1:] or [None])[0]
    if run is None or (query.get("view") or _best_view(state, run)) != "log":
        return ""
    return f"{reverse('log-lines', args=[run['id']])}?first=-{FIRST_LINES}&count={FIRST_LINES}"


def _best_view(state: dict[str, Any], run: dict[str, Any]) -> str:
    """What opens where the address does not say, as far as it matters here."""
    attempt = next(one for one in state["attempts"] if one["id"] == run["task_attempt_id"])
    if run["status"] == Status.COMPLETED and attempt["outcome"] == TaskAttempt.Outcome.OPEN:
        return "changes"
    return "conversation" if attempt["executor"] in state["conversational"] else "log"


def _state(found: Task) -> dict[str, Any]:
    """What the page's script starts from."""
    attempts = TaskAttempt.objects.filter(task=found)
    processes = ExecutionProcess.objects.filter(task_attempt__task=found)
    return {
        "task": serialize(found),
        "project": serialize(found.project),
        "attempts": [serialize(attempt) for attempt in attempts],
        "processes": [serialize(process) for process in processes],
        "urls": {
            "page": reverse("task", args=[found.pk]),
            "compare": reverse("task-compare", args=[found.pk]),
            "description": reverse("task-description", args=[found.pk]),
            "history": reverse("task-history", args=[found.pk]),
            "board": reverse("board", args=[found.project_id]),
        },
    }
