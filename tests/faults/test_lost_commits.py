"""The database comes back without the last commits, as after a power loss: their ids become those of other rows."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.faults.board import Board
from tests.live import LiveServer
from tests.repositories import make_repository
from tests.sse_client import connect


def test_a_client_that_saw_lost_commits_starts_over_and_others_go_on(tmp_path: Path) -> None:
    with LiveServer(tmp_path / "data") as server:
        board = Board(server, make_repository(tmp_path / "repository"))
        database = server.data / "db.sqlite3"
        titles = [f"Task {number}" for number in range(4)]
        made = [make(board, title) for title in titles[:2]]
        before = cursor_after(board, made[-1])
        with closing(sqlite3.connect(database)) as real, closing(sqlite3.connect(tmp_path / "copy")) as copy:
            real.backup(copy)
        after = cursor_after(board, make(board, "Lost"))
        server.kill()
        for file in server.data.glob("db.sqlite3-*"):
            file.unlink()
        (tmp_path / "copy").replace(database)
        server.start()
        made += [make(board, title) for title in titles[2:]]
        assert row(after) < row(cursor_after(board, made[-1]))
        found = messages(board, after, made[-1])
        assert found[0]["path"] == ""
        tasks = found[0]["value"]["tasks"].values()
        assert {task["title"] for task in tasks} >= set(titles)
        assert "Lost" not in {task["title"] for task in tasks}
        assert [one["path"] for one in messages(board, before, made[-1])] == [
            f"/tasks/{task}" for task in made[2:]
        ]


def make(board: Board, title: str) -> str:
    """The id of a new task."""
    return str(board.post("/api/tasks", {"project_id": board.project["id"], "title": title})["id"])


def row(cursor: str) -> int:
    return int(cursor.split(".")[1])


def cursor_after(board: Board, task: str) -> str:
    with connect(f"{board.server.url}/api/events/", board.token) as stream:
        return stream.until(lambda event: task in event.data)[-1].id


def messages(board: Board, cursor: str, task: str) -> list[Any]:
    """What a client with this cursor is sent, up to what tells of the task."""
    with connect(f"{board.server.url}/api/events/", board.token, last_id=cursor) as stream:
        return [event.json for event in stream.until(lambda event: task in event.data)]
