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


class Api:
    """The REST API with a token, as a second person's program would use it."""

    def __init__(self, server: LiveServer, folder: Path) -> None:
        self.client = httpx.Client(
            base_url=server.url, headers={"Authorization": f"Bearer {server.token()}"}, timeout=30
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

    def tasks(self, project: str) -> dict[str, dict[str, Any]]:
        return {task["title"]: task for task in self("GET", f"/api/tasks?project_id={project}")}


@pytest.fixture(scope="module")
def api(server: LiveServer, tmp_path_factory: pytest.TempPathFactory) -> Api:
    return Api(server, tmp_path_factory.mktemp("repositories"))


@pytest.fixture
def open_context(
    browser: Browser, server: LiveServer, signed_in: Any
) -> Iterator[Callable[..., BrowserContext]]:
    """Opens browser profiles: signed in unless told otherwise. A script error or a violation of the
    Content-Security-Policy on any of their pages fails the test."""
    contexts: list[BrowserContext] = []
    problems: list[str] = []

    def watch(page: Page) -> None:
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: problems.append(f"{page.url}: {error}"))
        page.on(
            "console",
            lambda message: (
                problems.append(f"{page.url}: {message.text}")
                if "Content Security Policy" in message.text
                else None
            ),
        )

    def open_one(signed: bool = True, **options: Any) -> BrowserContext:
        defaults = {"base_url": server.url, "storage_state": signed_in if signed else None}
        context = browser.new_context(**(defaults | options))
        context.on("page", watch)
        contexts.append(context)
        return context

    yield open_one
    for context in contexts:
        context.close()
    assert not problems, "\n".join(problems)


@pytest.fixture
def page(open_context: Callable[..., BrowserContext]) -> Page:
    return open_context().new_page()


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
