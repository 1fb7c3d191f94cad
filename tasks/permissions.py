"""Who may see and do what. Every look-up of a record by a caller goes through here, so that no view forgets it.

Membership of a project decides what one sees; superusers see all. What one may not see does not exist
(Http404, never 403). Starting programs is a permission of its own; the one for shell scripts includes it.
"""

from typing import TypeVar
from uuid import UUID

from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.http import Http404

from tasks.models import ExecutionProcess, Project, Task, TaskAttempt

M = TypeVar("M", bound=Model)
Caller = User | AnonymousUser

START_RUN = "tasks.start_run"
RUN_SCRIPT = "tasks.run_script"
ADD_PROJECT = "tasks.add_project"
CHANGE_PROJECT = "tasks.change_project"
DELETE_PROJECT = "tasks.delete_project"


_MEMBERS: dict[type[Model], str] = {
    Project: "members",
    Task: "project__members",
    TaskAttempt: "task__project__members",
    ExecutionProcess: "task_attempt__task__project__members",
}


def visible_projects(user: Caller) -> QuerySet[Project]:
    return narrowed(Project.objects.all(), user)


def visible_tasks(user: Caller) -> QuerySet[Task]:
    return narrowed(Task.objects.all(), user)


def visible_attempts(user: Caller) -> QuerySet[TaskAttempt]:
    return narrowed(TaskAttempt.objects.all(), user)


def visible_processes(user: Caller) -> QuerySet[ExecutionProcess]:
    return narrowed(ExecutionProcess.objects.all(), user)


def narrowed(rows: QuerySet[M], user: Caller) -> QuerySet[M]:
    """Those of the rows, of one of the four records, that lie in a project the user may see."""
    if not user.is_authenticated or not user.is_active:
        return rows.none()
    if user.is_superuser:
        return rows
    return rows.filter(**{_MEMBERS[rows.model]: user.pk})


def get_project(user: Caller, project_id: UUID | str) -> Project:
    return _found(visible_projects(user), project_id, "project")


def get_task(user: Caller, task_id: UUID | str) -> Task:
    return _found(visible_tasks(user).select_related("project"), task_id, "task")


def get_attempt(user: Caller, attempt_id: UUID | str) -> TaskAttempt:
    return _found(visible_attempts(user).select_related("task__project"), attempt_id, "attempt")


def get_process(user: Caller, process_id: UUID | str) -> ExecutionProcess:
    rows = visible_processes(user).select_related("task_attempt__task__project")
    return _found(rows, process_id, "process")


def _found(rows: QuerySet[M], key: UUID | str, what: str) -> M:
    found = rows.filter(pk=key).first()
    if found is None:
        raise Http404(f"There is no {what} {key} that you may see.")
    return found


def has(user: Caller, permission: str) -> bool:
    """Who may run shell scripts may start programs: a script can start any."""
    return user.has_perm(permission) or (permission == START_RUN and user.has_perm(RUN_SCRIPT))


def require(user: Caller, permission: str, to: str) -> None:
    """Raises PermissionDenied, which says what is missing, unless the user has the permission."""
    if not has(user, permission):
        raise PermissionDenied(f"You may not {to}: ask an administrator for the permission {permission}.")


def require_start(user: Caller, executor: str) -> None:
    require(user, START_RUN, "start programs")
    if executor == "script":
        require(user, RUN_SCRIPT, "run shell scripts")
