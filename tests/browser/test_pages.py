"""Signing in, projects, and what every page owes to every reader: no violation that axe finds, no inline code."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import (
    PATIENCE,
    PHONE,
    SETTLE,
    Api,
    LateAnswer,
    card,
    check,
    check_phone,
    leave_dialog,
    on_a_phone,
    open_board,
    stay,
    titles,
)
from tests.live import LiveServer
from tests.needs import needs_chromium
from tests.repositories import make_repository

pytestmark = needs_chromium
expect.set_options(timeout=PATIENCE)


@pytest.fixture
def guest(page: Page, signed_in: Any) -> Iterator[Page]:
    """The page of somebody who has not signed in."""
    page.context.clear_cookies()
    yield page
    page.context.clear_cookies()
    page.context.add_cookies(signed_in["cookies"])


def test_a_link_signs_in_once(api: Api, guest: Page) -> None:
    link = f"/sign-in/{api.spare_link}"
    guest.goto(link)
    expect(guest.get_by_role("heading", level=1)).to_have_text("Projects")
    guest.context.clear_cookies()
    guest.goto(link)
    expect(guest.get_by_role("alert")).to_contain_text("was used already")


def test_name_and_password(server: LiveServer, guest: Page) -> None:
    make = "from django.contrib.auth.models import User; User.objects.create_user('ann', password='correct horse')"
    server.manage("shell", "-v", "0", "-c", make)
    guest.goto("/projects/new/")
    guest.fill("#id_username", "ann")
    guest.fill("#id_password", "wrong")
    guest.keyboard.press("Enter")
    expect(guest.get_by_role("alert")).to_contain_text("correct username and password")
    guest.fill("#id_password", "correct horse")
    guest.keyboard.press("Enter")
    expect(guest.get_by_role("heading", level=1)).to_have_text("You may not do this")
    guest.goto("/")
    expect(guest.locator("main")).to_contain_text("ask an administrator")


def test_a_project_is_made_by_browsing_to_a_repository(tmp_path: Path, page: Page) -> None:
    repository = make_repository(tmp_path / "orchard")
    page.goto(f"/projects/new/?path={tmp_path}")
    page.get_by_role("button", name="Browse…").click()
    page.get_by_role("button", name="orchard repository").click()
    expect(page.locator("#id_repo_path")).to_have_value(str(repository))
    page.get_by_role("button", name="Create project").click()
    expect(page.locator("#project-name")).to_have_text("orchard")
    expect(page.get_by_role("heading", name="Write the first task")).to_be_visible()


def test_a_folder_that_was_asked_for_earlier_does_not_replace_a_later_one(tmp_path: Path, page: Page) -> None:
    (tmp_path / "early").mkdir()
    make_repository(tmp_path / "late" / "orchard")
    late = LateAnswer(page, "**/*path=*early")
    page.goto(f"/projects/new/?path={tmp_path}")
    page.get_by_role("button", name="Browse…").click()
    page.get_by_role("button", name="early", exact=True).click()
    late.wait()
    page.locator("#folder-chooser [data-close]").first.click()
    page.fill("#id_repo_path", str(tmp_path / "late"))
    page.get_by_role("button", name="Browse…").click()
    expect(page.get_by_role("button", name="orchard repository")).to_be_visible()
    with page.expect_response("**/*path=*early"):
        late.arrives()
    page.evaluate("new Promise(requestAnimationFrame)")
    expect(page.get_by_role("button", name="orchard repository")).to_be_visible()
    page.unroute_all()


def test_a_folder_that_is_no_repository_is_refused_beside_the_field(tmp_path: Path, page: Page) -> None:
    page.goto("/projects/new/")
    page.fill("#id_repo_path", str(tmp_path))
    page.get_by_role("button", name="Create project").click()
    error = page.locator(".field-error")
    expect(error.first).to_contain_text(str(tmp_path))
    expect(page.locator("#id_repo_path")).to_have_value(str(tmp_path))
    page.locator("#id_name").click()
    stay(page)


def test_settings_rename_the_project_on_open_boards(api: Api, new_page: Any) -> None:
    project = api.project(name="Old name")
    board, settings = open_board(new_page(), project), new_page()
    settings.goto(f"/projects/{project}/settings/")
    settings.locator("#id_name").select_text()
    settings.keyboard.type("New name")
    stay(settings)
    settings.get_by_role("button", name="Save").click()
    expect(settings.locator("#project-name")).to_have_text("New name")
    expect(board.locator("#project-name")).to_have_text("New name")
    settings.goto(f"/projects/{project}/settings/")
    settings.get_by_role("button", name="Delete project").click()
    settings.locator("dialog[open]").get_by_role("button", name="Delete").click()
    expect(settings).to_have_url(f"{settings.url.split('/projects')[0].rstrip('/')}/")
    expect(board.locator("#project-gone")).to_be_visible()


def test_the_demo_is_one_click_away_and_one_click_gone(server: LiveServer, page: Page) -> None:
    repository = server.data / "demo" / "repo"
    page.goto("/")
    page.get_by_role("button", name="Remove the demo project").click()
    demo = page.locator(".project", has=page.get_by_role("link", name="Demo", exact=True))
    expect(demo).to_have_count(0)
    assert not repository.exists()
    page.get_by_role("button", name="the demo project").click()
    expect(card(page, "Greet people by name")).to_be_visible()
    assert (repository / ".git").exists()


@pytest.fixture(scope="module")
def places(api: Api) -> dict[str, str]:
    """Every page of the site, and what has to be there before it can be judged."""
    project = api.project("One", "Two")
    task = api.task(project, "Three", labels=["bug", "docs"], status="inreview")
    for number in range(2):
        api.attempt(task, f"echo {number} > numbers")
    return {
        "/": "main .project",
        "/projects/new/": "#id_repo_path",
        f"/projects/{project}/settings/": "[data-disk]:not(:text('Counting'))",
        f"/projects/{project}/": "#line[data-state=live]",
        f"/tasks/{api.tasks(project)['One']['id']}/": "#line[data-state=live]",
        f"/tasks/{task}/?view=log": ".log-message",
        f"/tasks/{task}/?view=changes": ".diff-line",
        f"/tasks/{task}/?view=history": ".history-entry",
        f"/tasks/{task}/compare/": ".compare-file",
        "/doctor/": ".badge-green",
        "/streams/": "#streams td",
        "/nothing-here/": "h1",
        "/sign-in/": ".sign-in",
    }


MEASURE = """
    globalThis.shifted = 0;
    new PerformanceObserver((list) => list.getEntries().forEach((entry) => (shifted += entry.value)))
        .observe({type: "layout-shift", buffered: true});
