"""The log in a real browser: `python -m benchmarks.log_page`.

Opening: from the start of the navigation to the first line of a log on screen, with 100 lines and with 100 MB, by a
browser that has nothing of the page yet and by one that was here before. Following: how far a page that shows the end
is behind a program that prints as fast as it can.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.run_logs import write_log
from tests.live import LiveServer
from tests.needs import CHROMIUM_PAGES
from tests.repositories import make_repository

LOADS = 10
FLOOD = 2_000_000
# When the first line was drawn, in milliseconds since the navigation began: the frame after the one that put it there.
FIRST_LINE = """
window.firstLine = new Promise((resolve) => {
  const look = () => {
    if (document.querySelector(".log-line .log-text:not(.skeleton)")) {
      requestAnimationFrame(() => setTimeout(() => resolve(performance.now())));
    } else requestAnimationFrame(look);
  };
  look();
});
"""


class Board:
    def __init__(self, server: LiveServer, folder: Path) -> None:
        self.server = server
        self.api = httpx.Client(
            base_url=f"{server.url}/api", headers={"Authorization": f"Bearer {server.token()}"}, timeout=60
        )
        repository = make_repository(folder / "repository")
        self.project = self.post("/projects", repo_path=str(repository))["id"]

    def post(self, path: str, **body: Any) -> Any:
        return self.api.post(path, json=body).raise_for_status().json()

    def run(self, script: str) -> tuple[str, str]:
        """The ids of a new task and of its run."""
        task = self.post("/tasks", project_id=self.project, title="Prints")["id"]
        attempt = self.post("/task-attempts", task_id=task, executor="script", prompt=script)["id"]
        return task, self.api.get(f"/processes?task_attempt_id={attempt}").json()[0]["id"]

    def wait(self, run: str) -> None:
        while self.api.get(f"/processes/{run}").json()["status"] in ("queued", "running"):
            time.sleep(0.05)

    def with_log(self, megabytes: int) -> str:
        """A task whose run has ended and left that much of log."""
        task, run = self.run("seq 100")
        self.wait(run)
        if megabytes:
            write_log(self.server.data / "runs" / run, megabytes)
        return task


def opened(page: Page, address: str) -> float:
    page.goto(address, wait_until="commit")
    milliseconds: float = page.evaluate("window.firstLine")
    return milliseconds


def open_logs(browser: Browser, server: LiveServer, board: Board, state: Any) -> Iterator[tuple[str, str]]:
    for name, megabytes in (("100 lines", 0), ("100 MB", 100)):
        address = f"/tasks/{board.with_log(megabytes)}/?view=log"
        cold, warm = [], []
        for _ in range(LOADS):
            with profile(browser, server, state) as page:
                cold.append(opened(page, address))
                page.goto("about:blank")
                warm.append(opened(page, address))
        yield f"{name}, first visit: first line on screen", spread(cold)
        yield f"{name}, later visit: first line on screen", spread(warm)


def spread(times: list[float]) -> str:
    return f"{statistics.median(times):.0f} ms ({min(times):.0f} to {max(times):.0f})"


@contextmanager
def profile(browser: Browser, server: LiveServer, state: Any) -> Iterator[Page]:
    context = browser.new_context(base_url=server.url, storage_state=state)
    context.add_init_script(FIRST_LINE)
    yield context.new_page()
    context.close()


# Resolves with the moment, in seconds since 1970, when a line that begins so is on screen.
SEEN = """(start) => new Promise((resolve) => {
  const look = () => {
    const last = document.querySelector(".lines")?.lastElementChild?.querySelector(".log-text");
    if (last?.textContent.startsWith(start)) setTimeout(() => resolve(Date.now() / 1000));
    else requestAnimationFrame(look);
  };
  look();
})"""


def follow(browser: Browser, server: LiveServer, board: Board, state: Any) -> Iterator[tuple[str, str]]:
    with tempfile.TemporaryDirectory(prefix="vibe-bench-") as name, profile(browser, server, state) as page:
        numbers = f'for (i = 1; i <= {FLOOD}; i++) print "line " i " {"x" * 80}"'
        moment = f"date +%s.%N >> {name}/moments"
        script = (
            f"while [ ! -e {name}/go ]; do sleep 0.05; done; {moment}; awk 'BEGIN {{ {numbers} }}'; {moment}"
        )
        task, _ = board.run(script)
        page.goto(f"/tasks/{task}/?view=log")
        page.locator("#line[data-state=live]").wait_for()
        page.set_default_timeout(150_000)
        Path(name, "go").touch()
        seen = page.evaluate(SEEN, f"line {FLOOD} ")
        began, ended = map(float, Path(name, "moments").read_text().split())
        yield f"{FLOOD:,} lines of 90 bytes, printed at", f"{FLOOD / (ended - began):,.0f} lines/s"
        yield "the last of them is on screen after its end by", f"{(seen - ended) * 1000:.0f} ms"
        yield "shown in all, from the first", f"{FLOOD / (seen - began):,.0f} lines/s"
        yield "the page's heap then", f"{page.evaluate('performance.memory.usedJSHeapSize') / 1e6:.0f} MB"
        assert server.process is not None
        yield "the server's memory", f"{psutil.Process(server.process.pid).memory_info().rss / 1e6:.0f} MB"


def main(parts: list[str]) -> None:
    wanted = {"open": open_logs, "follow": follow}
    with tempfile.TemporaryDirectory(prefix="vibe-bench-") as name, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM_PAGES, args=["--no-sandbox", "--disable-gpu"]
        )
        with LiveServer(Path(name, "data"), typed=True) as server:
            board = Board(server, Path(name))
            page = browser.new_page()
            page.goto(server.sign_in_link)
            state = page.context.storage_state()
            print("| the log in a browser | |\n| --- | --- |")
            for part in parts or wanted:
                for what, value in wanted[part](browser, server, board, state):
                    print(f"| {what} | {value} |", flush=True)
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1:])
