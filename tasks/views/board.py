"""The board of a project."""

from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from tasks.permissions import get_project


@login_required
@require_GET
def board(request: HttpRequest, project_id: UUID) -> HttpResponse:
    return render(request, "pages/board.html", {"project": get_project(request.user, project_id)})
