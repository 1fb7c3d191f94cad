"""Makes the README's pictures from the running product: `make screenshots`.

Starts a server on a temporary data folder, lets the demo agent work, and drives Chromium. Writes docs/images/:
the board (light, dark), a task at work, its changes, the same on a phone, and a short recording.
"""

import io
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
from PIL import Image
from playwright.sync_api import Browser, Page, StorageState, sync_playwright

from tests.live import LiveServer
from tests.needs import CHROMIUM

IMAGES: Final = Path(__file__).resolve().parent / "images"
DESKTOP: Final = {"width": 1360, "height": 850}
PHONE: Final = {"width": 390, "height": 844}
FILM: Final = {"width": 1120, "height": 700}
FRAME_SECONDS: Final = 0.35
QUICK: Final = "0.5"
UNHURRIED: Final = "24"
COLOURS: Final = 192

TASKS: Final = (
    ("Say in the README how to run the tests", "todo", ["docs"]),
    ("Show an error when the port is taken", "todo", ["bug"]),
    ("Cache the list of words", "todo", ["performance"]),
    ("Parse dates without a time zone", "todo", ["bug", "parser"]),
    ("Give the page a favicon", "cancelled", ["web"]),
)
FINISHED: Final = ("Sort names as people expect", "Tell an empty file from a missing one")
REVIEWED: Final = ("Greet people by name",)
WATCHED: Final = ("Count words faster", "Make the page readable in the dark")
FILMED: Final = "Drop what nobody uses"


class Board:
    """The REST API of the server, and the demo project in it."""

    def __init__(self, server: LiveServer) -> None:
        headers = {"Authorization": f"Bearer {server.token()}"}
        self._api = httpx.Client(base_url=f"{server.url}/api", headers=headers, timeout=30, trust_env=False)
        self.project: str = self("GET", "/projects")[0]["id"]

    def __call__(self, method: str, path: str, body: Any = None) -> Any:
        answer = self._api.request(method, path, json=body)
        assert answer.is_success, f"{method} {path}: {answer.text}"
        return answer.json()

    def task(self, title: str) -> str:
        """The id of the task with this title, made if there is none."""
        for task in self("GET", f"/tasks?project_id={self.project}"):
            if task["title"] == title:
                return str(task["id"])
        return str(self("POST", "/tasks", {"project_id": self.project, "title": title})["id"])

    def start(self, title: str) -> str:
        body = {"task_id": self.task(title), "executor": "demo"}
        return str(self("POST", "/task-attempts", body)["id"])

    def wait(self, attempt: str) -> None:
        until(
            lambda: all(
                run["status"] not in ("queued", "running")
                for run in self("GET", f"/processes?task_attempt_id={attempt}")
            )
        )

    def fill(self) -> None:
        """Tasks in all columns: some merged, one to review."""
        for title, status, labels in TASKS:
            body = {"project_id": self.project, "title": title, "status": status, "labels": labels}
            self("POST", "/tasks", body)
        for title in (*FINISHED, *REVIEWED):
            attempt = self.start(title)
            self.wait(attempt)
            if title in FINISHED:
                self("POST", f"/task-attempts/{attempt}/merge", {"strategy": "squash"})


def until(condition: Callable[[], bool], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.2)


@contextmanager
def serving(folder: Path) -> Iterator[tuple[LiveServer, Board]]:
    with LiveServer(folder, {"VIBE_DEMO_SECONDS": QUICK, "NO_PROXY": "*"}) as server:
        board = Board(server)
        board.fill()
        server.stop()
        server.env["VIBE_DEMO_SECONDS"] = UNHURRIED
        server.start()
        yield server, board


@contextmanager
def window(
    browser: Browser, server: LiveServer, state: StorageState | None, size: Any, **options: Any
) -> Iterator[Page]:
    context = browser.new_context(base_url=server.url, storage_state=state, viewport=size, **options)
    page = context.new_page()
    page.set_default_timeout(30_000)
    yield page
    context.close()


def sign_in(browser: Browser, server: LiveServer) -> StorageState:
    with window(browser, server, None, DESKTOP) as page:
        page.goto(server.sign_in_link)
        return page.context.storage_state()


def save(page: Page, name: str) -> None:
    """A PNG with a palette, which a page of few colours loses nothing by."""
    picture = Image.open(io.BytesIO(page.screenshot(animations="disabled"))).convert("RGB")
    small = picture.quantize(COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    small.save(IMAGES / f"{name}.png", optimize=True)


def go(page: Page, path: str) -> None:
    page.goto(path)
    page.locator("#line[data-state=live]").wait_for()


def take_pictures(browser: Browser, server: LiveServer, board: Board) -> None:
    state = sign_in(browser, server)
    attempts = [board.start(title) for title in WATCHED]
    task = f"/tasks/{board.task(WATCHED[0])}/"
    place = f"/projects/{board.project}/"
    time.sleep(12)
    with window(browser, server, state, DESKTOP, color_scheme="light") as page:
        go(page, place)
        time.sleep(3)  # the pulse of the runs: lines of output, counts of changed lines
        save(page, "board")
        go(page, task)
        time.sleep(2)
        save(page, "task")
    with window(browser, server, state, DESKTOP, color_scheme="dark") as page:
        go(page, place)
        time.sleep(3)
        save(page, "board-dark")
    for attempt in attempts:
        board.wait(attempt)
    with window(browser, server, state, DESKTOP, color_scheme="light") as page:
        go(page, f"/tasks/{board.task(REVIEWED[0])}/?view=changes")
        time.sleep(2)
        save(page, "changes")
    with window(browser, server, state, PHONE, color_scheme="light", has_touch=True, is_mobile=True) as page:
        go(page, place)
        time.sleep(2)
        save(page, "phone")


def record(browser: Browser, server: LiveServer, board: Board) -> None:
    """Starting an agent, the card moving, its log and its diff growing."""
    frames: list[bytes] = []

    def film(page: Page, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            began = time.monotonic()
            frames.append(page.screenshot())
            time.sleep(max(0.0, FRAME_SECONDS - (time.monotonic() - began)))

    state = sign_in(browser, server)
    task = board.task(FILMED)
    with window(browser, server, state, FILM, color_scheme="light") as page:
        go(page, f"/projects/{board.project}/")
        film(page, 1.5)
        attempt = board.start(FILMED)
        film(page, 6)
        go(page, f"/tasks/{task}/")
        film(page, 9)
        go(page, f"/tasks/{task}/?view=changes")
        film(page, 6)
        board.wait(attempt)
        go(page, f"/projects/{board.project}/")
        film(page, 2)
        board("POST", f"/task-attempts/{attempt}/merge", {"strategy": "merge"})
        film(page, 3)
    assemble(frames)


def assemble(frames: list[bytes]) -> None:
    first, *rest = [Image.open(io.BytesIO(frame)).convert("RGB") for frame in frames]
    first.save(
        IMAGES / "recording.webp",
        save_all=True,
        append_images=rest,
        duration=int(FRAME_SECONDS * 1000),
        loop=0,
        quality=55,
        method=4,
    )


def main() -> int:
    if not CHROMIUM:
        sys.stderr.write("Chromium is not installed.\n")
        return 1
    IMAGES.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder) / "data") as (server, board),
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        take_pictures(browser, server, board)
        record(browser, server, board)
        browser.close()
    for picture in sorted(IMAGES.iterdir()):
        sys.stdout.write(f"{picture.name}: {picture.stat().st_size // 1024} KB\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
