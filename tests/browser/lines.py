"""What the tests of one page's line and of many tabs share."""

import time
from typing import Any

from playwright.sync_api import Page

from tests.browser.conftest import PATIENCE, Api


def expect_true(page: Page, api: Api, project: str) -> None:
    """The page holds, and shows, exactly what the server has."""
    wanted = _tasks(api, project)
    deadline = time.monotonic() + PATIENCE / 1000
    while (found := _held_and_shown(page)) != (wanted, sorted(task["title"] for task in wanted.values())):
        assert time.monotonic() < deadline, (found, wanted)
        page.wait_for_timeout(50)


def expect_held(page: Page, api: Api, project: str) -> None:
    wanted = _tasks(api, project)
    wait_for(lambda: page.evaluate("vibe.live.document.tasks") == wanted)


def _tasks(api: Api, project: str) -> dict[str, Any]:
    return {task["id"]: task for task in api("GET", f"/api/tasks?project_id={project}")}


def _held_and_shown(page: Page) -> tuple[Any, list[str]]:
    titles = page.locator(".columns .card-title").all_inner_texts()
    return page.evaluate("vibe.live.document.tasks"), sorted(titles)


def subscribers(api: Api) -> int:
    return sum(one["subscribers"] for one in api("GET", "/api/events/streams"))


def show(page: Page, state: str) -> None:
    page.evaluate(
        """(state) => {
            Object.defineProperty(document, "visibilityState", {value: state, configurable: true});
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        state,
    )


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + PATIENCE / 1000
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


FOLLOW = """async ([url, count]) => {
    const { EventSourceManager } = await import("/static/events/event-source-manager.js");
    const one = () => new EventSourceManager(url, {heartbeatSeconds: 60});
    globalThis.managers = Array.from({length: count}, one);
    globalThis.got = [];
    managers[0].addEventListener("message", ({detail}) => {
        if (detail.type === "message") got.push(JSON.parse(detail.data).content);
    });
    for (const manager of managers) manager.start();
}"""


def states(page: Page) -> list[str]:
    return sorted(page.evaluate("managers.map((manager) => manager.state)"))
