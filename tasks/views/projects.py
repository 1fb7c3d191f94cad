"""The list of projects, making one, its settings."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

from django import forms
from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from events.changes import current_cursor
from events.snapshot import consistent_read
from tasks import demo, projects
from tasks.errors import Refused
from tasks.folders import list_folder
from tasks.models import ExecutionProcess, Project, Task, TaskStatus
from tasks.permissions import (
    ADD_PROJECT,
    CHANGE_PROJECT,
    DELETE_PROJECT,
    RUN_SCRIPT,
    get_project,
    require,
    visible_projects,
)
from tasks.stream_access import scope_of


class ProjectForm(forms.ModelForm):
    """The fields of a project. What they may hold is judged by tasks/projects.py, for pages and API alike."""

    members = forms.CharField(required=False)
    """Names of users."""

    class Meta:
        model = Project
        fields = ("repo_path", "name", "target_branch", *projects.SCRIPTS, "copy_files")

    def __init__(self, *args: Any, may_script: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in ("name", "target_branch"):
            self.fields[name].required = False
        if not may_script:
            for name in projects.SCRIPTS:
                del self.fields[name]
        if self.instance._state.adding:
            del self.fields["members"]
        else:
            members = self.instance.members.order_by("username")
            self.initial["members"] = ", ".join(members.values_list("username", flat=True))
            for name, field in self.fields.items():
                # A program that posts just the fields is compared with what is there now.
                field.show_hidden_initial = not self.is_bound or self.add_initial_prefix(name) in self.data

    def as_seen(self) -> SafeString:
        """Hidden fields with what the reader saw: who did not change a field undoes nobody's edit of it."""
        shown = (field for field in self if field.field.show_hidden_initial)
        return format_html_join("", "{}", ((field.as_hidden(only_initial=True),) for field in shown))

    def validate_unique(self) -> None:
        """Left to the database: two who make the same project at once are told the same."""


@login_required
@never_cache
@require_GET
def home(request: HttpRequest) -> HttpResponse:
    with consistent_read():
        cursor = current_cursor(scope_of(request.user))
        found = _with_counts(visible_projects(request.user))
        made = Project.objects.filter(repo_path=str(demo.repository())).first()
    may_add = request.user.has_perm(ADD_PROJECT)
    context = {
        "cursor": cursor,
        "projects": found,
        "demo": made,
        "may_add": may_add,
        "may_add_demo": may_add and made is None,
        "may_delete": request.user.has_perm(DELETE_PROJECT),
    }
    return render(request, "pages/projects.html", context)


def _with_counts(rows: QuerySet[Project]) -> list[Project]:
    """The projects with `counts` ([(status, label, tasks)]) and `running` (runs that go on), in three queries."""
    found = list(rows)
    counts: dict[UUID, dict[str, int]] = {project.pk: {} for project in found}
    by_status = Task.objects.filter(project__in=counts).order_by().values_list("project", "status")
    for project, status, number in by_status.annotate(number=Count("pk")):
        counts[project][status] = number
    running = dict(
        ExecutionProcess.objects.filter(
            Q(status=ExecutionProcess.Status.RUNNING), task_attempt__task__project__in=counts
        )
        .order_by()
        .values_list("task_attempt__task__project")
        .annotate(number=Count("pk"))
    )
    for project in found:
        project.counts = [  # type: ignore[attr-defined]
            (status.value, status.label, counts[project.pk][status])
            for status in TaskStatus
            if status in counts[project.pk]
        ]
        project.running = running.get(project.pk, 0)  # type: ignore[attr-defined]
    return found


@login_required
def new(request: HttpRequest) -> HttpResponse:
    require(request.user, ADD_PROJECT, "add projects")
    form = _form(request)
    if request.method == "POST" and form.is_valid():
        # The path may have come with the address, and so does not differ.
        path = {"repo_path": form.cleaned_data["repo_path"]}
        project = _saved(form, lambda fields: projects.create_project(_user(request), path | fields))
        if project is not None:
            return redirect("board", project.pk)
    return _form_page(request, form)


