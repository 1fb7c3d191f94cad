"""What goes over the wire. Records have the fields of tasks/records.py, as on the event streams."""

from typing import Annotated, Any, Literal
from uuid import UUID

from ninja import Schema
from pydantic import AfterValidator, ConfigDict, Field, StringConstraints


def _no_nul(text: str) -> str:
    if "\x00" in text:
        raise ValueError("a NUL character cannot be stored: leave it out")
    return text


_NoNul = AfterValidator(_no_nul)
Title = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500), _NoNul]
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), _NoNul]
Path = Annotated[str, StringConstraints(min_length=1, max_length=1000), _NoNul]
Branch = Annotated[str, StringConstraints(min_length=1, max_length=250), _NoNul]
Long = Annotated[str, StringConstraints(max_length=200_000), _NoNul]
Label = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=50), _NoNul]
Prompt = Annotated[str, StringConstraints(min_length=1, max_length=200_000), _NoNul]
UserName = Annotated[str, StringConstraints(max_length=150), _NoNul]
ExecutorName = Annotated[str, StringConstraints(min_length=1, max_length=100), _NoNul]
Labels = Annotated[list[Label], Field(max_length=20)]
Position = Annotated[float, Field(allow_inf_nan=False, ge=-1e15, le=1e15)]
Moment = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
Status = Literal["todo", "inprogress", "inreview", "done", "cancelled"]


class Input(Schema):
    """A field that is not known is an error: ignoring it would lose what the caller meant."""

    model_config = ConfigDict(extra="forbid")


class ProjectIn(Input):
    name: Name | None = None
    repo_path: Path
    target_branch: Branch | None = None
    setup_script: Long = ""
    cleanup_script: Long = ""
    dev_script: Long = ""
    copy_files: Long = ""
    members: list[int | UserName] | None = None


class ProjectPatch(Input):
    name: Name = ""
    repo_path: Path = ""
    target_branch: Branch = ""
    setup_script: Long = ""
    cleanup_script: Long = ""
    dev_script: Long = ""
    copy_files: Long = ""
    members: list[int | UserName] = []


class ProjectOut(Schema):
    id: UUID
    name: str
    repo_path: str
    target_branch: str
    setup_script: str
    cleanup_script: str
    dev_script: str
    copy_files: str
    members: list[int]
    created_at: Moment
    updated_at: Moment


class TaskIn(Input):
    project_id: UUID
    title: Title
    description: Long = ""
    status: Status = "todo"
    position: Position = 0
    labels: Labels = []


class TaskPatch(Input):
    """`expected` guards an edit: the change is made only if these fields still hold these values, else 409."""

    project_id: UUID = UUID(int=0)
    title: Title = ""
    description: Long = ""
    status: Status = "todo"
    position: Position = 0
    labels: Labels = []
    expected: dict[Literal["title", "description", "status", "labels"], Any] = {}


class TaskOut(Schema):
    id: UUID
    project_id: UUID
    title: str
    description: str
    status: Status
    position: float
    labels: list[str]
    created_at: Moment
    updated_at: Moment


class AttemptIn(Input):
    task_id: UUID
    executor: ExecutorName
    prompt: Long | None = None
    target_branch: Branch | None = None


class AttemptOut(Schema):
    id: UUID
    task_id: UUID
    executor: str
    branch: str
    target_branch: str
    base_commit: str
    worktree: str | None
    outcome: Literal["open", "merged", "discarded"]
    merge_commit: str
    kept_ref: str
    created_at: Moment
    updated_at: Moment


class PromptIn(Input):
    prompt: Prompt


class MergeIn(Input):
    strategy: Literal["merge", "squash", "ff"] = "merge"


class AttemptStatus(Schema):
    """Commits ahead and behind of the target branch, and what a merge would meet; `problem` says what is not known."""

    ahead: int
    behind: int
    dirty: bool
    conflicts: list[str]
    problem: str


class ProcessOut(Schema):
    id: UUID
    task_attempt_id: UUID
    run_reason: Literal["setupscript", "codingagent", "cleanupscript", "devserver"]
    prompt: str
    status: Literal["queued", "running", "completed", "failed", "killed", "interrupted"]
    exit_code: int | None
    before_head_commit: str
    after_head_commit: str
    started_at: Moment | None
    completed_at: Moment | None
    created_at: Moment
    updated_at: Moment


class DiffOut(Schema):
    file: str
    diff: str
    change: Literal["added", "deleted", "modified", "renamed", "mode", "reverted"]
    old_path: str | None
    additions: int
    deletions: int
    omitted: str | None


class LogRecord(Schema):
    """`id` is the record's id on the stream too: what comes `after` it, or `before` it."""

    id: str
    type: Literal["stdout", "stderr", "system", "error"]
    content: str
    timestamp: str
    partial: bool = Field(False, description="The line goes on in the next record of this type.")


class ConversationEntry(Schema):
    """A line of an agent's output in the common shape of docs/runs.md; one line may make several."""

    id: str
    kind: Literal["message", "delta", "thinking", "tool", "result", "usage", "error", "system", "raw"]
    role: str | None
    text: str
    tool: dict[str, Any] | None
    result: dict[str, Any] | None
    usage: dict[str, Any] | None
    timestamp: str


class Problem(Schema):
    detail: Any


class Conflict(Problem):
    files: list[str] = []


PROBLEMS = {400: Problem, 401: Problem, 403: Problem, 404: Problem, 409: Conflict, 422: Problem, 429: Problem}
