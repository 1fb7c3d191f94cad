"""The admin: the records with links between them; executors, tokens and accounts, which are for superusers only."""

from typing import Any

import pydantic
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User
from django.core.exceptions import ValidationError
from django.db import IntegrityError
from django.db.models import Model, QuerySet
from django.forms import BaseInlineFormSet, ModelForm
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from tasks import permissions, projects
from tasks.errors import Refused
from tasks.models import ApiToken, ExecutionProcess, Executor, Project, Task, TaskAttempt

admin.site.site_header = admin.site.site_title = "Vibe administration"


def _link(record: Model | None) -> SafeString | str:
    if record is None:
        return "–"
    name = f"admin:{record._meta.app_label}_{record._meta.model_name}_change"
    return format_html('<a href="{}">{}</a>', reverse(name, args=[record.pk]), record)


class ReadOnlyInline(admin.TabularInline):
    """Rows with a link to their own page; made and changed there."""

    extra = 0
    can_delete = False
    show_change_link = True

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class Labelled(BaseInlineFormSet):
    """In a table, a field has no label of its own, and the head of its column is not read out with it."""

    def add_fields(self, form: Any, index: int | None) -> None:
        super().add_fields(form, index)
        for field in form.fields.values():
            field.widget.attrs["aria-label"] = field.label


class TaskInline(admin.TabularInline):
    model = Task
    formset = Labelled
    fields = ["title", "status", "position"]
    extra = 0
    can_delete = False  # which follows no rule of the board; a task's own page does
    show_change_link = True


class AttemptInline(ReadOnlyInline):
    model = TaskAttempt
    fields = readonly_fields = ("executor", "branch", "outcome", "created_at")


class ProcessInline(ReadOnlyInline):
    model = ExecutionProcess
    fields = readonly_fields = ("run_reason", "status", "exit_code", "started_at", "completed_at")


class OfMembers(admin.ModelAdmin):
    """Membership decides here too what staff see; what they may do with it, the permissions that they were given."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return permissions.narrowed(super().get_queryset(request), request.user)

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.remote_field.model is Project:
            kwargs["queryset"] = permissions.visible_projects(request.user)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)


class NotWhileRunning(OfMembers):
    """Deleted only once nothing runs there."""

    runs_of = "pk"
    """The look-up from ExecutionProcess to this record."""

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[Any], dict[str, int], set[str], list[Any]]:
        deleted, counts, missing, protected = super().get_deleted_objects(objs, request)
        running = projects.active_runs().filter(**{f"{self.runs_of}__in": [record.pk for record in objs]})
        return (
            deleted,
            counts,
            missing,
            [*protected, *(f"{run} still runs: stop it first" for run in running)],
        )


class RecordWithRuns(NotWhileRunning):
    """Deleted by the board's own rule: not while something runs there, and uncommitted work is kept."""

    def delete_model(self, request: HttpRequest, record: Any) -> None:
        projects.delete(record, **{self.runs_of.removeprefix("task_attempt__"): record.pk})

    def delete_queryset(self, request: HttpRequest, records: Any) -> None:
        for record in records:
            self.delete_model(request, record)


class ProjectForm(ModelForm):
    class Meta:
        error_messages = {"repo_path": {"unique": "There is a project on this repository already."}}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "target_branch" in self.fields:
            self.fields["target_branch"].required = False

    def clean(self) -> None:
        """As for the API, a repository that has gone since hinders no change of other fields."""
        super().clean()
        values, where = self.cleaned_data, {"repo_path", "target_branch"}
        if where <= values.keys() and where & set(self.changed_data):
            try:
                values |= projects.repository_fields(values["repo_path"], values["target_branch"])
            except Refused as refusal:
                self.add_error(refusal.field, refusal.message)


@admin.register(Project)
class ProjectAdmin(RecordWithRuns):
    form = ProjectForm
    runs_of = "task_attempt__task__project"
    list_display = ["name", "repo_path", "target_branch", "created_at"]
    list_filter = [("members", admin.RelatedOnlyFieldListFilter), "created_at"]
    search_fields = ["name", "repo_path"]
    filter_horizontal = ["members"]
    inlines = [TaskInline]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        """Scripts run programs here, so the permission to change a project is not enough for them."""
        return [] if request.user.has_perm(permissions.RUN_SCRIPT) else list(projects.SCRIPTS)

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return super().changeform_view(request, *args, **kwargs)
        except IntegrityError:
            # Somebody took the repository after the form had been judged: judged again, it says so.
            return super().changeform_view(request, *args, **kwargs)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """As on the board's own page, who makes a project sees it."""
        super().save_related(request, form, formsets, change)
        if not change and not request.user.is_superuser:
            form.instance.members.add(request.user)

    def save_model(self, request: HttpRequest, project: Any, form: Any, change: bool) -> None:
        from tasks.git import repair_worktrees

        super().save_model(request, project, form, change)
        if change and "repo_path" in form.changed_data:
            repair_worktrees(project.repo_path)


