"""A real Chromium against a real server, one of each for a module.

Not for longer: while Playwright runs, its event loop is this thread's, and nothing else may use the database there.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.live import LiveServer
from tests.needs import CHROMIUM
from tests.repositories import make_repository

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE = 20_000
HEARTBEAT = 1.0


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=[*ARGUMENTS])
        yield started
        started.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server whose heart beats each second, so that a dead line is noticed soon."""
    env = {"EVENTS_HEARTBEAT_SECONDS": str(HEARTBEAT)}
    with LiveServer(tmp_path_factory.mktemp("browser"), env) as started:
        yield started


@pytest.fixture(scope="module")
def signed_in(browser: Browser, server: LiveServer) -> Any:
    """The cookies of the superuser, who came by the link that the server printed."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(server.sign_in_link)
    state = context.storage_state()
    context.close()
    return state


# One start of Django for all that a module needs besides its server.
PREPARE = """
from django.contrib.auth.models import User
from tasks.tokens import issue_token, make_sign_in_link
admin = User.objects.get(username="admin")
User.objects.create_user("ann", password="correct horse")
print(issue_token(admin), make_sign_in_link(admin))
"""


class Api:
    """The REST API with a token, as a second person's program would use it. There is a user ann, too."""

    def __init__(self, server: LiveServer, folder: Path) -> None:
        token, self.spare_link = server.manage("shell", "-v", "0", "-c", PREPARE).split()
        self.client = httpx.Client(
            base_url=server.url, headers={"Authorization": f"Bearer {token}"}, timeout=30
        )
        self.folder = folder
        self.made = 0

    def __call__(self, method: str, path: str, body: Any = None) -> Any:
        answer = self.client.request(method, path, json=body)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def project(self, *titles: str, **fields: Any) -> str:
        """The id of a new project on a repository of its own, with these tasks in its first column."""
        self.made += 1
        repository = make_repository(self.folder / f"repository-{self.made}")
        project = str(self("POST", "/api/projects", {"repo_path": str(repository), **fields})["id"])
        for title in titles:
            self.task(project, title)
        return project

    def task(self, project: str, title: str, **fields: Any) -> str:
        return str(self("POST", "/api/tasks", {"project_id": project, "title": title, **fields})["id"])

    def stop(self, project: str) -> None:
        """Stops what runs in the project."""
        for task in self.tasks(project).values():
            for attempt in self("GET", f"/api/task-attempts?task_id={task['id']}"):
                for run in self("GET", f"/api/processes?task_attempt_id={attempt['id']}"):
                    self("POST", f"/api/processes/{run['id']}/stop")

    def tasks(self, project: str) -> dict[str, dict[str, Any]]:
        return {task["title"]: task for task in self("GET", f"/api/tasks?project_id={project}")}


@pytest.fixture(scope="module")
def api(server: LiveServer, tmp_path_factory: pytest.TempPathFactory) -> Api:
    return Api(server, tmp_path_factory.mktemp("repositories"))


class Watched:
    """Browser profiles, and what went wrong on their pages: script errors and violations of the policy."""

    def __init__(self, browser: Browser, server: LiveServer, state: Any) -> None:
        self.browser = browser
        self.defaults = {"base_url": server.url, "storage_state": state}
        self.problems: list[str] = []

    def open(self, signed: bool = True, **options: Any) -> BrowserContext:
        """A profile of its own, signed in unless told otherwise."""
        state = {} if signed else {"storage_state": None}
        context = self.browser.new_context(**(self.defaults | state | options))
        context.on("page", self.watch)
        return context

    def watch(self, page: Page) -> None:
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: self.problems.append(f"{page.url}: {error}"))
        page.on("console", lambda message: self.judge(page.url, message.text))

    def judge(self, url: str, text: str) -> None:
        if "Content Security Policy" in text:
            self.problems.append(f"{url}: {text}")


@pytest.fixture(scope="module")
def watched(browser: Browser, server: LiveServer, signed_in: Any) -> Watched:
    return Watched(browser, server, signed_in)


@pytest.fixture(scope="module")
def usual_context(watched: Watched) -> Iterator[BrowserContext]:
    """One profile for most tests of a module: its cache spares them the loading of all scripts."""
    context = watched.open()
    yield context
    context.close()


@pytest.fixture
def open_context(watched: Watched) -> Iterator[Callable[..., BrowserContext]]:
    """Opens further profiles, for a test that needs one of its own. Whatever goes wrong on a page fails the test."""
    contexts: list[BrowserContext] = []

    def open_one(signed: bool = True, **options: Any) -> BrowserContext:
        contexts.append(watched.open(signed, **options))
        return contexts[-1]

    yield open_one
    for context in contexts:
        context.close()
    problems, watched.problems = watched.problems, []
    assert not problems, "\n".join(problems)


@pytest.fixture
def new_page(
    usual_context: BrowserContext, open_context: Callable[..., BrowserContext]
) -> Iterator[Callable[[], Page]]:
    """Opens windows of one browser, side by side."""
    pages: list[Page] = []

    def open_one() -> Page:
        pages.append(usual_context.new_page())
        return pages[-1]

    yield open_one
    for page in pages:
        page.close()


@pytest.fixture
def page(new_page: Callable[[], Page]) -> Page:
    return new_page()


def open_board(page: Page, project: str, query: str = "") -> Page:
    """The board, once its line is live."""
    page.goto(f"/projects/{project}/{query}")
    wait_live(page)
    return page


def wait_live(page: Page) -> None:
    page.locator("#line[data-state=live]").wait_for()


def titles(page: Page, status: str) -> list[str]:
    """The titles of the cards in a column, from top to bottom."""
    return page.locator(f'.cards[data-status="{status}"] .card-title').all_inner_texts()


def card(page: Page, title: str) -> Any:
    return page.locator(".columns .card", has=page.get_by_role("link", name=title, exact=True))


def lift(page: Page, title: str, target: Any) -> None:
    """Takes a card in hand and holds it over the target."""
    start, end = middle(card(page, title)), middle(target)
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(start[0] + 8, start[1] + 8)
    page.mouse.move(*end, steps=4)
    page.locator(".is-dragging").wait_for()


def middle(locator: Any) -> tuple[float, float]:
    box = locator.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def settle(page: Page) -> None:
    """Returns when no colour is on its way to another: half-way through a change of theme nothing has contrast."""
    page.evaluate(
        """async () => {
            for (let frame = 0; frame < 2; frame += 1) await new Promise(requestAnimationFrame);
            const moving = document.getAnimations().filter((one) => one instanceof CSSTransition);
            await Promise.all(moving.map((one) => one.finished.catch(() => null)));
        }"""
    )
