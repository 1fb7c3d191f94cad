from typing import Any

import pytest

from tasks.board.boards import Card, columns
from tasks.templatetags.ui import hue, initials

MINUTE = "2026-01-01T00:{:02d}:00.000000Z"


def record(key: str, minute: int = 0, **fields: Any) -> dict[str, Any]:
    return {"id": key, "created_at": MINUTE.format(minute), **fields}


def task(key: str, status: str = "todo", position: float = 0, minute: int = 0) -> dict[str, Any]:
    return record(key, minute, title=key, status=status, position=position, labels=[])


def run(key: str, attempt: str, status: str, minute: int = 0, reason: str = "codingagent") -> dict[str, Any]:
    times = {"started_at": MINUTE.format(minute), "completed_at": None}
    return record(key, minute, task_attempt_id=attempt, run_reason=reason, status=status, **times)


def document(tasks: list[Any], attempts: list[Any] = [], runs: list[Any] = []) -> dict[str, Any]:  # noqa: B006
    tables = {"tasks": tasks, "task_attempts": attempts, "execution_processes": runs}
    return {name: {row["id"]: row for row in rows} for name, rows in tables.items()}


def only_card(*args: Any) -> Card:
    (card,) = [card for column in columns(document(*args)) for card in column.cards]
    return card


def test_cards_are_ordered_by_position_then_by_age() -> None:
    rows = [task("c", position=2), task("b", position=1, minute=2), task("a", position=1, minute=1)]
    todo = columns(document(rows))[0]
    assert [card.id for card in todo.cards] == ["a", "b", "c"]


def test_every_status_has_its_column() -> None:
    assert [column.status for column in columns(document([]))] == [
        "todo", "inprogress", "inreview", "done", "cancelled",
    ]  # fmt: skip


def test_a_card_shows_its_latest_attempt_and_run() -> None:
    attempts = [
        record("old", 1, task_id="t", executor="claude"),
        record("new", 2, task_id="t", executor="demo"),
    ]
    runs = [run("r3", "new", "running", 4), run("r1", "old", "failed", 5), run("r2", "new", "failed", 3)]
    card = only_card([task("t", "inprogress")], attempts, runs)
    assert (card.agent, card.attempt, card.state, card.started_at) == (
        "demo",
        "new",
        "running",
        MINUTE.format(4),
    )


def test_a_card_shows_the_run_that_goes_on_rather_than_those_that_wait_behind_it() -> None:
    attempts = [record("a", task_id="t", executor="demo")]
    runs = [run("r1", "a", "running", 1, reason="setupscript"), run("r2", "a", "queued", 2)]
    card = only_card([task("t", "inprogress")], attempts, runs)
    assert (card.state, card.started_at) == ("running", MINUTE.format(1))


def test_a_development_server_says_nothing_about_the_work() -> None:
    attempts = [record("a", task_id="t", executor="demo")]
    runs = [run("r1", "a", "completed", 1), run("r2", "a", "running", 2, reason="devserver")]
    assert only_card([task("t", "inreview")], attempts, runs).state == "review"


@pytest.mark.parametrize(
    ("status", "run_status", "state"),
    [
        ("inprogress", "queued", "queued"),
        ("done", "running", "running"),
        ("inreview", "completed", "review"),
        ("inreview", "failed", "failed"),
        ("inreview", "killed", "killed"),
        ("inprogress", "completed", ""),
        ("done", "completed", ""),
        ("done", "failed", ""),
        ("cancelled", "killed", ""),
    ],
)
def test_the_state_says_what_a_person_has_to_know(status: str, run_status: str, state: str) -> None:
    attempts = [record("a", task_id="t", executor="demo")]
    assert only_card([task("t", status)], attempts, [run("r", "a", run_status)]).state == state


def test_a_label_keeps_its_hue() -> None:
    assert hue("bug") == hue("bug")
    assert all(0 <= hue(word) <= 345 and hue(word) % 15 == 0 for word in ("", "bug", "ünï", "x" * 50))


def test_initials() -> None:
    assert [initials(name) for name in ("admin", "ann.lee", "Bo van Dyk", "")] == ["a", "al", "Bv", "?"]