class TaskForm(ModelForm):
    def clean_labels(self) -> list[str]:
        """As for the API: any JSON that is no list of words would break the board for all who see it."""
        from tasks.api.schemas import Labels  # with all of the REST interface, which most commands do without

        given = self.cleaned_data["labels"]
        try:
            return pydantic.TypeAdapter(Labels).validate_python([] if given is None else given)
        except pydantic.ValidationError:
            raise ValidationError('Give a JSON list of at most 20 short labels: ["bug", "urgent"].') from None


@admin.register(Task)
class TaskAdmin(RecordWithRuns):
    form = TaskForm
    runs_of = "task_attempt__task"
    list_display = ["title", "project_link", "status", "updated_at"]
    list_filter = ["status", ("project", admin.RelatedOnlyFieldListFilter)]
    list_select_related = ["project"]
    search_fields = ["title", "description", "project__name"]
    date_hierarchy = "created_at"
    inlines = [AttemptInline]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        """Attempts have their branches in the project's repository."""
        return ["project"] if obj is not None and obj.attempts.exists() else []

    @admin.display(description="project", ordering="project__name")
    def project_link(self, task: Task) -> SafeString | str:
        return _link(task.project)


class RecordOfRuns(admin.ModelAdmin):
    """What the runner wrote: to read, not to change, lest the record and the repository part."""

    change_form_template = "admin/tasks/run_change_form.html"

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(TaskAttempt)
class TaskAttemptAdmin(RecordWithRuns, RecordOfRuns):
    runs_of = "task_attempt__pk"
    list_display = ["branch", "task_link", "executor", "outcome", "created_at"]
    list_filter = ["outcome", "executor", ("task__project", admin.RelatedOnlyFieldListFilter)]
    list_select_related = ["task"]
    search_fields = ["branch", "task__title", "base_commit"]
    inlines = [ProcessInline]
    fields = (
        "task",
        ("executor", "outcome"),
        ("branch", "target_branch"),
        "worktree",
        ("base_commit", "merge_commit"),
        "kept_ref",
        "session_id",
        ("created_at", "updated_at"),
    )

    @admin.display(description="task", ordering="task__title")
    def task_link(self, attempt: TaskAttempt) -> SafeString | str:
        return _link(attempt.task)


@admin.register(ExecutionProcess)
class ExecutionProcessAdmin(NotWhileRunning, RecordOfRuns):
    list_display = ["id", "run_reason", "status", "exit_code", "attempt_link", "task_link", "started_at"]
    list_filter = ["status", "run_reason", ("task_attempt__task__project", admin.RelatedOnlyFieldListFilter)]
    list_select_related = ["task_attempt__task"]
    search_fields = ["id", "prompt", "task_attempt__branch", "task_attempt__task__title"]
    readonly_fields = ("task_link",)
    fields = (
        ("task_attempt", "task_link"),
        ("run_reason", "status", "exit_code"),
        "prompt",
        ("started_by", "started_at", "completed_at", "stop_requested_at"),
        ("before_head_commit", "after_head_commit"),
    )

    @admin.display(description="attempt", ordering="task_attempt__branch")
    def attempt_link(self, process: ExecutionProcess) -> SafeString | str:
        return _link(process.task_attempt)

    @admin.display(description="task", ordering="task_attempt__task__title")
    def task_link(self, process: ExecutionProcess) -> SafeString | str:
        return _link(process.task_attempt.task)


class SuperusersOnly(admin.ModelAdmin):
    def _superuser(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.is_active and request.user.is_superuser)

    has_view_permission = has_change_permission = has_delete_permission = _superuser

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self._superuser(request)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self._superuser(request)


@admin.register(Executor)
class ExecutorAdmin(SuperusersOnly):
    """An executor is a program that others may start here, so only superusers name one."""

    list_display = ["name", "argv", "output_format", "enabled"]
    list_filter = ["enabled"]
    search_fields = ["name"]

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> type[ModelForm]:
        from tasks.executor_form import ExecutorForm

        return super().get_form(request, obj, change, form=ExecutorForm, **kwargs)


@admin.register(ApiToken)
class ApiTokenAdmin(SuperusersOnly):
    list_display = ["user", "created_at", "revoked_at"]
    list_filter = ["user"]
    readonly_fields = ["user", "created_at", "revoked_at"]
    actions = ["revoke"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False  # `manage.py token USERNAME` shows the secret once; a form could not.

    @admin.action(description="Revoke the selected tokens")
    def revoke(self, request: HttpRequest, tokens: QuerySet[ApiToken]) -> None:
        tokens.filter(revoked_at=None).update(revoked_at=timezone.now())


admin.site.unregister([User, Group])


@admin.register(User)
class AccountAdmin(SuperusersOnly, UserAdmin):
    """Who may change accounts may be anybody: by a password for another, or one more permission for themselves."""


@admin.register(Group)
class PermissionsAdmin(SuperusersOnly, GroupAdmin):
    """What is changed here are the permissions of all who are in it."""


from tasks.webhooks import admin as _webhooks  # noqa: E402, F401 - its classes build on those above
