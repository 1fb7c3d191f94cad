"""The changes stream of a real server, while others write to its database."""

import json
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.live import LiveServer
from tests.repositories import make_repository
from tests.runs import wait_for
from tests.sse_client import connect
from tests.zygote import start

WRITE = """
import time
from tasks.models import Task
for number in range(5):
    Task.objects.update(title=str(time.time()))
    time.sleep(0.3)
"""
COUNT = "from events.models import DatabaseChange; print('rows:', DatabaseChange.objects.count())"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    limits = {"EVENTS_PRUNE_SECONDS": "0.3", "EVENTS_KEEP_BYTES": "6000"}
    with LiveServer(tmp_path_factory.mktemp("live"), env=limits) as live:
        yield live


@pytest.fixture(scope="module")
def api(server: LiveServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {server.token()}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=60) as client:
        repository = make_repository(tmp_path_factory.mktemp("git") / "repository")
        project = client.post("/api/projects", json={"name": "p", "repo_path": str(repository)}).json()
        client.post("/api/tasks", json={"project_id": project["id"], "title": "first"})
        yield client


def token_of(api: httpx.Client) -> str:
    return api.headers["Authorization"].partition(" ")[2]


def test_another_process_is_told_of_at_once(server: LiveServer, api: httpx.Client) -> None:
    with connect(f"{server.url}/api/events/", token_of(api)) as stream:
        events = iter(stream)
        next(events)
        writer = start(["shell", "-v0", "-c", WRITE], server.env, server.data / "writer.log")
        delays = []
        for event in events:
            if event.event == "message" and event.json["path"].endswith("/title"):
                delays.append(time.time() - float(event.json["value"]))
            if len(delays) == 5:
                break
        assert writer.wait(30) == 0
    # Long before a heartbeat. The quickest: a machine that is busy with other tests pauses now and then.
    assert min(delays) < 1


def test_resync_reaches_connected_clients(server: LiveServer, api: httpx.Client) -> None:
    with connect(f"{server.url}/api/events/", token_of(api)) as stream:
        stream.until(lambda event: event.json["path"] == "")
        server.manage("resync")
        stream.until(lambda event: event.json["path"] == "")


def test_running_server_prunes_and_old_cursors_start_over(server: LiveServer, api: httpx.Client) -> None:
    with connect(f"{server.url}/api/events/", token_of(api)) as stream:
        old = stream.until(lambda event: event.json["path"] == "")[-1].id
    task = api.get("/api/tasks").json()[0]
    for number in range(60):
        answer = api.patch(f"/api/tasks/{task['id']}", json={"title": f"{number}"})
        assert answer.status_code == 200

    def rows() -> int:
        return int(server.manage("shell", "-v0", "-c", COUNT).split("rows:")[1])

    wait_for(lambda: rows() < 40, "the pruning")
    with connect(f"{server.url}/api/events/", token_of(api), last_id=old) as stream:
        first = stream.until(lambda event: True)[0]
    assert first.json["path"] == ""
    assert first.json["value"]["tasks"][task["id"]]["title"] == "59"


def test_history_names_the_program(server: LiveServer, api: httpx.Client) -> None:
    server.manage("shell", "-v0", "-c", "from tasks.models import Task; Task.objects.update(title='by hand')")
    code = (
        "from events.models import DatabaseChange; import json; "
        "row = DatabaseChange.objects.latest('id'); print('row:', json.dumps([row.actor_kind, row.actor_label]))"
    )
    told = server.manage("shell", "-v0", "-c", code).split("row:")[1]
    assert json.loads(told) == ["command", "shell"]