"""
SPENT = """async () => {
    SETTLE
    const all = [...performance.getEntriesByType("resource"), ...performance.getEntriesByType("navigation")];
    return {
        requests: all.length,
        bytes: all.reduce((sum, one) => sum + one.decodedBodySize, 0),
        elsewhere: all.filter((one) => !one.name.startsWith(location.origin)).length,
        elements: document.querySelectorAll("*").length,
        shifted,
    };
}""".replace("SETTLE", SETTLE)
# What a page may cost at most, whatever the machine: what Lighthouse would ask, without its stopwatch.
BUDGET = {"requests": 65, "bytes": 360_000, "elsewhere": 0, "elements": 1_500, "shifted": 0.02}

# The pages with colours that no other has, by what they wait for.
COLOURFUL = ("main .project", "#line[data-state=live]", ".diff-line", ".history-entry", ".badge-green")


def test_each_page_keeps_its_budget_and_axe_finds_nothing_by_day_by_night_or_on_a_phone(
    places: dict[str, str], open_context: Any
) -> None:
    context = open_context()
    context.add_init_script(MEASURE)
    context.add_init_script(AXE_SCRIPT)  # which is a third of what it costs page by page
    page = context.new_page()
    for address, there in places.items():
        if address == "/sign-in/":
            context.clear_cookies()  # who is signed in is sent on from there
        page.goto(address)
        page.locator(there).first.wait_for()
        spent = page.evaluate(SPENT)
        over = {name: spent[name] for name, most in BUDGET.items() if spent[name] > most}
        assert not over, (address, over)
        check(page, address)
        if there in COLOURFUL:
            page.emulate_media(color_scheme="dark")
            check(page, f"{address}, dark", runOnly=["color-contrast"])
            page.emulate_media(color_scheme="light")
        with on_a_phone(page):
            check_phone(page, address)


# Of its table of related records, and of its box of two lists.
FAULTS_OF_DJANGO = ("empty-table-header", "aria-prohibited-attr")


def test_the_admin_has_output_and_changes_live(
    api: Api, browser: Browser, server: LiveServer, signed_in: Any, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    script = f'echo begun; echo x > file; while [ ! -e "{gate}" ]; do sleep 0.1; done; echo ended'
    body = {"task_id": api.task(api.project(), "Seen there"), "executor": "script", "prompt": script}
    attempt = api("POST", "/api/task-attempts", body)["id"]
    (run,) = api("GET", f"/api/processes?task_attempt_id={attempt}")
    # Not a page that is watched: the policy stops styles that the admin's own jQuery tries.
    context = browser.new_context(base_url=server.url, storage_state=signed_in, reduced_motion="reduce")
    context.add_init_script(AXE_SCRIPT)
    page = context.new_page()
    page.goto(f"/admin/tasks/executionprocess/{run['id']}/change/")
    expect(page.locator(".log-line", has_text="begun")).to_be_visible()
    gate.touch()
    expect(page.locator(".log-line", has_text="ended")).to_be_visible()
    check(page, "log in the admin", include=".stream-in-admin")
    page.goto(f"/admin/tasks/taskattempt/{attempt}/change/")
    expect(page.locator(".diff-line")).to_be_visible()
    check(page, "diff in the admin", include=".stream-in-admin")
    project = api("GET", "/api/projects")[-1]["id"]
    for address in ("/admin/tasks/executor/", f"/admin/tasks/project/{project}/change/"):
        page.goto(address)
        check(page, address, rules={name: {"enabled": False} for name in FAULTS_OF_DJANGO})
    context.close()


# The words that stand on more than one line.
BROKEN = """(all) => all.map((one) => one.innerText).filter((text, at) => {
    const range = new Range();
    range.selectNodeContents(all[at]);
    const boxes = [...range.getClientRects()].filter(({width}) => width > 1);
    return Math.min(...boxes.map(({bottom}) => bottom)) <= Math.max(...boxes.map(({top}) => top));
})"""


def test_dialogs_and_menus_too(api: Api, open_context: Any) -> None:
    project = api.project("One")
    task = api.task(project, "Three", labels=["bug"])
    page = open_context(**PHONE).new_page()
    open_board(page, project)
    for menu in ("#user-menu", "#filter-menu"):
        page.locator(f"{menu} > summary").click()
        check_phone(page, menu)
        expect(page.locator(f"{menu} .menu-list")).to_be_in_viewport(ratio=1)
        assert page.locator(f"{menu} button:visible").evaluate_all(BROKEN) == []
        page.keyboard.press("Escape")
    api("PATCH", f"/api/tasks/{task}", {"labels": ["long" * 12]})
    expect(card(page, "Three").locator(".label-chip")).to_have_text("long" * 12)
    page.keyboard.press("f")
    expect(page.locator("#filter-list")).to_be_in_viewport(ratio=1)
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    assert page.locator("#shortcuts-help").evaluate("dialog => dialog.offsetWidth") == 390
    leave_dialog(page)
    page.get_by_role("button", name="New task", exact=True).click()
    check_phone(page, "create")
    leave_dialog(page)
    card(page, "Three").get_by_role("link").focus()
    page.keyboard.press("e")
    page.fill("#edit-name", "Mine")
    api("PATCH", f"/api/tasks/{task}", {"title": "Theirs"})
    expect(page.locator(".conflict")).to_be_visible()
    check(page, "edit", include="#edit-dialog", runOnly=["color-contrast"])
    check_phone(page, "edit")
    leave_dialog(page, presses=2)
    card(page, "Theirs").get_by_role("link").focus()
    page.keyboard.press("x")
    page.locator("#bulk").get_by_text("Move").click()
    expect(page.locator("#bulk .menu-list").first).to_be_in_viewport(ratio=1)
    check(page, "selected", runOnly=["color-contrast"])
    check_phone(page, "selected")


WRONG_CLOCK = """
    const right = Date.now;
    Date.now = () => right() + 600_000;
