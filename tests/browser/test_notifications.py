"""What a person is told of beside the page. The whole browser: a bare engine has no notifications."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, expect

from tests.browser.conftest import PATIENCE, Api, Watched, launch, open_board, wait_live
from tests.browser.test_line import show, wait_for
from tests.live import LiveServer
from tests.needs import CHROMIUM, needs_whole_chromium

pytestmark = needs_whole_chromium
expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="module")
def browser(playwright: Playwright) -> Iterator[Browser]:
    started = launch(playwright, CHROMIUM)
    yield started
    started.close()


COUNT_NOTIFICATIONS = """
    if (location.protocol === "http:") localStorage.setItem("vibe.notifications", "on");
    globalThis.told = [];
    globalThis.Notification = class extends Notification {
        constructor(title, options) {
            super(title, options);
            told.push(title);
        }
    };
"""


# As a page learns of them that catches up: one ended an hour ago, one just now.
ENDS = """
from datetime import timedelta
from django.utils import timezone
from tasks.models import ExecutionProcess
for title, ago in (("Old", timedelta(hours=1)), ("New", timedelta())):
    run = ExecutionProcess.objects.filter(task_attempt__task__title=title)
    run.update(status="failed", completed_at=timezone.now() - ago)
"""


@pytest.fixture(scope="module")
def willing(watched: Watched) -> Iterator[BrowserContext]:
    """The browser of somebody who wants to be told."""
    context = watched.open(permissions=["notifications"])
    context.add_init_script(COUNT_NOTIFICATIONS)
    yield context
    context.close()


@pytest.fixture
def tabs(willing: BrowserContext, open_context: Any) -> Callable[[int], list[Page]]:
    def open_tabs(number: int) -> list[Page]:
        while len(willing.pages) < number:
            willing.new_page()
        return willing.pages[:number]

    return open_tabs


def test_an_end_of_long_ago_is_not_told_by_the_board_nor_by_a_task(
    api: Api, server: LiveServer, tabs: Any
) -> None:
    # Of two that read the same, one would sleep while both are hidden.
    projects = [api.project("Old", "New") for _ in range(2)]
    tasks = [{title: task["id"] for title, task in api.tasks(project).items()} for project in projects]
    for task in (*tasks[0].values(), *tasks[1].values()):
        api.attempt(task, "exit 0")
    pages = tabs(2)
    for page, address in zip(pages, (f"/projects/{projects[0]}/", f"/tasks/{tasks[1]['Old']}/"), strict=True):
        page.goto(address)
        wait_live(page)
        show(page, "hidden")
    server.manage("shell", "-v", "0", "-c", ENDS)
    wait_for(lambda: [page.title()[:4] for page in pages] == ["(1) "] * 2)
    wait_for(lambda: [page.evaluate("told") for page in pages] == [["New"]] * 2)
    for project in projects:
        api("DELETE", f"/api/projects/{project}")


def test_the_end_of_a_run_is_told_once_however_many_tabs(api: Api, tabs: Any) -> None:
    project = api.project("Short work")
    pages = [open_board(page, project) for page in tabs(2)]
    for page in pages:
        show(page, "hidden")
    states = lambda: sorted(page.evaluate("vibe.live.manager.state") for page in pages)  # noqa: E731
    wait_for(lambda: states() == ["live", "paused"])
    task = api.tasks(project)["Short work"]["id"]
    api("POST", "/api/task-attempts", {"task_id": task, "executor": "script", "prompt": "echo done"})
    told = lambda: [title for page in pages for title in page.evaluate("told")]  # noqa: E731
    wait_for(lambda: told() == ["Short work"])
    watching = [page for page in pages if page.title().startswith("(1) ")]
    assert watching, "no title says that something waits"
    for page in pages:
        show(page, "visible")
        wait_live(page)
    for page in pages:
        expect(page.locator("#column-inreview .run-state")).to_have_text("Needs review")
        assert not page.title().startswith("(")
    assert told() == ["Short work"]
