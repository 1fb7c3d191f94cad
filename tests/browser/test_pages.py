"""Signing in, projects, and what every page owes to every reader: no violation that axe finds, no inline code."""

from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser.conftest import PATIENCE, Api, card, open_board, settle, titles
from tests.live import LiveServer
from tests.needs import needs_chromium
from tests.repositories import make_repository

pytestmark = [needs_chromium, pytest.mark.xdist_group("browser-pages")]
expect.set_options(timeout=PATIENCE)


def test_the_printed_link_signs_in_once(server: LiveServer, signed_in: Any, open_context: Any) -> None:
    page = open_context().new_page()
    page.goto("/")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    late = open_context(signed=False).new_page()
    late.goto(server.sign_in_link)
    expect(late.get_by_role("alert")).to_contain_text("was used already")


def test_name_and_password(api: Api, open_context: Any) -> None:
    page = open_context(signed=False).new_page()
    page.goto("/projects/new/")
    page.fill("#id_username", "ann")
    page.fill("#id_password", "wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("correct username and password")
    page.fill("#id_password", "correct horse")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("You may not do this")
    page.goto("/")
    expect(page.locator("main")).to_contain_text("ask an administrator")


def test_a_project_is_made_by_browsing_to_a_repository(tmp_path: Path, page: Page) -> None:
    repository = make_repository(tmp_path / "orchard")
    page.goto(f"/projects/new/?path={tmp_path}")
    page.get_by_role("button", name="Browse…").click()
    page.get_by_role("button", name="orchard repository").click()
    expect(page.locator("#id_repo_path")).to_have_value(str(repository))
    page.get_by_role("button", name="Create project").click()
    expect(page.locator("#project-name")).to_have_text("orchard")
    expect(page.get_by_role("heading", name="Write the first task")).to_be_visible()


def test_a_folder_that_is_no_repository_is_refused_beside_the_field(tmp_path: Path, page: Page) -> None:
    page.goto("/projects/new/")
    page.fill("#id_repo_path", str(tmp_path))
    page.get_by_role("button", name="Create project").click()
    error = page.locator(".field-error")
    expect(error.first).to_contain_text(str(tmp_path))
    expect(page.locator("#id_repo_path")).to_have_value(str(tmp_path))


def test_settings_rename_the_project_on_open_boards(api: Api, open_context: Any) -> None:
    project = api.project(name="Old name")
    context = open_context()
    board = open_board(context.new_page(), project)
    settings = context.new_page()
    settings.goto(f"/projects/{project}/settings/")
    settings.fill("#id_name", "New name")
    settings.get_by_role("button", name="Save").click()
    expect(settings.locator("#project-name")).to_have_text("New name")
    expect(board.locator("#project-name")).to_have_text("New name")
    settings.goto(f"/projects/{project}/settings/")
    settings.get_by_role("button", name="Delete project").click()
    settings.locator("dialog[open]").get_by_role("button", name="Delete").click()
    expect(settings).to_have_url(f"{settings.url.split('/projects')[0].rstrip('/')}/")
    expect(board.locator("#project-gone")).to_be_visible()


def test_axe_finds_no_violation(api: Api, open_context: Any) -> None:
    project = api.project("One", "Two")
    task = api.task(project, "Three", labels=["bug", "docs"], status="inreview")
    context = open_context(reduced_motion="reduce")
    page = context.new_page()
    for address in ("/", "/projects/new/", f"/projects/{project}/settings/", "/nothing-here/"):
        page.goto(address)
        check(page, address)
    open_board(page, project)
    card(page, "One").hover()
    check(page, "board")
    page.keyboard.press("c")
    check(page, "create", include="#create-dialog")
    page.keyboard.press("Escape")
    card(page, "Three").get_by_role("link").focus()
    page.keyboard.press("e")
    page.fill("#edit-name", "Mine")
    api("PATCH", f"/api/tasks/{task}", {"title": "Theirs"})
    expect(page.locator(".conflict")).to_be_visible()
    check(page, "edit", include="#edit-dialog")
    guest = open_context(signed=False, reduced_motion="reduce").new_page()
    guest.goto("/sign-in/")
    check(guest, "sign-in")


def test_axe_finds_no_violation_in_the_dark_or_on_a_phone(api: Api, open_context: Any) -> None:
    project = api.project("One")
    api.task(project, "Two", labels=["bug", "docs"], status="done")
    phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    page = open_context(color_scheme="dark", reduced_motion="reduce", **phone).new_page()
    open_board(page, project)
    check(page, "board")
    page.get_by_role("button", name="New task", exact=True).click()
    check(page, "create", include="#create-dialog")


def check(page: Page, where: str, include: str | None = None) -> None:
    settle(page)
    report = Axe().run(page, context=include, options={"resultTypes": ["violations"]})
    found = [
        (one["id"], [node["html"][:200] for node in one["nodes"]]) for one in report.response["violations"]
    ]
    assert not found, (where, found)


MEASURE = """
    globalThis.shifted = 0;
    new PerformanceObserver((list) => list.getEntries().forEach((entry) => (shifted += entry.value)))
        .observe({type: "layout-shift", buffered: true});
"""


def test_a_large_board_is_light_steady_and_quick_to_change(api: Api, open_context: Any) -> None:
    """What Lighthouse would ask: nothing shifts, few requests, no request to elsewhere; a change takes no frame."""
    project = api.project()
    statuses = ("todo", "inprogress", "inreview", "done")
    for number in range(60):
        api.task(project, f"Task {number}", status=statuses[number % 4], labels=["bug", "docs"][: number % 3])
    context = open_context()
    context.add_init_script(MEASURE)
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    open_board(page, project)
    page.wait_for_timeout(300)
    assert page.evaluate("shifted") < 0.05
    assert len(asked) < 60
    assert all(url.startswith(page.url.split("/projects")[0]) for url in asked)
    elements = page.evaluate_handle("[...document.querySelectorAll('.card')]")
    took = page.evaluate(
        """() => Math.min(...Array.from({length: 5}, () => {
            const from = performance.now();
            vibe.board.refresh();
            return performance.now() - from;
        }))"""
    )
    assert took < 50, f"{took:.0f} ms"
    api("PATCH", f"/api/tasks/{api.tasks(project)['Task 8']['id']}", {"title": "Changed"})
    expect(card(page, "Changed")).to_be_visible()
    assert page.evaluate("cards => cards.every((card) => card.isConnected)", elements)


def test_the_server_renders_what_the_script_would(api: Api, page: Page) -> None:
    statuses = ("todo", "inprogress", "inreview", "done")
    project = api.project()
    for number in range(12):
        api.task(project, f"Task {number}", status=statuses[number % 4])
    page.route("**/board/index.js", lambda route: route.abort())
    page.goto(f"/projects/{project}/")
    rendered = {status: titles(page, status) for status in statuses}
    assert rendered["todo"] == ["Task 0", "Task 4", "Task 8"]
    page.unroute("**/board/index.js")
    open_board(page, project)
    assert {status: titles(page, status) for status in statuses} == rendered
