"""A real Chromium for all of these modules, against a real server for each.

Not for longer: while Playwright runs, its event loop is this thread's, and nothing else may use the database there.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, Route, expect, sync_playwright

from tests.live import LiveServer
from tests.needs import CHROMIUM_PAGES
from tests.repositories import make_repository
from tests.runs import wait_for

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
DESKTOP: Any = {"width": 1280, "height": 720}
PHONE: Any = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
HEARTBEAT = 1.0
# Where a tab waits for its next page. On the site, as to come from elsewhere takes Chromium a new process.
RESTING = "/static/tasks/mark.svg"


@pytest.fixture(scope="package")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="package")
def browser(playwright: Playwright) -> Iterator[Browser]:
    started = launch(playwright, CHROMIUM_PAGES)
    yield started
    started.close()


def launch(playwright: Playwright, program: str | None) -> Browser:
    return playwright.chromium.launch(executable_path=program, args=[*ARGUMENTS])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server whose heart beats each second, so that a dead line is noticed soon."""
    env = {"EVENTS_HEARTBEAT_SECONDS": str(HEARTBEAT)}
    with LiveServer(tmp_path_factory.mktemp("browser"), env) as started:
        yield started


@pytest.fixture(scope="module")
def signed_in(server: LiveServer) -> Any:
    """The cookies of the superuser, who came by the link that the server printed."""
    with httpx.Client() as person:
        person.get(server.sign_in_link)
        cookies = [
            {"name": name, "value": value, "url": server.url} for name, value in person.cookies.items()
        ]
    return {"cookies": cookies, "origins": []}


# One start of Django for all that a module needs besides its server.
PREPARE = """
from django.contrib.auth.models import User
from tasks.tokens import issue_token, make_sign_in_link
admin = User.objects.get(username="admin")
print(issue_token(admin), make_sign_in_link(admin))
"""


class Api:
    """The REST API with a token, as a second person's program would use it."""

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

    def attempt(self, task: str, script: str) -> str:
        """The id of an attempt that ran this shell script, once it has ended."""
        body = {"task_id": task, "executor": "script", "prompt": script}
        attempt = str(self("POST", "/api/task-attempts", body)["id"])
        wait_for(lambda: self._ended(attempt), "the end of the run", pause=0.2)
        return attempt

    def _ended(self, attempt: str) -> bool:
        runs = self("GET", f"/api/processes?task_attempt_id={attempt}")
        return bool(runs) and all(run["status"] not in ("queued", "running") for run in runs)

    def stop(self, project: str) -> None:
        """Stops what runs in the project, and waits until it has ended: until then its tasks cannot be deleted."""
        for task in self.tasks(project).values():
            for attempt in self("GET", f"/api/task-attempts?task_id={task['id']}"):
                for run in self("GET", f"/api/processes?task_attempt_id={attempt['id']}"):
                    self("POST", f"/api/processes/{run['id']}/stop")
                wait_for(lambda id=attempt["id"]: self._ended(id), "the end of what was stopped")

    def tasks(self, project: str) -> dict[str, dict[str, Any]]:
        return {task["title"]: task for task in self("GET", f"/api/tasks?project_id={project}")}


@pytest.fixture(scope="module")
def api(server: LiveServer, tmp_path_factory: pytest.TempPathFactory) -> Api:
    return Api(server, tmp_path_factory.mktemp("repositories"))


class Watched:
    """Browser profiles, and what went wrong on their pages: script errors and violations of the policy."""

    def __init__(self, browser: Browser, server: LiveServer, state: Any) -> None:
        self.browser = browser
        # Nothing moves unless a test asks for it: each frame that Chromium draws here is painted by the processor.
        self.defaults = {"base_url": server.url, "storage_state": state, "reduced_motion": "reduce"}
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
def open_context(watched: Watched, resting: list[Page]) -> Iterator[Callable[..., BrowserContext]]:
    """Opens further profiles, for a test that needs one of its own. Whatever goes wrong on a page fails the test."""
    contexts: list[BrowserContext] = []

    def open_one(signed: bool = True, **options: Any) -> BrowserContext:
        for page in resting:
            page.goto(RESTING)  # Or what it shows would go on beside the test.
        contexts.append(watched.open(signed, **options))
        return contexts[-1]

    yield open_one
    for context in contexts:
        context.close()
    problems, watched.problems = watched.problems, []
    assert not problems, "\n".join(problems)


@pytest.fixture(scope="module")
def resting() -> list[Page]:
    """At most one tab that a test has left as it was, for the next: a new one takes as long as two pages."""
    return []


@pytest.fixture
def new_page(
    usual_context: BrowserContext,
    open_context: Callable[..., BrowserContext],
    resting: list[Page],
    request: pytest.FixtureRequest,
) -> Iterator[Callable[[], Page]]:
    """Opens windows of one browser, side by side. What a test that fails has done to one of them ends with it."""
    pages: list[Page] = []
    failed = request.session.testsfailed

    def open_one() -> Page:
        pages.append(emptied(resting.pop()) if resting else usual_context.new_page())
        return pages[-1]

    yield open_one
    for page in pages:
        if resting or page.is_closed() or request.session.testsfailed > failed:
            page.close()
        else:
            resting.append(page)


