"""How soon an edit in a worktree is on a client of the diff stream, and what it costs: `python -m benchmarks.diffs`.

A real server, a real repository, one reader over HTTP. The clock starts when the file is written and ends when the
reader has the record; the debounce of 150 ms is part of it.
"""

import json
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.live import LiveServer
from tests.repositories import git, make_repository
from tests.sse_client import connect

FILES = 20_000
EDITS = 300
IGNORED = 50_000
MANY = 2_000


class Watched:
    """An attempt on the server, and what its diff stream has brought so far."""

    def __init__(self, server: LiveServer, repository: Path) -> None:
        self.server = server
        self.token = server.token()
        with httpx.Client(
            base_url=server.url, headers={"Authorization": f"Bearer {self.token}"}, timeout=120
        ) as api:
            project = _made(api, "/api/projects", name="bench", repo_path=str(repository))
            task = _made(api, "/api/tasks", project_id=project["id"], title="bench")
            attempt = _made(api, "/api/task-attempts", task_id=task["id"], executor="script", prompt="true")
            self.id = attempt["id"]
            while not (runs := api.get(f"/api/processes?task_attempt_id={self.id}").json()) or (
                runs[-1]["status"] in ("queued", "running")
            ):
                time.sleep(0.1)
            self.worktree = Path(api.get(f"/api/task-attempts/{self.id}").json()["worktree"])
        self.seen: dict[str, tuple[float, dict[str, Any]]] = {}
        self.ready = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        url = f"{self.server.url}/api/events/task-attempts/{self.id}/diff"
        with connect(url, self.token, read_timeout=600) as stream:
            for event in stream:
                if event.event == "message":
                    record = json.loads(event.data)
                    self.seen[record["file"]] = (time.perf_counter(), record)
                elif event.event == "ready":
                    self.ready.set()

    def edit(self, name: str, mark: str) -> float:
        """Milliseconds until the reader has it."""
        began = time.perf_counter()
        with (self.worktree / name).open("a") as file:
            file.write(f"{mark}\n")
        while name not in self.seen or mark not in self.seen[name][1]["diff"]:
            if time.perf_counter() - began > 60:
                raise AssertionError(f"{name} did not arrive")
            time.sleep(0.001)
        return (self.seen[name][0] - began) * 1000

    def comes(self, *names: str) -> None:
        while not all(name in self.seen for name in names):
            time.sleep(0.01)

    def edits(self, count: int) -> list[float]:
        chance = random.Random(1)
        files = [str(path.relative_to(self.worktree)) for path in sorted(self.worktree.glob("dir*/file*"))]
        found = []
        for _ in range(count):
            found.append(self.edit(chance.choice(files), f"edit {time.time_ns()};"))
            time.sleep(chance.uniform(0.05, 0.3))
        return found


def _made(api: httpx.Client, path: str, **fields: object) -> dict[str, Any]:
    answer = api.post(path, json=fields)
    answer.raise_for_status()
    found: dict[str, Any] = answer.json()
    return found


@contextmanager
def processor(server: LiveServer) -> Iterator[Callable[[], float]]:
    """Seconds of processor time that the server and its children used in the block."""
    assert server.process is not None
    process = psutil.Process(server.process.pid)
    before = process.cpu_times()
    ended: list[float] = []
    yield lambda: ended[0]
    after = process.cpu_times()
    names = ("user", "system", "children_user", "children_system")
    ended.append(sum(getattr(after, name) - getattr(before, name) for name in names))


def say(what: str, latencies: list[float], cpu: float) -> None:
    cuts = statistics.quantiles(latencies, n=100, method="inclusive")
    print(
        f"{what:<58} p50 {cuts[49]:6.0f} ms   p99 {cuts[98]:6.0f} ms   most {max(latencies):6.0f} ms   "
        f"{cpu / len(latencies) * 1000:5.0f} ms of processor each"
    )


