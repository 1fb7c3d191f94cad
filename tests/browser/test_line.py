"""The line between page and server: lost, found again, shared by many tabs; and never a page that lies."""

import json
import re
import signal
import time
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import PATIENCE, Api, card, lift, open_board, wait_live
from tests.live import LiveServer
from tests.needs import needs_chromium
from tests.scale import scaled

pytestmark = [needs_chromium, pytest.mark.xdist_group("browser-line")]
expect.set_options(timeout=PATIENCE)


def expect_true(page: Page, api: Api, project: str) -> None:
    """The page holds, and shows, exactly what the server has."""
    wanted = {task["id"]: task for task in api("GET", f"/api/tasks?project_id={project}")}
    deadline = time.monotonic() + PATIENCE / 1000
    held: Any = None
    while time.monotonic() < deadline:
        held = page.evaluate("vibe.live.document.tasks")
        if held == wanted:
            break
        page.wait_for_timeout(50)
    assert held == wanted
    shown = sorted(title for title in page.locator(".columns .card-title").all_inner_texts())
    assert shown == sorted(task["title"] for task in wanted.values())


def rendered(page: Page, project: str) -> Any:
    """What the server would render now."""
    text = page.request.get(f"/projects/{project}/").text()
    found = re.search(r'<template id="board-data">(.*?)</template>', text)
    assert found
    return json.loads(found[1])["document"]


def test_a_killed_server_comes_back_to_a_true_page(api: Api, server: LiveServer, page: Page) -> None:
    """Round after round, while somebody types, a card is in hand and a run prints: nothing is lost, no reload."""
    project = api.project("Before", "Carried")
    busy = api.task(project, "Busy")
    script = "i=0; while [ $i -lt 100000 ]; do echo line $i; i=$((i+1)); sleep 0.05; done"
    api("POST", "/api/task-attempts", {"task_id": busy, "executor": "script", "prompt": script})
    open_board(page, project)
    page.evaluate("window.sameDocument = true")
    page.keyboard.press("c")
    for number in range(scaled(20, 2)):
        page.locator("#create-name").press_sequentially(f"{number} ")
        server.kill() if number % 2 == 0 else server.stop()
        expect(page.locator("#line")).to_have_attribute("data-state", "reconnecting")
        server.start()
        api.task(project, f"Made after restart {number}")
        wait_live(page)
        expect_true(page, api, project)
        expect(page.locator("#column-inprogress .run-state")).to_have_text("Running")
    typed = "".join(f"{number} " for number in range(scaled(20, 2)))
    expect(page.locator("#create-name")).to_be_focused()
    expect(page.locator("#create-name")).to_have_value(typed)
    page.keyboard.press("Escape")
    for number in range(scaled(10, 1)):
        status = ("done", "todo")[number % 2]
        lift(page, "Carried", page.locator(f"#column-{status}"))
        server.kill()
        expect(page.locator("#line")).to_have_attribute("data-state", "reconnecting")
        server.start()
        wait_live(page)
        page.mouse.up()
        expect(page.locator(f"#column-{status} .card", has_text="Carried")).to_be_visible()
        page.locator(".is-pending").wait_for(state="detached")
        expect_true(page, api, project)
    api.stop(project)
    expect(page.locator("#column-inreview .run-state")).to_have_text("Stopped")
    wait_for(lambda: page.evaluate("vibe.live.document") == rendered(page, project))
    assert page.evaluate("window.sameDocument"), "the page was reloaded"


def test_a_move_while_the_server_is_away_is_refused_plainly(api: Api, server: LiveServer, page: Page) -> None:
    project = api.project("Stay")
    open_board(page, project)
    server.kill()
    card(page, "Stay").get_by_role("link").focus()
    page.keyboard.press("4")
    expect(page.locator(".toast-error")).to_contain_text("Not moved")
    expect(page.locator("#column-todo .card-title")).to_have_text("Stay")
    page.keyboard.press("c")
    page.fill("#create-name", "Written while offline")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#create-dialog .field-error")).to_contain_text("kept")
    server.start()
    wait_live(page)
    page.keyboard.press("Control+Enter")
    expect(card(page, "Written while offline")).to_be_visible()
    expect_true(page, api, project)


