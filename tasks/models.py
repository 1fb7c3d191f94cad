"""The board's records. Their public fields, as REST and the streams show them, are in records.py."""

import uuid
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Q

from events.capture import TrackedModel
from tasks.webhooks.models import Webhook, WebhookCursor, WebhookDelivery  # noqa: F401 - Django looks here


def _choice_check(field: str, choices: type[models.TextChoices], model: str) -> models.CheckConstraint:
    """The database itself refuses a value that is not among the choices."""
    return models.CheckConstraint(
        condition=Q(**{f"{field}__in": choices.values}), name=f"{model}_{field}_valid"
    )


class TaskStatus(models.TextChoices):
    TODO = "todo", "To do"
    INPROGRESS = "inprogress", "In progress"
    INREVIEW = "inreview", "In review"
    DONE = "done", "Done"
    CANCELLED = "cancelled", "Cancelled"


class AttemptOutcome(models.TextChoices):
    OPEN = "open", "Open"
    MERGED = "merged", "Merged"
    DISCARDED = "discarded", "Discarded"


class RunReason(models.TextChoices):
    SETUPSCRIPT = "setupscript", "Setup script"
    CODINGAGENT = "codingagent", "Coding agent"
    CLEANUPSCRIPT = "cleanupscript", "Cleanup script"
    DEVSERVER = "devserver", "Development server"


class ProcessStatus(models.TextChoices):
    QUEUED = "queued", "Queued"
    RUNNING = "running", "Running"
    COMPLETED = "completed", "Completed"
    FAILED = "failed", "Failed"
    KILLED = "killed", "Stopped"
    INTERRUPTED = "interrupted", "Interrupted"


class Record(TrackedModel):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta(TrackedModel.Meta):
        abstract = True


class Project(Record):
    name = models.CharField(max_length=200)
    repo_path = models.CharField(
        max_length=1000, unique=True, help_text="The absolute path of a git repository on this machine."
    )
    target_branch = models.CharField(
        max_length=250, help_text="The branch that attempts start from and merge into."
    )
    setup_script = models.TextField(
        blank=True, help_text="Shell script, run in a new worktree before the agent."
    )
    cleanup_script = models.TextField(
        blank=True, help_text="Shell script, run after the agent changed something."
    )
    dev_script = models.TextField(blank=True, help_text="Shell script that starts the development server.")
    copy_files = models.TextField(
        blank=True,
        help_text="Files that git does not track but a run needs (.env): one path or pattern a line.",
    )
    members = models.ManyToManyField(settings.AUTH_USER_MODEL, blank=True, related_name="projects")

    class Meta(Record.Meta):
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class LabelsField(models.JSONField):
    """Refuses, whoever writes it, what is no list of words: every board of the project would break by it."""

    def get_db_prep_save(self, value: Any, connection: Any) -> Any:
        if hasattr(value, "as_sql"):  # computed by the database
            return value
        if not isinstance(value, (list, tuple)) or not all(isinstance(word, str) for word in value):
            raise TypeError(f"{self.name}={value!r} is no list of words.")
        return super().get_db_prep_save(value, connection)

    def deconstruct(self) -> tuple[str, str, Any, Any]:
        """To the database it is its parent."""
        name, _, args, kwargs = super().deconstruct()
        return name, "django.db.models.JSONField", args, kwargs


class Task(Record):
    Status = TaskStatus

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="tasks")
    title = models.CharField(max_length=500)
    description = models.TextField(blank=True)
    status = models.CharField(max_length=20, choices=Status.choices, default=Status.TODO)
    # Between its neighbours' positions: a move writes one row, so two people moving two cards do not clobber.
    position = models.FloatField(default=0)
    labels = LabelsField(default=list, blank=True, help_text="A list of short words.")

    class Meta(Record.Meta):
        ordering = ["position", "created_at"]
        constraints = [_choice_check("status", TaskStatus, "task")]
        indexes = [models.Index(fields=["project", "status", "position"])]

    def __str__(self) -> str:
        return self.title


