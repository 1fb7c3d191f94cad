"""The board as the server makes it: `python -m benchmarks.board_page`.

From request to the last byte, of a server of its own, for boards of more and more tasks, each with an attempt and a
run. In turns, so that a busy moment of the machine touches all alike.
"""

import statistics
import tempfile
import time
from pathlib import Path

import httpx

from tests.live import LiveServer
from tests.repositories import make_repository

SIZES = (3, 30, 300, 1000)
ROUNDS = 20
FILL = """
from tasks.models import ExecutionProcess, Task, TaskAttempt
for project, number in {projects}:
    tasks = [Task(project_id=project, title=f"Task {{n}}", status=Task.Status.values[n % 5], position=n,
                  labels=["bug", "docs"]) for n in range(number)]
    Task.objects.bulk_create(tasks)
    attempts = [TaskAttempt(task=task, executor="demo", branch="b", target_branch="main") for task in tasks]
    TaskAttempt.objects.bulk_create(attempts)
    ExecutionProcess.objects.bulk_create([
        ExecutionProcess(task_attempt=one, run_reason="codingagent", status="completed") for one in attempts])
"""


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="vibe-bench-") as name, LiveServer(Path(name, "data")) as server:
        headers = {"Authorization": f"Bearer {server.token()}"}
        projects = []
        for size in SIZES:
            body = {
                "name": f"{size} tasks",
                "repo_path": str(make_repository(Path(name, f"repository-{size}"))),
            }
            made = httpx.post(f"{server.url}/api/projects", json=body, headers=headers, timeout=60)
            projects.append((made.raise_for_status().json()["id"], size))
        server.manage("shell", "-v", "0", "-c", FILL.format(projects=projects))
        times: dict[int, list[float]] = {size: [] for size in SIZES}
        with httpx.Client(base_url=server.url, follow_redirects=True, timeout=60) as visitor:
            visitor.get(server.sign_in_link).raise_for_status()
            for _ in range(ROUNDS):
                for project, size in projects:
                    began = time.perf_counter()
                    answer = visitor.get(f"/projects/{project}/").raise_for_status()
                    times[size].append((time.perf_counter() - began) * 1000)
                    assert answer.text.count('<li class="card"') == size + 1, "and the template of one"
    print("| tasks | the board's page: median | least | most | to that of the least board |")
    print("| --- | --- | --- | --- | --- |")
    least = statistics.median(times[SIZES[0]])
    for size, found in times.items():
        middle = statistics.median(found)
        print(
            f"| {size} | {middle:.0f} ms | {min(found):.0f} ms | {max(found):.0f} ms | {middle / least:.1f} |"
        )


if __name__ == "__main__":
    main()
