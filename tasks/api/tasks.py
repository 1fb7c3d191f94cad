from typing import Any
from uuid import UUID

from django.http import HttpRequest
from ninja import Router, Status

from events.capture import serialize
from tasks import permissions, projects
from tasks.api.auth import user_of
from tasks.api.schemas import PROBLEMS, TaskIn, TaskOut, TaskPatch

router = Router(tags=["tasks"])


@router.get("", response={200: list[TaskOut], **PROBLEMS})
def list_tasks(request: HttpRequest, project_id: UUID | None = None) -> Any:
    rows = permissions.visible_tasks(user_of(request))
    if project_id is not None:
        rows = rows.filter(project=permissions.get_project(user_of(request), project_id))
    return [serialize(task) for task in rows]


@router.post("", response={201: TaskOut, **PROBLEMS})
def create_task(request: HttpRequest, body: TaskIn) -> Any:
    fields = body.dict(exclude_unset=True)
    project = permissions.get_project(user_of(request), fields.pop("project_id"))
    return Status(201, serialize(projects.create_task(project, fields)))


@router.get("/{uuid:task_id}", response={200: TaskOut, **PROBLEMS})
def read_task(request: HttpRequest, task_id: UUID) -> Any:
    return serialize(permissions.get_task(user_of(request), task_id))


@router.patch("/{uuid:task_id}", response={200: TaskOut, **PROBLEMS})
def change_task(request: HttpRequest, task_id: UUID, body: TaskPatch) -> Any:
    task = permissions.get_task(user_of(request), task_id)
    fields = body.dict(exclude_unset=True)
    expected = fields.pop("expected", None)
    if "project_id" in fields:
        fields["project"] = permissions.get_project(user_of(request), fields.pop("project_id"))
    return serialize(projects.change_task(task, fields, expected))


@router.delete("/{uuid:task_id}", response={204: None, **PROBLEMS})
def delete_task(request: HttpRequest, task_id: UUID) -> Any:
    """Removes the task, its attempts and their worktrees. Branches stay; uncommitted work is kept under a ref."""
    task = permissions.get_task(user_of(request), task_id)
    projects.delete(task, task=task)
    return Status(204, None)