class TaskAttempt(Record):
    """One try at a task: a branch, its worktree, and the runs in it."""

    Outcome = AttemptOutcome

    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="attempts")
    executor = models.CharField(max_length=100)
    branch = models.CharField(max_length=250)
    target_branch = models.CharField(max_length=250)
    base_commit = models.CharField(max_length=64, blank=True)
    worktree = models.CharField(
        max_length=1000, null=True, blank=True, help_text="Its folder, while there is one."
    )
    outcome = models.CharField(max_length=20, choices=Outcome.choices, default=Outcome.OPEN)
    merge_commit = models.CharField(max_length=64, blank=True)
    kept_ref = models.CharField(
        max_length=250,
        blank=True,
        help_text="Where uncommitted work of a discarded worktree is kept for 30 days.",
    )
    session_id = models.CharField(
        max_length=250, blank=True, help_text="The agent's own name for its session."
    )

    class Meta(Record.Meta):
        ordering = ["created_at"]
        constraints = [
            _choice_check("outcome", AttemptOutcome, "taskattempt"),
            models.UniqueConstraint(fields=["worktree"], name="taskattempt_worktree_unique"),
        ]

    def __str__(self) -> str:
        return self.branch


class ExecutionProcess(Record):
    """One program that runs, or ran, in an attempt's worktree."""

    RunReason = RunReason

    Status = ProcessStatus

    ENDED = (Status.COMPLETED, Status.FAILED, Status.KILLED, Status.INTERRUPTED)

    task_attempt = models.ForeignKey(TaskAttempt, on_delete=models.CASCADE, related_name="processes")
    run_reason = models.CharField(max_length=20, choices=RunReason.choices)
    prompt = models.TextField(blank=True)
    status = models.CharField(max_length=20, choices=Status.choices, default=Status.QUEUED)
    exit_code = models.IntegerField(null=True, blank=True)
    before_head_commit = models.CharField(max_length=64, blank=True)
    after_head_commit = models.CharField(max_length=64, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    completed_at = models.DateTimeField(null=True, blank=True)
    # Not public: who asked for it, and when somebody asked for its end.
    started_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    stop_requested_at = models.DateTimeField(null=True, blank=True)

    class Meta(Record.Meta):
        ordering = ["created_at"]
        verbose_name_plural = "execution processes"
        constraints = [
            _choice_check("status", ProcessStatus, "executionprocess"),
            _choice_check("run_reason", RunReason, "executionprocess"),
        ]
        indexes = [models.Index(fields=["status", "created_at"])]
        permissions = [
            ("start_run", "May start programs in a worktree"),
            ("run_script", "May run shell scripts of their own (the script executor, project scripts)"),
        ]

    def __str__(self) -> str:
        return f"{self.get_run_reason_display()} {self.id}"

    @property
    def ended(self) -> bool:
        return self.status in self.ENDED


class Executor(models.Model):
    """A program that an administrator lets attempts run: an argument list, never a shell string.

    `{prompt}` inside an argument stands for the prompt; where no argument has it, the prompt
    arrives on standard input. `resume_argv`, where given, is used for follow-ups, with `{session}`.
    """

    class OutputFormat(models.TextChoices):
        TEXT = "text", "Plain text"
        CLAUDE = "claude", "Claude stream-json"
        CODEX = "codex", "Codex JSON lines"
        GEMINI = "gemini", "Gemini stream-json"
        OPENCODE = "opencode", "OpenCode JSON lines"

    name = models.SlugField(max_length=100, unique=True)
    argv = models.JSONField(help_text='A JSON list: ["program", "argument", "{prompt}"]')
    resume_argv = models.JSONField(
        default=list, blank=True, help_text="The same for a follow-up, with {session}."
    )
    output_format = models.CharField(max_length=20, choices=OutputFormat.choices, default=OutputFormat.TEXT)
    env = models.JSONField(
        "environment",
        default=list,
        blank=True,
        help_text='Names of the server\'s variables that it may see: ["ANTHROPIC_API_KEY", "CLAUDE_*"]',
    )
    enabled = models.BooleanField(default=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class ApiToken(models.Model):
    """A bearer token. Only its SHA-256 is kept; revoking it ends its streams within a heartbeat."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_tokens")
    digest = models.CharField(max_length=64, unique=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"token of {self.user} from {self.created_at:%Y-%m-%d}"


class SignInLink(models.Model):
    """A single-use link that signs one user in; only the SHA-256 of its secret is kept."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    digest = models.CharField(max_length=64, unique=True, editable=False)
    expires_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"sign-in link of {self.user}"
