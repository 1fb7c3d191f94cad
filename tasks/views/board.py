"""The board of a project: its cards as HTML, and the document that its changes are applied to."""

from typing import Any
from uuid import UUID

import orjson
from django.contrib.auth.decorators import login_required
from django.db.models import Max
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils.safestring import SafeString, mark_safe
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from events import capture
from events.changes import current_cursor
from events.snapshot import consistent_read
from tasks.board.boards import columns
from tasks.board.pulse import counts, last_line
from tasks.executors import DEMO, SCRIPT, available, missing, startable, styles
from tasks.models import ExecutionProcess, Project, Task, TaskAttempt
from tasks.permissions import CHANGE_PROJECT, get_project
from tasks.templatetags.ui import icon

MOST_ATTEMPTS = 80


@login_required
@never_cache
@require_GET
def board(request: HttpRequest, project_id: UUID) -> HttpResponse:
    with consistent_read():
        project = get_project(request.user, project_id)
        cursor = current_cursor(frozenset({project.pk}))
        document = read_document(project)
    shown = columns(document)
    offered = available()
    executors = startable(request.user, offered)
    data = {"project": str(project.pk), "cursor": cursor, "document": document, "executors": executors}
    context = {
        "project": project,
        "columns": shown,
        "cancelled": len(shown[-1].cards),
        "executors": executors,
        "missing": missing(offered),
        "no_agent": set(executors) <= {DEMO, SCRIPT},
        "may_change": request.user.has_perm(CHANGE_PROJECT),
        "data": as_text(data),
        # Rendered once: 300 cards would each look the static file's address up.
        "icons": {name: icon(name) for name in ("more", "plus", "robot")},
    }
    return render(request, "pages/board.html", context)


@login_required
@require_POST
def pulse(request: HttpRequest, project_id: UUID) -> HttpResponse:
    """What cards show beyond their records, for {"attempts": [id, …]}.

    {"lines": {run id: last line of output, of runs that go on}, "changes": {attempt id: {additions, deletions}}}
    """
    project = get_project(request.user, project_id)
    try:
        wanted = [UUID(key) for key in orjson.loads(request.body)["attempts"][:MOST_ATTEMPTS]]
    except (ValueError, TypeError, KeyError, AttributeError):
        return JsonResponse({"detail": 'Send {"attempts": [id, …]}.'}, status=400)
    rows = TaskAttempt.objects.filter(task__project=project, pk__in=wanted).select_related("task__project")
    attempts = rows.annotate(changed=Max("processes__updated_at"))
    runs = ExecutionProcess.objects.filter(
        task_attempt__in=rows, status=ExecutionProcess.Status.RUNNING
    ).exclude(run_reason=ExecutionProcess.RunReason.DEVSERVER)
    running, known = list(runs.select_related("task_attempt")), styles()
    lines = {str(run.pk): last_line(run, known.get(run.task_attempt.executor, "")) for run in running}
    changes = {str(attempt.pk): counts(attempt, attempt.changed).as_dict() for attempt in attempts}
    return JsonResponse({"lines": lines, "changes": changes})


def read_document(project: Project) -> dict[str, dict[str, Any]]:
    """What `/api/events/?project_id=` sends as the full state, read in the caller's transaction."""
    tables = {
        "projects": [project],
        "tasks": Task.objects.filter(project=project),
        "task_attempts": TaskAttempt.objects.filter(task__project=project),
        "execution_processes": ExecutionProcess.objects.filter(task_attempt__task__project=project),
    }
    return {name: {str(row.pk): capture.serialize(row) for row in rows} for name, rows in tables.items()}


def as_text(data: Any) -> SafeString:
    """JSON to stand as the text of a template element: it holds nothing that HTML would take for markup."""
    return mark_safe(orjson.dumps(data).decode().replace("&", "\\u0026").replace("<", "\\u003c"))
