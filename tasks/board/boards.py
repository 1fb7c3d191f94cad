"""What the cards of a board show, computed from the same document that the page is then sent changes of.

tasks/static/tasks/js/board/model.js computes the same in the browser; tests compare the two.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tasks.models import RunReason, TaskStatus

Record = Mapping[str, Any]
Table = Mapping[str, Record]

STATE_WORDS = {
    "queued": "Queued",
    "running": "Running",
    "failed": "Failed",
    "killed": "Stopped",
    "interrupted": "Interrupted",
    "review": "Needs review",
}


@dataclass(frozen=True)
class Card:
    """One task. `state` is a key of STATE_WORDS or ""; times are ISO 8601 text or None."""

    id: str
    title: str
    labels: list[str]
    attempt: str = ""
    agent: str = ""
    state: str = ""
    started_at: str | None = None
    completed_at: str | None = None

    @property
    def state_words(self) -> str:
        return STATE_WORDS.get(self.state, "")


@dataclass(frozen=True)
class Column:
    status: str
    label: str
    cards: list[Card] = field(default_factory=list)


def columns(document: Mapping[str, Table]) -> list[Column]:
    """The columns of a board, in their order, with their cards in theirs."""
    attempts = _latest(document["task_attempts"].values(), "task_id")
    runs = (run for run in document["execution_processes"].values() if _counts(run))
    latest_runs = _latest(runs, "task_attempt_id")
    found = {status: Column(status.value, status.label) for status in TaskStatus}
    for task in sorted(document["tasks"].values(), key=_place):
        attempt = attempts.get(task["id"])
        run = latest_runs.get(attempt["id"]) if attempt else None
        found[TaskStatus(task["status"])].cards.append(_card(task, attempt, run))
    return list(found.values())


def _place(task: Record) -> tuple[float, str, str]:
    return (task["position"], task["created_at"], task["id"])


def _counts(run: Record) -> bool:
    """A development server says nothing about how the work stands."""
    return bool(run["run_reason"] != RunReason.DEVSERVER)


def _latest(records: Iterable[Record], owner: str) -> dict[str, Record]:
    """Of each owner the record that is latest, or of its runs the one that goes on: others may wait behind it."""
    latest: dict[str, Record] = {}
    for record in sorted(
        records, key=lambda one: (one.get("status") == "running", one["created_at"], one["id"])
    ):
        latest[record[owner]] = record
    return latest


def _card(task: Record, attempt: Record | None, run: Record | None) -> Card:
    if attempt is None:
        return Card(task["id"], task["title"], task["labels"])
    return Card(
        task["id"],
        task["title"],
        task["labels"],
        attempt=attempt["id"],
        agent=attempt["executor"],
        state=_state(task["status"], run),
        started_at=run["started_at"] if run else None,
        completed_at=run["completed_at"] if run else None,
    )


def _state(status: str, run: Record | None) -> str:
    if run is None:
        return ""
    if run["status"] in ("queued", "running"):
        return str(run["status"])
    if status in (TaskStatus.DONE, TaskStatus.CANCELLED):
        return ""
    if run["status"] == "completed":
        return "review" if status == TaskStatus.INREVIEW else ""
    return str(run["status"])