"""


def test_running_times_go_by_the_clock_of_the_server(api: Api, open_context: Any) -> None:
    project = api.project()
    task = api.task(project, "Begun just now")
    api("POST", "/api/task-attempts", {"task_id": task, "executor": "script", "prompt": "sleep 300"})
    context = open_context()
    context.add_init_script(WRONG_CLOCK)
    page = open_board(context.new_page(), project)
    seconds = re.compile(r"^\d+s$")
    expect(page.locator(".card-elapsed")).to_have_text(seconds)
    page.goto(f"/tasks/{task}/?view=log")
    expect(page.locator(".run-time")).to_have_text(seconds)
    expect(page.locator(".attempt-when")).to_have_text(seconds)
    api.stop(project)
    expect(page.locator(".attempt-when")).to_have_text("just now")


MUTATIONS = """
    globalThis.touched = new Set();
    new MutationObserver((changes) => {
        for (const {target} of changes) {
            const element = target.nodeType === 1 ? target : target.parentElement;
            touched.add(element?.closest(".card")?.dataset.key ?? element?.id ?? "");
        }
    }).observe(document.querySelector("#columns"),
               {subtree: true, childList: true, characterData: true, attributes: true});
"""


def test_a_change_touches_one_card_of_a_large_board(api: Api, page: Page) -> None:
    project = api.project()
    statuses = ("todo", "inprogress", "inreview", "done")
    for number in range(24):
        api.task(project, f"Task {number}", status=statuses[number % 4], labels=["bug", "docs"][: number % 3])
    open_board(page, project)
    elements = page.evaluate_handle("[...document.querySelectorAll('.card')]")
    page.evaluate(MUTATIONS)
    task = api.tasks(project)["Task 8"]["id"]
    api("PATCH", f"/api/tasks/{task}", {"title": "Changed"})
    expect(card(page, "Changed")).to_be_visible()
    assert page.evaluate("[...touched]") == [task]
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


FORBID_STORAGE = """
    Object.defineProperty(globalThis, "localStorage", {
        get() { throw new DOMException("Access is denied for this document.", "SecurityError"); },
    });