def main(files: int = FILES, edits: int = EDITS) -> None:
    with tempfile.TemporaryDirectory(prefix="vibe-bench-") as folder:
        content = {f"dir{n // 100}/file{n % 100}": f"{n}\nsome text\n" * 50 for n in range(files)}
        repository = make_repository(Path(folder, "repository"), {**content, ".gitignore": "node_modules/\n"})
        with LiveServer(Path(folder, "data")) as server:
            measure(server, repository, edits)


def measure(server: LiveServer, repository: Path, edits: int) -> None:
    began = time.perf_counter()
    watched = Watched(server, repository)
    print(f"{'an attempt of a script that does nothing':<58} {time.perf_counter() - began:10.1f} s")
    began = time.perf_counter()
    watched.ready.wait(60)
    print(f"{'first state of a clean worktree':<58} {(time.perf_counter() - began) * 1000:10.0f} ms")

    with processor(server) as spent:
        found = watched.edits(edits)
    say(f"{edits} edits", found, spent())

    with processor(server) as spent:
        script = (
            "import os\nfor n in range(%d):\n f = f'node_modules/{n // 100}'\n"
            " os.makedirs(f, exist_ok=True)\n open(f'{f}/{n}', 'w').close()"
        )
        storm = psutil.Popen([sys.executable, "-c", script % IGNORED], cwd=watched.worktree)
        during = []
        while storm.poll() is None:
            during.append(watched.edit("dir0/file0", f"storm {len(during)};"))
        time.sleep(1)
    say(f"edits while {IGNORED} files are made in an ignored folder", during, spent())

    began = time.perf_counter()
    for number in range(MANY):
        (watched.worktree / f"dir{number % 20}" / f"new{number}").write_text(f"{number}\n" * 20)
    while sum(name.rpartition("/")[2].startswith("new") for name in list(watched.seen)) < MANY:
        time.sleep(0.01)
    print(f"{f'{MANY} new files, written and seen':<58} {time.perf_counter() - began:10.1f} s")
    with processor(server) as spent:
        found = watched.edits(max(10, edits // 10))
    say(f"edits with {MANY} more files changed", found, spent())
    git(watched.worktree, "rm", "-q", "dir1/file1", "dir1/file2")
    time.sleep(2)
    with processor(server) as spent:
        found = [watched.edit(f"dir{number % 20}/new{number}", f"paired {number};") for number in range(30)]
    say("edits of new files while others are deleted", found, spent())
    with processor(server) as spent:
        found = [watched.edit(f"dir0/fresh{number}", f"fresh {number};") for number in range(30)]
    say("new files while others are deleted", found, spent())
    found = []
    with processor(server) as spent:
        for number in range(10):
            (watched.worktree / f"dir2/file{number}").rename(watched.worktree / f"dir2/renamed{number}")
            watched.comes(f"dir2/renamed{number}")
            found.append(watched.edit(f"dir2/renamed{number}", "at first;"))
    say("first edits of renamed files, and the renames", found, spent())
    with processor(server) as spent:
        found = [watched.edit("dir2/renamed0", f"renamed {number};") for number in range(30)]
    if watched.seen["dir2/renamed0"][1]["change"] != "renamed":
        raise AssertionError("So many edits are too many: the file is like another no more")
    say("edits of a renamed file", found, spent())
    (watched.worktree / "moved").mkdir()
    for number in range(150, 154):
        (watched.worktree / f"dir{number}").rename(watched.worktree / f"moved/dir{number}")
    watched.comes(*(f"moved/dir{number}/file{file}" for number in range(150, 154) for file in range(100)))
    with processor(server) as spent:
        found = [watched.edit(f"dir{number % 20}/new{number}", f"moved {number};") for number in range(30)]
    say("edits of new files with 400 files moved", found, spent())
    with processor(server) as spent:
        found = [watched.edit(f"moved/dir150/file{number}", "moved;") for number in range(30)]
    say("first edits of moved files", found, spent())
    with processor(server) as spent:
        found = [watched.edit("moved/dir150/file0", f"again {number};") for number in range(30)]
    say("edits of a moved file", found, spent())


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