def test_a_line_on_which_nothing_arrives_counts_as_broken(api: Api, server: LiveServer, page: Page) -> None:
    project = api.project("Before")
    open_board(page, project)
    assert server.process is not None
    server.process.send_signal(signal.SIGSTOP)
    try:
        expect(page.locator("#line")).to_have_attribute("data-state", "reconnecting")
        expect(page.locator("#line")).to_contain_text("Reconnecting")
    finally:
        server.process.send_signal(signal.SIGCONT)
    wait_live(page)
    api.task(project, "After")
    expect(card(page, "After")).to_be_visible()


def test_offline_and_online(api: Api, open_context: Any) -> None:
    page = open_context().new_page()
    project = api.project("Before")
    open_board(page, project)
    page.context.set_offline(True)
    expect(page.locator("#line")).to_have_attribute("data-state", "offline")
    api.task(project, "Meanwhile")
    page.context.set_offline(False)
    wait_live(page)
    expect(card(page, "Meanwhile")).to_be_visible()
    expect_true(page, api, project)


def test_signing_out_in_another_tab_is_said(api: Api, server: LiveServer, open_context: Any) -> None:
    project = api.project("Before")
    context = open_context(signed=False)
    page, other = context.new_page(), context.new_page()
    page.goto(f"/sign-in/{api.spare_link}")
    open_board(page, project)
    other.goto("/")
    other.locator("#user-menu summary").click()
    other.get_by_role("button", name="Sign out").click()
    expect(other).to_have_url(f"{server.url}/sign-in/")
    expect(page.locator("#line")).to_have_attribute("data-state", "signedout")
    page.locator("#line").click()
    expect(page).to_have_url(f"{server.url}/sign-in/?next=%2Fprojects%2F{project}%2F")


def test_a_hidden_tab_costs_no_connection_and_is_exact_when_shown(api: Api, page: Page) -> None:
    project = api.project("Before")
    open_board(page, project)
    subscribers = lambda: sum(one["subscribers"] for one in api("GET", "/api/events/streams"))  # noqa: E731
    wait_for(lambda: subscribers() == 1)
    show(page, "hidden")
    wait_for(lambda: subscribers() == 0)
    api.task(project, "Meanwhile")
    waited = page.evaluate(
        """async () => {
            const from = performance.now();
            Object.defineProperty(document, "visibilityState", {value: "visible", configurable: true});
            document.dispatchEvent(new Event("visibilitychange"));
            const titles = () => [...document.querySelectorAll(".card-title")].map((a) => a.textContent);
            const there = () => titles().includes("Meanwhile");
            while (!there() && performance.now() - from < 20000) await new Promise((r) => setTimeout(r, 5));
            return performance.now() - from;
        }"""
    )
    assert waited < scaled(300, 3_000), f"{waited:.0f} ms"
    expect_true(page, api, project)


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


def test_twelve_tabs_of_one_browser_are_all_live(api: Api, open_context: Any) -> None:
    """All twelve count as visible here, as windows beside each other would be: the hardest case."""
    project = api.project("Before")
    context = open_context()
    pages = [context.new_page() for _ in range(12)]
    for page in pages:
        page.goto(f"/projects/{project}/")
    for page in pages:
        wait_live(page)
    api.task(project, "For all")
    for page in pages:
        expect(card(page, "For all")).to_be_visible()
    answered = pages[11].evaluate(
        "fetch('/api/projects', {cache: 'no-store'}).then((answer) => answer.status)"
    )
    assert answered == 200
    for page in pages:
        expect_true(page, api, project)


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


def test_the_end_of_a_run_is_told_once_however_many_tabs(api: Api, open_context: Any) -> None:
    project = api.project("Short work")
    context = open_context(permissions=["notifications"])
    context.add_init_script(COUNT_NOTIFICATIONS)
    pages = [open_board(context.new_page(), project) for _ in range(3)]
    for page in pages:
        show(page, "hidden")
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
