"""Making and changing projects and tasks: the rules that hold whoever asks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.db.models import Max, Model, QuerySet

from tasks.errors import Refused
from tasks.models import ExecutionProcess, Project, Task, TaskAttempt
from tasks.permissions import RUN_SCRIPT, require

SCRIPTS = ("setup_script", "cleanup_script", "dev_script")
GAP = 1024.0
M = TypeVar("M", bound=Model)


def save_fields(record: Model, changes: Mapping[str, Any]) -> None:
    """Writes just these fields, so that a save from an older copy never undoes somebody else's change."""
    for name, value in changes.items():
        setattr(record, name, value)
    record.save(update_fields=[*changes, "updated_at"])


def hold(record: M) -> M:
    """The record as it is now, which nobody deletes before the transaction ends. Refused (404) if somebody has."""
    found = type(record)._base_manager.select_for_update().filter(pk=record.pk).first()
    if found is None:
        raise Refused(f"The {record._meta.verbose_name} was deleted in the meantime.", 404)
    return found


def create_project(user: User, fields: Mapping[str, Any]) -> Project:
    """A project on an existing repository, with its maker as a member. Raises Refused (422, 409)."""
    values = dict(fields)
    members = values.pop("members", None)
    _check_scripts(user, values)
    values |= repository_fields(values["repo_path"], values.get("target_branch"))
    values["name"] = values.get("name") or Path(values["repo_path"]).name
    try:
        with transaction.atomic():
            project = Project.objects.create(**values)
            project.members.set([user, *find_members(members or [])])
    except IntegrityError:
        raise _taken(values["repo_path"]) from None
    return project


def change_project(user: User, project: Project, fields: Mapping[str, Any]) -> Project:
    from tasks.git import repair_worktrees

    values = dict(fields)
    members = values.pop("members", None)
    _check_scripts(user, values)
    if "repo_path" in values or "target_branch" in values:
        path = values.get("repo_path", project.repo_path)
        values |= repository_fields(path, values.get("target_branch", project.target_branch))
    try:
        with transaction.atomic():
            hold(project)
            if values:
                save_fields(project, values)
            if members is not None:
                project.members.set(find_members(members))
    except IntegrityError:
        if "repo_path" not in values:
            raise Refused("A member was deleted in the meantime.", 409) from None
        raise _taken(values["repo_path"]) from None
    if "repo_path" in values:
        repair_worktrees(project.repo_path)
    return project


def repository_fields(repo_path: str, target_branch: str | None) -> dict[str, str]:
    """The two as a project stores them. Raises Refused (422), which says whose field is wrong."""
    from tasks.git import check_repository

    try:
        info = check_repository(repo_path, settings.VIBE_REPO_ROOTS)
    except Refused as refusal:
        refusal.field = "repo_path"
        raise
    branch = target_branch or info.default_branch
    if branch not in info.branches:
        has = ", ".join(info.branches[:20])
        raise Refused(f"The repository has no branch {branch!r}. It has: {has}.", 422, field="target_branch")
    return {"repo_path": str(info.path), "target_branch": branch}


def _taken(repo_path: str) -> Refused:
    return Refused(f"There is a project on {repo_path} already.", 409, field="repo_path")


def find_members(names: Sequence[int | str]) -> list[User]:
    """Users by id or by name; Refused (422) names the ones there are not."""
    found = []
    for name in names:
        user = User.objects.filter(**{"pk" if isinstance(name, int) else "username": name}).first()
        if user is None:
            raise Refused(f"There is no user {name!r}.", 422)
        found.append(user)
    return found


def _check_scripts(user: User, values: Mapping[str, Any]) -> None:
    if any(values.get(name) for name in SCRIPTS):
        require(user, RUN_SCRIPT, "give a project scripts to run")


def create_task(project: Project, fields: Mapping[str, Any]) -> Task:
    """A task at the end of its column, or where `position` says."""
    status = fields.get("status", Task.Status.TODO)
    with transaction.atomic():
        hold(project)
        return Task.objects.create(project=project, **{"position": end_of(project.pk, status), **fields})


def change_task(task: Task, fields: Mapping[str, Any], expected: Mapping[str, Any] | None = None) -> Task:
    """Changes a task if the fields in `expected` still hold those values; else Refused (409): nobody's edit is lost."""
    values = dict(fields)
    with transaction.atomic():
        if "project" in values:
            hold(values["project"])
        task = hold(task)
        stale = [name for name, value in (expected or {}).items() if getattr(task, name) != value]
        if stale:
            raise Refused(f"Somebody else has changed {' and '.join(stale)} in the meantime.", 409)
        if values.get("project", task.project) != task.project and task.attempts.exists():
            raise Refused("The task has attempts, whose branches are in its project's repository.", 409)
        moved = "project" in values or values.get("status", task.status) != task.status
        if moved and "position" not in values:
            project = values.get("project", task.project)
            values["position"] = end_of(project.pk, values.get("status", task.status))
        if values:
            save_fields(task, values)
        if "position" in values:
            _spread(task)
    return task


def end_of(project_id: UUID, status: str) -> float:
    """The position behind the last card of a column."""
    last = Task.objects.filter(project_id=project_id, status=status).aggregate(last=Max("position"))["last"]
    return GAP if last is None else last + GAP


def _spread(task: Task) -> None:
    """Numbers a column anew once two cards have come to stand on one position: halving a gap ends after ~50 times."""
    column = Task.objects.filter(project_id=task.project_id, status=task.status)
    if not column.filter(position=task.position).exclude(pk=task.pk).exists():
        return
    cards = list(column.order_by("position", "created_at"))
    for place, card in enumerate(cards, start=1):
        card.position = place * GAP
    Task.objects.bulk_update(cards, ["position"])
    task.refresh_from_db(fields=["position"])


def delete(record: Project | Task | TaskAttempt, **attempts: Any) -> None:
    """Deletes a project, task or attempt with its attempts (named by a look-up from TaskAttempt).

    Refused (409) while a program still runs in one of them. Uncommitted work in their worktrees is kept
    under refs first, so nothing of the user's is lost; branches stay. The demo goes with its repository.
    """
    from tasks import demo
    from tasks.finishing import finish

    _refuse_active(attempts)
    for attempt in TaskAttempt.objects.filter(worktree__isnull=False, **attempts).select_related(
        "task__project"
    ):
        finish.drop_worktree(attempt)
    with transaction.atomic():
        # Nothing starts while it is held; something may have since the first look, and has a worktree by now.
        type(record)._base_manager.select_for_update().filter(pk=record.pk).first()
        _refuse_active(attempts)
        record.delete()
    if isinstance(record, Project):
        demo.remove_repository(record)


def _refuse_active(attempts: Mapping[str, Any]) -> None:
    active = active_runs(**attempts).count()
    if active:
        raise Refused(f"{active} of its runs still go on: stop them first.", 409)


def active_runs(**attempts: Any) -> QuerySet[ExecutionProcess]:
    """What runs or waits in these attempts (named by a look-up from TaskAttempt)."""
    lookups = {f"task_attempt__{name}": value for name, value in attempts.items()}
    return ExecutionProcess.objects.exclude(status__in=ExecutionProcess.ENDED).filter(**lookups)
