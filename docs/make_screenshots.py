"""Makes the README's pictures from the running product: `make screenshots`.

Starts a server on a temporary data folder, lets the demo agent work, and drives Chromium. Writes docs/images/:
the board (light, dark), a task at work, its changes, the same on a phone, and a short recording.
"""

import io
import shlex
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
DESKTOP: Final = {"width": 1360, "height": 760}
PHONE: Final = {"width": 390, "height": 844}
FILM: Final = {"width": 1280, "height": 720}
FRAME_SECONDS: Final = 0.4
QUICK: Final = "0.5"
UNHURRIED: Final = "40"

TASKS: Final = (
    ("Say in the README how to run the tests", "todo", ["docs"]),
    ("Show an error when the port is taken", "todo", ["bug"]),
    ("Cache the list of words", "todo", ["performance"]),
    ("Parse dates without a time zone", "todo", ["bug", "parser"]),
    ("Give the page a favicon", "cancelled", ["web"]),
)
FINISHED: Final = (
    ("Sort names as people expect", "docs/design.md", "- Names sort by the reader's own rules.", ["web"]),
    (
        "Tell an empty file from a missing one",
        "src/text.py",
        "\n# An empty file has no lines; a missing one raises.",
        [],
    ),
    ("Write down who decides what", "docs/design.md", "- Two people agree before a release.", ["docs"]),
)
REVIEWED: Final = "Greet people by name"
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

    def task(self, title: str, **fields: Any) -> str:
        """The id of the task with this title, made if there is none."""
        for task in self("GET", f"/tasks?project_id={self.project}"):
            if task["title"] == title:
                return str(task["id"])
        return str(self("POST", "/tasks", {"project_id": self.project, "title": title, **fields})["id"])

    def start(self, title: str, executor: str = "demo", **fields: Any) -> str:
        body = {"task_id": self.task(title), "executor": executor, **fields}
        return str(self("POST", "/task-attempts", body)["id"])

    def runs(self, attempt: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self("GET", f"/processes?task_attempt_id={attempt}")
        return found

    def wait(self, attempt: str) -> None:
        until(lambda: all(run["status"] not in ("queued", "running") for run in self.runs(attempt)))

    def wait_for_output(self, attempt: str, words: str) -> None:
        def printed() -> bool:
            pages = [self("GET", f"/processes/{run['id']}/logs") for run in self.runs(attempt)]
            return any(words in record["content"] for page in pages for record in page)

        until(printed)

    def fill(self) -> None:
        """Tasks in all columns: some merged, one to review."""
        for title, status, labels in TASKS:
            self.task(title, status=status, labels=labels)
        for title, file, line, labels in FINISHED:
            self.task(title, labels=labels)
            attempt = self.start(
                title, "script", prompt=f"echo {shlex.quote(line)} >> {file}; git diff --stat"
            )
            self.wait(attempt)
            self("POST", f"/task-attempts/{attempt}/merge", {"strategy": "squash"})
        self.wait(self.start(REVIEWED))


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
    picture = Image.open(io.BytesIO(page.screenshot(animations="disabled"))).convert("RGB")
    picture.save(IMAGES / f"{name}.png", optimize=True)


def go(page: Page, path: str) -> None:
    page.goto(path)
    page.locator("#line[data-state=live]").wait_for()


def take_pictures(browser: Browser, server: LiveServer, board: Board, state: StorageState) -> None:
    place = f"/projects/{board.project}/"
    with window(browser, server, state, DESKTOP, color_scheme="light") as page:
        go(page, place)
        attempts = [board.start(title) for title in WATCHED]
        for attempt in attempts:
            board.wait_for_output(attempt, "Running checks")
        page.locator(".card", has_text=WATCHED[0]).get_by_text("Running checks").wait_for()
        save(page, "board")
        page.emulate_media(color_scheme="dark")
        save(page, "board-dark")
        page.emulate_media(color_scheme="light")
        go(page, f"/tasks/{board.task(WATCHED[0])}/")
        page.get_by_text("Running checks").first.wait_for()
        save(page, "task")
        for attempt in attempts:
            board.wait(attempt)
        go(page, f"/tasks/{board.task(REVIEWED)}/?view=changes")
        page.get_by_text("def greet").first.wait_for()
        page.locator(".hl-keyword").first.wait_for()
        save(page, "changes")
    with window(browser, server, state, PHONE, color_scheme="light", has_touch=True, is_mobile=True) as page:
        go(page, place)
        page.get_by_text("In review").first.click()
        card = page.locator(".card", has_text=REVIEWED)
        until(lambda: 0 <= (card.bounding_box() or {"x": -1})["x"] < 13)  # the column has slid in
        save(page, "phone")


class Film:
    """Frames of a page at an even pace. Where the machine cannot keep it, the film is shorter, not slower."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.frames: list[bytes] = []

    def roll(self, frames: int) -> None:
        for _ in range(frames):
            began = time.monotonic()
            self.frames.append(self.page.screenshot())
            time.sleep(max(0.0, FRAME_SECONDS - (time.monotonic() - began)))


def record(browser: Browser, server: LiveServer, board: Board, state: StorageState) -> None:
    """Starting an agent, the card moving, its log and its diff growing, and the merge."""
    task = f"/tasks/{board.task(FILMED)}/"
    with window(browser, server, state, FILM, color_scheme="light") as page:
        film = Film(page)
        go(page, f"/projects/{board.project}/")
        film.roll(3)
        attempt = board.start(FILMED)
        film.roll(12)
        go(page, task)
        film.roll(20)
        go(page, f"{task}?view=changes")
        page.get_by_text("def greet").first.wait_for()
        film.roll(10)
        board.wait(attempt)
        film.roll(4)
        go(page, f"/projects/{board.project}/")
        film.roll(4)
        board("POST", f"/task-attempts/{attempt}/merge", {"strategy": "merge"})
        film.roll(6)
    assemble(film.frames)


def assemble(frames: list[bytes]) -> None:
    first, *rest = [Image.open(io.BytesIO(frame)).convert("RGB") for frame in frames]
    first.save(
        IMAGES / "recording.webp",
        save_all=True,
        append_images=rest,
        duration=int(FRAME_SECONDS * 1000),
        loop=0,
        lossless=True,  # lossy frames leave ghosts of those before
        method=4,
    )


def main() -> int:
    if not CHROMIUM:
        sys.stderr.write("Chromium is not installed.\n")
        return 1
    IMAGES.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="vibe-") as folder,
        serving(Path(folder) / "data") as (server, board),
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        state = sign_in(browser, server)
        take_pictures(browser, server, board, state)
        record(browser, server, board, state)
        browser.close()
    for picture in sorted(IMAGES.iterdir()):
        sys.stdout.write(f"{picture.name}: {picture.stat().st_size // 1024} KB\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
