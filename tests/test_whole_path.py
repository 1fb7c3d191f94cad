"""The whole path on the real server: a program changes a repository, and every stream tells."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonpatch
import pytest

from tests.live import LiveServer
from tests.repositories import git, make_repository
from tests.sse_client import Event, connect

SCRIPT = """\
echo building; echo careful >&2
printf 'print(1)\\n' > made.py
printf 'changed\\n' > README.md
git mv src/app.py src/main.py
git commit -qam 'Rename'
echo done
"""


class Board:
    """The API of one live server, by token."""

    def __init__(self, server: LiveServer) -> None:
        self.server = server
        self.token = server.token()
        self.http = httpx.Client(
            base_url=server.url, headers={"Authorization": f"Bearer {self.token}"}, timeout=60
        )

    def get(self, address: str) -> Any:
        answer = self.http.get(address)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, address: str, body: dict[str, Any] | None = None, status: int = 201) -> Any:
        answer = self.http.post(address, json=body)
        assert answer.status_code == status, answer.text
        return answer.json()

    def start(
        self, repository: Path, script: str, title: str = "Try"
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        project = self.post("/api/projects", {"name": title, "repo_path": str(repository)})
        task = self.post("/api/tasks", {"project_id": project["id"], "title": title})
        body = {"task_id": task["id"], "executor": "script", "prompt": script}
        return task, self.post("/api/task-attempts", body)

    def run_of(self, attempt: dict[str, Any], reason: str = "codingagent") -> dict[str, Any]:
        runs = self.wait(lambda: [run for run in self.runs(attempt) if run["run_reason"] == reason])
        return runs[0]

    def runs(self, attempt: dict[str, Any]) -> list[dict[str, Any]]:
        return self.get(f"/api/processes?task_attempt_id={attempt['id']}")

    def ended(self, attempt: dict[str, Any]) -> dict[str, Any]:
        def done() -> dict[str, Any] | None:
            run = self.run_of(attempt)
            return run if run["status"] not in ("queued", "running") else None

        return self.wait(done)

    def wait(self, condition: Any, seconds: float = 60) -> Any:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = condition()
            if found:
                return found
            time.sleep(0.05)
        raise AssertionError("the condition did not come true")


@pytest.fixture(scope="module")
def board(live_server_process: LiveServer) -> Iterator[Board]:
    board = Board(live_server_process)
    yield board
    board.http.close()


def test_a_run_from_start_to_end(board: Board, tmp_path: Path) -> None:
    server = board.server
    repository = make_repository(tmp_path / "repository")
    with connect(f"{server.url}/api/events/", board.token) as changes:
        received = iter(changes)
        document: Any = jsonpatch.apply_patch({}, [next(received).json])
        assert set(document) == {"projects", "tasks", "task_attempts", "execution_processes"}
        task, attempt = board.start(repository, SCRIPT)
        run = board.ended(attempt)
        assert (run["status"], run["exit_code"]) == ("completed", 0)
        assert run["after_head_commit"] != run["before_head_commit"]
        board.wait(lambda: board.get(f"/api/tasks/{task['id']}")["status"] == "inreview")
        # One save is several operations: the status arrives before the moment of the change.
        seen, wanted = [], board.get(f"/api/tasks/{task['id']}")
        while document["tasks"].get(task["id"]) != wanted:
            event = next(received)
            if event.event == "message":
                document = jsonpatch.apply_patch(document, [event.json])
                seen.append(document["tasks"].get(task["id"], {}).get("status"))
        assert "inprogress" in seen
        assert document["task_attempts"][attempt["id"]] == board.get(f"/api/task-attempts/{attempt['id']}")

    with connect(f"{server.url}/api/events/processes/{run['id']}/logs", board.token) as logs:
        events = logs.until(lambda event: event.event == "finished")
        assert list(logs) == [], "the server closes after the end"
    records = [event.json for event in events if event.event == "message"]
    assert ("stdout", "building") in [(record["type"], record["content"]) for record in records]
    assert ("stderr", "careful") in [(record["type"], record["content"]) for record in records]
    assert set(records[0]) == {"type", "content", "timestamp"}
    assert events[-1].json == {"status": "completed", "exit_code": 0}
    again = httpx.get(
        f"{server.url}/api/events/processes/{run['id']}/logs",
        headers={"Authorization": f"Bearer {board.token}", "Last-Event-ID": events[-1].id},
    )
    assert again.status_code == 204

    with connect(f"{server.url}/api/events/task-attempts/{attempt['id']}/diff", board.token) as diff:
        events = diff.until(lambda event: event.event == "ready")
    files = {event.json["file"]: event.json for event in events if event.event == "message"}
    assert {name: record["change"] for name, record in files.items()} == {
        "README.md": "modified",
        "made.py": "added",
        "src/main.py": "renamed",
    }
    assert files["src/main.py"]["old_path"] == "src/app.py"
    assert (files["README.md"]["additions"], files["README.md"]["deletions"]) == (1, 1)
    by_name = {record["file"]: record for record in board.get(f"/api/task-attempts/{attempt['id']}/diff")}
    assert by_name == files


def test_each_stream_resumes_after_every_id(board: Board, tmp_path: Path) -> None:
    """From each id that was ever sent, exactly what followed it; nothing twice, nothing missing."""
    _, attempt = board.start(
        make_repository(tmp_path / "r"), "for i in 1 2 3 4 5; do echo line $i; done", "Resume"
    )
    run = board.ended(attempt)
    url = f"{board.server.url}/api/events/processes/{run['id']}/logs"
    with connect(url, board.token) as stream:
        whole = stream.until(lambda event: event.event == "finished")
    for index, event in enumerate(whole[:-1]):
        with connect(url, board.token, last_id=event.id) as stream:
            assert stream.until(lambda event: event.event == "finished") == whole[index + 1 :]


def test_a_diff_follows_the_files_and_ends_with_the_merge(board: Board, tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "follow")
    _, attempt = board.start(repository, "echo first > first.txt", "Follow")
    board.ended(attempt)
    worktree = Path(board.get(f"/api/task-attempts/{attempt['id']}")["worktree"])

    def about(name: str) -> Any:
        return lambda event: event.event == "message" and event.json["file"] == name

    url = f"{board.server.url}/api/events/task-attempts/{attempt['id']}/diff"
    with connect(url, board.token) as stream:
        stream.until(lambda event: event.event == "ready")
        (worktree / "second.txt").write_text("two\n")
        second = stream.until(about("second.txt"))[-1].json
        assert (second["change"], second["additions"]) == ("added", 1)
        (worktree / "second.txt").unlink()
        gone = stream.until(about("second.txt"))[-1].json
        assert (gone["change"], gone["diff"]) == ("reverted", "")
        board.post(f"/api/task-attempts/{attempt['id']}/merge", status=200)
        stream.until(lambda event: event.event == "finished")
    assert "first.txt" in git(repository, "ls-tree", "--name-only", "main")
    merged = board.get(f"/api/task-attempts/{attempt['id']}")
    assert board.get(f"/api/tasks/{merged['task_id']}")["status"] == "done"


def test_stop_is_idempotent_and_true(board: Board, tmp_path: Path) -> None:
    script = "trap '' INT; echo up; while true; do sleep 0.1; done"
    _, attempt = board.start(make_repository(tmp_path / "stop"), script, "Stop")
    run = board.run_of(attempt)
    url = f"{board.server.url}/api/events/processes/{run['id']}/logs"
    with connect(url, board.token) as logs:
        logs.until(lambda event: event.event == "message" and event.json["content"] == "up")
        for _ in range(3):
            board.post(f"/api/processes/{run['id']}/stop", status=200)
        assert logs.until(lambda event: event.event == "finished")[-1].json["status"] == "killed"
    assert board.ended(attempt)["status"] == "killed"
    board.post(f"/api/processes/{run['id']}/stop", status=200)


def test_a_follow_up_runs_in_the_same_worktree(board: Board, tmp_path: Path) -> None:
    _, attempt = board.start(make_repository(tmp_path / "again"), "echo one > one.txt", "Again")
    board.ended(attempt)
    run = board.post(f"/api/task-attempts/{attempt['id']}/follow-up", {"prompt": "cat one.txt"})
    url = f"{board.server.url}/api/events/processes/{run['id']}/logs"
    with connect(url, board.token) as logs:
        events = logs.until(lambda event: event.event == "finished")
    assert "one" in [event.json.get("content") for event in events]


def test_a_stream_says_who_may_not_read_it(board: Board) -> None:
    server = board.server
    for address in ("/api/events/", "/api/events/processes/00000000-0000-0000-0000-000000000000/logs"):
        assert httpx.get(server.url + address).status_code == 401
    bearer = {"Authorization": f"Bearer {board.token}"}
    for kind in ("processes/{}/logs", "task-attempts/{}/diff"):
        address = f"{server.url}/api/events/{kind.format('00000000-0000-0000-0000-000000000000')}"
        assert httpx.get(address, headers=bearer).status_code == 404
    assert httpx.get(f"{server.url}/api/events/?project_id=nonsense", headers=bearer).status_code in (
        404,
        422,
    )


def test_the_head_and_the_first_bytes_of_a_stream(board: Board) -> None:
    headers = {"Authorization": f"Bearer {board.token}", "Accept-Encoding": "gzip, br"}
    head = httpx.head(f"{board.server.url}/api/events/", headers=headers)
    assert (head.status_code, head.content) == (200, b"")
    with httpx.stream("GET", f"{board.server.url}/api/events/", headers=headers) as answer:
        assert answer.headers["content-type"].split(";")[0] == "text/event-stream"
        assert answer.headers["cache-control"] == "no-cache, no-transform"
        assert answer.headers["x-accel-buffering"] == "no"
        assert "content-encoding" not in answer.headers
        first = next(answer.iter_bytes())
    assert b"retry:" in first
    assert b"id:" in first


def test_a_cursor_nobody_knows_gets_a_full_state(board: Board) -> None:
    for cursor in ("garbage", "0.999999999", "ümlaut", "x" * 2000):
        with connect(f"{board.server.url}/api/events/", board.token, last_id=cursor) as stream:
            event: Event = next(iter(stream))
            assert (event.json["op"], event.json["path"]) == ("replace", "")
