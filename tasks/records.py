"""The public shape of the board's records, the same in REST and on the event streams.

One table a record: its name in the streamed document, the fields that are shown, and what
decides who may see it (`scope` names the project; `through` the record it belongs to).
"""

from events import capture
from tasks.models import ExecutionProcess, Project, Task, TaskAttempt

_TIMES = ("created_at", "updated_at")


def track_all() -> None:
    capture.track(
        Project,
        name="projects",
        fields=(
            "id", "name", "repo_path", "target_branch", "setup_script", "cleanup_script",
            "dev_script", "copy_files", *_TIMES,
        ),
        scope="id",
        members="members",
    )  # fmt: skip
    capture.track(
        Task,
        name="tasks",
        fields=("id", "project_id", "title", "description", "status", "position", "labels", *_TIMES),
        scope="project_id",
    )
    capture.track(
        TaskAttempt,
        name="task_attempts",
        fields=(
            "id", "task_id", "executor", "branch", "target_branch", "base_commit", "worktree",
            "outcome", "merge_commit", "kept_ref", *_TIMES,
        ),
        through="task",
    )  # fmt: skip
    capture.track(
        ExecutionProcess,
        name="execution_processes",
        fields=(
            "id", "task_attempt_id", "run_reason", "prompt", "status", "exit_code",
            "before_head_commit", "after_head_commit", "started_at", "completed_at", *_TIMES,
        ),
        through="task_attempt",
    )  # fmt: skip