@login_required
@require_POST
def new_demo(request: HttpRequest) -> HttpResponse:
    require(request.user, ADD_PROJECT, "add projects")
    project = demo.make_demo_project(_user(request))
    if not visible_projects(request.user).filter(pk=project.pk).exists():
        raise PermissionDenied("Others have the demo project: ask one of them to make you a member.")
    return redirect("board", project.pk)


@login_required
def change(request: HttpRequest, project_id: UUID) -> HttpResponse:
    project = get_project(request.user, project_id)
    require(request.user, CHANGE_PROJECT, "change projects")
    form = _form(request, project)
    if request.method == "POST" and form.is_valid():

        def save(fields: Mapping[str, Any]) -> Project:
            return projects.change_project(_user(request), get_project(request.user, project_id), fields)

        if _saved(form, save) is not None:
            return redirect("board", project_id)
    return _form_page(request, form, get_project(request.user, project_id))


@login_required
@require_POST
def delete(request: HttpRequest, project_id: UUID) -> HttpResponse:
    project = get_project(request.user, project_id)
    require(request.user, DELETE_PROJECT, "delete projects")
    try:
        projects.delete(project, task__project=project)
    except Refused as refusal:
        form = _form(request, project, bound=False)
        context = _context(request, form, project) | {"refused": refusal.message}
        return render(request, "pages/project_form.html", context, status=refusal.status)
    return redirect("home")


@login_required
@require_GET
def folders(request: HttpRequest) -> HttpResponse:
    """{path, parent, repository, more, folders: [{name, path, repository}], roots: [path]}: for the folder chooser."""
    if not (request.user.has_perm(ADD_PROJECT) or request.user.has_perm(CHANGE_PROJECT)):
        raise PermissionDenied("You may not add projects.")
    try:
        listing = list_folder(request.GET.get("path", ""), _roots())
    except Refused as refusal:
        return JsonResponse({"detail": refusal.message}, status=refusal.status)
    return JsonResponse(listing.as_json() | {"roots": [str(root) for root in _roots()]})


def _roots() -> list[Path]:
    """Where a person looks for a repository: the demo's folder is allowed, too, but of no interest."""
    return [root.resolve() for root in settings.VIBE_REPO_ROOTS if root != settings.VIBE_DATA / "demo"]


def _user(request: HttpRequest) -> User:
    assert isinstance(request.user, User)
    return request.user


def _form(request: HttpRequest, project: Project | None = None, bound: bool = True) -> ProjectForm:
    data = request.POST if bound and request.method == "POST" else None
    initial = {"repo_path": request.GET.get("path", "")} if project is None else None
    return ProjectForm(data, instance=project, initial=initial, may_script=request.user.has_perm(RUN_SCRIPT))


def _saved(form: ProjectForm, save: Callable[[dict[str, Any]], Project]) -> Project | None:
    """What `save` made of the fields that differ; None, and the words beside the fields, where it was refused."""
    fields = {name: form.cleaned_data[name] for name in form.changed_data if name in form.cleaned_data}
    if "members" in fields:
        fields["members"] = fields["members"].replace(",", " ").split()
    try:
        return save(fields)
    except Refused as refusal:
        form.add_error(refusal.field, refusal.message)
        return None


def _form_page(request: HttpRequest, form: ProjectForm, project: Project | None = None) -> HttpResponse:
    status = 422 if form.errors else 200
    return render(request, "pages/project_form.html", _context(request, form, project), status=status)


def _context(request: HttpRequest, form: ProjectForm, project: Project | None) -> dict[str, Any]:
    return {
        "form": form,
        "project": project,
        "may_delete": project is not None and request.user.has_perm(DELETE_PROJECT),
        "roots": _roots(),
    }
