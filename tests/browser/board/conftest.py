"""What the tests of the board share: one project, whose board each test finds as if it were new."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import PATIENCE, Api, open_board

expect.set_options(timeout=PATIENCE)

# Puts back what a test may leave on its page. Whether the page is now as one that was loaded just now.
PUT_BACK = """() => {
    localStorage.clear();
    for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
    for (const form of document.forms) form.reset();
    for (const close of document.querySelectorAll(".toast [aria-label^=Close]")) close.click();
    document.activeElement.blur();
    document.querySelector("#columns").scrollTo({ left: 0, behavior: "instant" });
    document.querySelector("#announcer").textContent = "";
    const left = "[open], [aria-busy], :popover-open, .filter-chip, .is-dragging, #line:not([data-state=live])";
    return !document.querySelector(left);
}"""
SHOWS = """(ids) => {
    const shown = [...document.querySelectorAll(".columns .card")].map((card) => card.dataset.key);
    return shown.join() === ids.join();
}"""


@pytest.fixture(scope="module")
def projects() -> dict[int, str]:
    return {}


@pytest.fixture
def project(api: Api, projects: dict[int, str], request: pytest.FixtureRequest) -> str:
    """One for all tests, and another after each that failed, which may have left anything there."""
    failed = request.session.testsfailed
    if failed not in projects:
        projects[failed] = api.project()
    return projects[failed]


@pytest.fixture
def show(api: Api, project: str) -> Callable[..., list[Page]]:
    """Gives the project just these tasks and shows its board, loaded anew where a page is not as good as new."""

    def show_board(*titles: str, on: list[Page]) -> list[Page]:
        for task in api("GET", f"/api/tasks?project_id={project}"):
            api("DELETE", f"/api/tasks/{task['id']}")
        tasks = [api.task(project, title) for title in titles]
        for page in on:
            if not (page.url.endswith(f"/projects/{project}/") and page.evaluate(PUT_BACK)):
                open_board(page, project)
                assert page.evaluate(PUT_BACK)
            page.wait_for_function(SHOWS, arg=tasks)
        return on

    return show_board


@pytest.fixture
def board(page: Page, show: Any) -> Callable[..., Page]:
    """The same on the usual page."""
    return lambda *titles: show(*titles, on=[page])[0]