"""


def test_the_whole_path_by_keyboard_alone_in_a_browser_that_may_keep_nothing(
    api: Api, open_context: Any
) -> None:
    """As a person without a mouse goes it, who hears roles and names: a task is written, tried, reviewed, merged."""
    context = open_context()
    context.add_init_script(FORBID_STORAGE)
    page = open_board(context.new_page(), api.project())
    page.keyboard.press("c")
    expect(page.get_by_role("dialog", name="New task").get_by_label("Title")).to_be_focused()
    page.keyboard.type("Say hello")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#announcer")).to_have_text("Created Say hello.")
    expect(page.get_by_role("link", name="Say hello")).to_be_focused()
    page.keyboard.press("s")
    agent = page.get_by_role("dialog", name="Start an agent").get_by_label("Agent")
    expect(agent).to_be_focused()
    page.keyboard.type("script")
    page.keyboard.press("Tab")
    page.keyboard.type("echo hello > hello; echo done")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("region", name="In review").get_by_text("Needs review")).to_be_visible()
    page.keyboard.press("Enter")
    expect(page.get_by_role("tab", name="Changes")).to_have_attribute("aria-selected", "true")
    expect(page.get_by_role("link", name="hello", exact=True).first).to_be_visible()
    page.get_by_role("button", name="Split").press("Enter")
    page.keyboard.press("n")
    page.keyboard.press("c")
    page.keyboard.type("Why?")
    page.keyboard.press("Control+Enter")
    expect(page.locator(".diff-comment-text")).to_have_text("Why?")
    page.locator("body").press("1")
    expect(page.get_by_role("region", name="Output of the run")).to_contain_text("done")
    page.keyboard.press("f")
    page.keyboard.type("exit 3")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("navigation", name="Runs of this attempt")).to_contain_text("exit code 3")
    page.locator("#composer textarea").blur()
    page.keyboard.press("m")
    page.get_by_role("dialog").wait_for()
    page.keyboard.press("Enter")
    expect(page.get_by_label("Status")).to_have_value("done")
    page.keyboard.press("b")
    expect(page.get_by_role("region", name="Done").get_by_role("link", name="Say hello")).to_be_visible()