def emptied(page: Page) -> Page:
    """The tab as a new one is, but for its process and for what it shows."""
    page.unroute_all()
    if page.viewport_size != DESKTOP:
        page.set_viewport_size(DESKTOP)
    page.evaluate("sessionStorage.clear()")
    return page


@pytest.fixture
def page(new_page: Callable[[], Page]) -> Page:
    return new_page()


@contextmanager
def on_a_phone(page: Page) -> Iterator[None]:
    """Shows the page on a low phone, where most things have to be scrolled. It is whole again from the next page on."""
    cdp = page.context.new_cdp_session(page)
    size = {"width": 390, "height": 480, "deviceScaleFactor": 1, "mobile": True}
    cdp.send("Emulation.setDeviceMetricsOverride", size)
    cdp.send("Emulation.setTouchEmulationEnabled", {"enabled": True})
    yield
    cdp.send("Emulation.setTouchEmulationEnabled", {"enabled": False})
    cdp.send("Emulation.clearDeviceMetricsOverride")
    cdp.detach()


def open_board(page: Page, project: str, query: str = "") -> Page:
    """The board, once its line is live."""
    page.goto(f"/projects/{project}/{query}")
    wait_live(page)
    return page


def wait_live(page: Page) -> None:
    page.locator("#line[data-state=live]").wait_for()


def leave_dialog(page: Page, presses: int = 1) -> None:
    """By Escape, which Chromium may answer later than the next key."""
    for _ in range(presses):
        page.keyboard.press("Escape")
    expect(page.locator("dialog[open]")).to_have_count(0)


def stay(page: Page) -> None:
    """Reloads the page, but for that the browser asks whether to leave it."""
    with page.expect_event("dialog") as asked:
        page.evaluate("setTimeout(() => location.reload())")
    assert asked.value.type == "beforeunload"
    asked.value.dismiss()


class LateAnswer:
    """The server's first answer to such an address, which reaches the page only when the test says so."""

    def __init__(self, page: Page, address: str) -> None:
        self.page = page
        self.held: list[tuple[Route, Any]] = []
        page.route(address, self._take)

    def _take(self, route: Route) -> None:
        if self.held:
            route.continue_()
        else:
            self.held.append((route, route.fetch()))

    def wait(self) -> None:
        """Until the server has answered."""
        wait_for(lambda: self.page.evaluate("1") and self.held, "an answer that is slow")

    def arrives(self) -> None:
        route, answer = self.held[0]
        route.fulfill(response=answer)


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


# Until no colour is on its way to another: half-way through a change of theme nothing has contrast.
SETTLE = """
    for (let frame = 0; frame < 2; frame += 1) await new Promise(requestAnimationFrame);
    const moving = document.getAnimations().filter((one) => one instanceof CSSTransition);
    await Promise.all(moving.map((one) => one.finished.catch(() => null)));
"""
AXE = f"""async ([context, options]) => {{
    if (!globalThis.axe) return null;
    {SETTLE}
    const {{violations}} = await axe.run(context ?? document, options);
    return violations.map(({{id, nodes}}) => [id, nodes.map(({{html}}) => html.slice(0, 200))]);
}}"""


def check(page: Page, where: str, include: str | None = None, **options: Any) -> None:
    """axe finds nothing to complain of. What is special, such as `rules`, are options of axe."""
    # No page has a frame, and to find a short selector for each element takes long.
    asked = [include, {"resultTypes": ["violations"], "iframes": False, "selectors": False} | options]
    found = page.evaluate(AXE, asked)
    if found is None:
        page.evaluate(AXE_SCRIPT)
        found = page.evaluate(AXE, asked)
    assert not found, (where, found)


# Controls in sight that a finger 44 px wide, put on their middle, would miss. Links within text are as high as a line;
# the box of a card shows what a press on the card did.
TOO_SMALL = """() => {
    const small = [];
    for (const one of document.querySelectorAll("button, summary, select, input, textarea, a")) {
        if (!one.checkVisibility({visibilityProperty: true, opacityProperty: true})) continue;
        if (one.closest(".visually-hidden, .skip-link, .card-check, p, .prose, .log-scroller")) continue;
        const {left, right, top, bottom} = (one.closest("label") ?? one).getBoundingClientRect();
        const [x, y] = [(left + right) / 2, (top + bottom) / 2];
        const hit = ([dx, dy]) => {
            const there = document.elementFromPoint(x + dx, y + dy);
            if (y + dy < 0 || y + dy >= innerHeight) return true;
            return there && (one.contains(there) || there.contains(one) && there.matches("label, .card, .project"));
        };
        if (!hit([0, 0])) continue; // scrolled away, or under something else
        const missed = [[-21, 0], [21, 0], [0, -21], [0, 21]].filter((by) => !hit(by));
        if (missed.length) small.push(`${one.outerHTML.slice(0, 120)} ${right - left}x${bottom - top}`);
    }
    return [document.documentElement.scrollWidth, small];
}"""


def check_phone(page: Page, where: str) -> None:
    """Nothing sticks out of a narrow screen, each control is as large as a finger, and axe has nothing to say.

    Not of colours, which are those of a wide screen and take most of its time.
    """
    check(page, where, rules={"color-contrast": {"enabled": False}})
    width, small = page.evaluate(TOO_SMALL)
    assert width <= 390, where
    assert not small, (where, small)
