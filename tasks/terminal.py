"""How the board's records look in a terminal: pure functions from records to text."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

Record = Mapping[str, Any]

_STEERS = re.compile("[\0-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")


def as_json(record: Record) -> str:
    """One line, so that `jq` and `while read` can take records one by one."""
    return json.dumps(record, ensure_ascii=False, default=str)


def one_line(text: str) -> str:
    """What people wrote, without what would begin a line of its own or steer the terminal."""
    return _STEERS.sub(" ", text)


def project_line(project: Record) -> str:
    name, path = one_line(project["name"]), one_line(project["repo_path"])
    return f"{project['id']}  {name}  {path}  ({project['target_branch']})"


def task_line(task: Record) -> str:
    labels = "".join(f" #{label}" for label in task["labels"])
    return f"{task['id']}  {task['status']:<10}  {one_line(task['title'] + labels)}"


def task_page(task: Record) -> Iterable[str]:
    """The lines of a task with its attempts and their runs."""
    yield task_line(task)
    if task["description"]:
        yield from ("", *map(one_line, task["description"].splitlines()))
    for attempt in task["attempts"]:
        yield ""
        yield attempt_line(attempt)
        for run in attempt["runs"]:
            yield f"  {run_line(run)}"


def attempt_line(attempt: Record) -> str:
    return f"{attempt['id']}  {attempt['outcome']:<10}  {attempt['executor']} on {attempt['branch']}"


def run_line(run: Record) -> str:
    code = "" if run["exit_code"] is None else f" (exit code {run['exit_code']})"
    return f"{run['id']}  {run['run_reason']:<13}  {run['status']}{code}"


def diff_stat(record: Record) -> str:
    name = record["file"] if not record["old_path"] else f"{record['old_path']} => {record['file']}"
    return f"+{record['additions']} -{record['deletions']}  {record['change']:<8}  {one_line(name)}"
