from typing import Any
from uuid import UUID

from django.http import HttpRequest
from ninja import Router, Status

from events.capture import serialize
from tasks import permissions, projects
from tasks.api.auth import user_of
from tasks.api.schemas import PROBLEMS, ProjectIn, ProjectOut, ProjectPatch

router = Router(tags=["projects"])


@router.get("", response={200: list[ProjectOut], **PROBLEMS})
def list_projects(request: HttpRequest) -> Any:
    rows = permissions.visible_projects(user_of(request)).prefetch_related("members")
    return [serialize(project) for project in rows]


@router.post("", response={201: ProjectOut, **PROBLEMS})
def create_project(request: HttpRequest, body: ProjectIn) -> Any:
    permissions.require(user_of(request), permissions.ADD_PROJECT, "add projects")
    return Status(201, serialize(projects.create_project(user_of(request), body.dict(exclude_none=True))))


@router.get("/{uuid:project_id}", response={200: ProjectOut, **PROBLEMS})
def read_project(request: HttpRequest, project_id: UUID) -> Any:
    return serialize(permissions.get_project(user_of(request), project_id))


@router.patch("/{uuid:project_id}", response={200: ProjectOut, **PROBLEMS})
def change_project(request: HttpRequest, project_id: UUID, body: ProjectPatch) -> Any:
    project = permissions.get_project(user_of(request), project_id)
    permissions.require(user_of(request), permissions.CHANGE_PROJECT, "change projects")
    return serialize(projects.change_project(user_of(request), project, body.dict(exclude_unset=True)))


@router.delete("/{uuid:project_id}", response={204: None, **PROBLEMS})
def delete_project(request: HttpRequest, project_id: UUID) -> Any:
    """Removes the board's records and its worktrees. The repository and its branches stay as they are."""
    project = permissions.get_project(user_of(request), project_id)
    permissions.require(user_of(request), permissions.DELETE_PROJECT, "delete projects")
    projects.delete(project, task__project=project)
    return Status(204, None)
