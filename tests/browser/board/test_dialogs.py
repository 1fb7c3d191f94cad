"""The board's dialogs: a task is written, edited, started; no words are lost and no late answer disturbs."""

from typing import Any

from playwright.sync_api import Dialog, Locator, Route, expect

from tests.browser.conftest import Api, card, leave_dialog, stay, wait_live
from tests.needs import needs_chromium
from tests.runs import wait_for

pytestmark = needs_chromium


def test_somebody_elses_edit_is_shown_not_lost(api: Api, project: str, board: Any) -> None:
    page = board("Sweep the floor")
    task = api.tasks(project)["Sweep the floor"]["id"]
    card(page, "Sweep the floor").get_by_role("link").focus()
    page.keyboard.press("e")
    page.fill("#edit-name", "Sweep the whole floor")
    api("PATCH", f"/api/tasks/{task}", {"title": "Mop the floor", "description": "With water"})
    conflict = page.locator(".conflict[data-of=title]")
    expect(conflict).to_contain_text("Mop the floor")
    expect(page.locator("#edit-description")).to_have_value("With water")
    page.locator("#edit-dialog [type=submit]").click()
    expect(page.locator("#edit-dialog .field-error")).to_contain_text("Choose first")
    conflict.get_by_role("button", name="Keep mine").click()
    page.locator("#edit-dialog [type=submit]").click()
    expect(card(page, "Sweep the whole floor")).to_be_visible()
    assert api("GET", f"/api/tasks/{task}")["description"] == "With water"


def test_an_edit_that_is_taken_back_is_no_conflict(api: Api, project: str, board: Any) -> None:
    page = board("Sweep the floor")
    task = api.tasks(project)["Sweep the floor"]["id"]
    card(page, "Sweep the floor").get_by_role("link").focus()
    page.keyboard.press("e")
    page.fill("#edit-name", "Sweep the whole floor")
    for title, conflicts in (("Mop the floor", 1), ("Sweep the floor", 0)):
        api("PATCH", f"/api/tasks/{task}", {"title": title})
        expect(page.locator(".conflict")).to_have_count(conflicts)
    leave_dialog(page, presses=2)


def test_line_ends_of_another_form_are_no_edit(api: Api, project: str, board: Any) -> None:
    page = board("Sweep the floor")
    task = api.tasks(project)["Sweep the floor"]["id"]
    api("PATCH", f"/api/tasks/{task}", {"description": "The hall\r\nThe stairs", "labels": ["soon"]})
    expect(card(page, "Sweep the floor").locator(".label-chip")).to_have_text("soon")
    card(page, "Sweep the floor").get_by_role("link").focus()
    page.keyboard.press("e")
    api("PATCH", f"/api/tasks/{task}", {"description": "The hall\r\nThe attic", "labels": ["late"]})
    expect(page.locator("#edit-description")).to_have_value("The hall\nThe attic")
    expect(page.locator("#known-labels option")).to_have_attribute("value", "late")
    leave_dialog(page)


def test_words_in_the_editor_are_not_left_unasked(board: Any) -> None:
    page = board("One")
    card(page, "One").get_by_role("link").focus()
    page.keyboard.press("e")
    page.keyboard.type(" and a half")
    stay(page)
    expect(page.locator("#edit-name")).to_have_value("One and a half")
    page.keyboard.press("Control+Enter")
    expect(card(page, "One and a half")).to_be_visible()
    asked: list[Dialog] = []

    def ask(dialog: Dialog) -> None:
        asked.append(dialog)
        dialog.accept()

    page.on("dialog", ask)
    page.reload()
    wait_live(page)
    page.remove_listener("dialog", ask)
    assert not asked


def test_an_edit_that_the_page_has_not_heard_of_is_a_conflict_too(api: Api, project: str, board: Any) -> None:
    page = board("Sweep the floor")
    task = api.tasks(project)["Sweep the floor"]["id"]
    card(page, "Sweep the floor").get_by_role("link").focus()
    page.evaluate("vibe.live.manager.close()")
    api("PATCH", f"/api/tasks/{task}", {"title": "Mop the floor"})
    page.keyboard.press("e")
    page.fill("#edit-name", "Sweep the whole floor")
    page.locator("#edit-dialog [type=submit]").click()
    expect(page.locator(".conflict[data-of=title]")).to_contain_text("Mop the floor")
    assert api("GET", f"/api/tasks/{task}")["title"] == "Mop the floor"


def test_an_editor_that_is_opened_again_at_once_saves_the_task_that_it_shows(
    api: Api, project: str, board: Any
) -> None:
    page = board("One", "Two")
    card(page, "One").get_by_role("link").focus()
    page.keyboard.press("e")
    expect(page.locator("#edit-name")).to_have_value("One")
    other = card(page, "Two").get_by_role("link").element_handle()
    page.evaluate(
        """async (link) => {
            const dialog = document.querySelector("#edit-dialog");
            const closed = new Promise((resolve) => dialog.addEventListener("close", resolve));
            dialog.close();
            link.focus();
            link.dispatchEvent(new KeyboardEvent("keydown", { key: "e", bubbles: true }));
            await closed;
        }""",
        other,
    )
    page.locator("#edit-description").fill("about the second")
    page.keyboard.press("Control+Enter")
    wait_for(lambda: api.tasks(project)["Two"]["description"] == "about the second", "the edit", 20)


def test_an_answer_that_comes_late_leaves_the_next_dialog_alone(api: Api, project: str, board: Any) -> None:
    page = board("One", "Two")
    held: list[Route] = []
    page.route("**/api/tasks/*", lambda route: held.append(route))
    card(page, "One").get_by_role("link").focus()
    page.keyboard.press("e")
    page.locator("#edit-description").fill("saved slowly")
    page.keyboard.press("Control+Enter")
    wait_for(lambda: page.evaluate("1") and held, "the words on their way")
    leave_dialog(page, presses=2)
    card(page, "Two").get_by_role("link").focus()
    page.keyboard.press("e")
    page.locator("#edit-description").fill("still being written")
    page.keyboard.press("Control+Enter")
    wait_for(lambda: page.evaluate("1") and len(held) == 2, "the words of both on their way")
    page.locator("#edit-description").fill("and written on")
    held.pop(0).continue_()
    wait_for(lambda: api.tasks(project)["One"]["description"] == "saved slowly", "the first edit")
    expect(page.locator("#edit-description")).to_have_value("and written on")
    held.pop().continue_()
    wait_for(lambda: api.tasks(project)["Two"]["description"] == "still being written", "the second edit")
    expect(page.locator("#edit-dialog .field-error")).to_contain_text("since")
    expect(page.locator("#edit-description")).to_have_value("and written on")
    page.keyboard.press("Control+Enter")
    wait_for(lambda: page.evaluate("1") and held, "the words on their way")
    leave_dialog(page, presses=2)
    held.pop().abort()
    expect(page.get_by_role("alert")).to_contain_text("“Two” was not saved")


def test_a_start_that_fails_late_is_told_and_the_next_one_left_alone(board: Any) -> None:
    page = board("One", "Two")
    held: list[Route] = []
    page.route("**/api/task-attempts", lambda route: held.append(route))
    for number, title in enumerate(("One", "Two"), 1):
        leave_dialog(page)
        card(page, title).get_by_role("link").focus()
        page.keyboard.press("s")
        page.locator("#start-prompt").fill(f"for {title}")
        page.keyboard.press("Control+Enter")
        wait_for(lambda number=number: page.evaluate("1") and len(held) == number, "the start on its way")
    held[0].abort()
    expect(page.get_by_role("alert")).to_contain_text("“One” was not started")
    expect(page.locator("#start-prompt")).to_have_value("for Two")
    held[1].abort()


def test_a_prompt_outlives_its_page_until_it_is_sent(board: Any) -> None:
    page = board("One")

    def prompt() -> Locator:
        card(page, "One").get_by_role("link").focus()
        page.keyboard.press("s")
        return page.locator("#start-prompt")

    prompt().fill("echo half")
    page.reload()
    wait_live(page)
    expect(prompt()).to_have_value("echo half")
    page.select_option("#start-executor", "script")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#announcer")).to_have_text("script starts.")
    expect(page.locator("#column-inreview .run-state")).to_have_text("Needs review")
    expect(prompt()).to_have_value("")
    leave_dialog(page)


def test_what_is_written_while_a_task_is_made_stays(board: Any) -> None:
    page = board()
    held: list[Route] = []
    page.route("**/api/tasks", lambda route: held.append(route))
    page.keyboard.press("c")
    page.get_by_label("Write another one").check()
    page.fill("#create-name", "First")
    page.keyboard.press("Enter")
    wait_for(lambda: page.evaluate("1") and held, "the first on its way")
    page.fill("#create-name", "Second")
    held.pop().continue_()
    expect(card(page, "First")).to_be_visible()
    expect(page.locator("#announcer")).to_have_text("Created First.")
    expect(page.locator("#create-name")).to_have_value("Second")
    page.keyboard.press("Enter")
    wait_for(lambda: page.evaluate("1") and held, "the second on its way")
    leave_dialog(page)
    held.pop().abort()
    expect(page.get_by_role("alert")).to_contain_text("Your words are kept")
    page.keyboard.press("c")
    expect(page.locator("#create-name")).to_have_value("Second")


def test_a_new_card_that_comes_late_leaves_the_typing_where_it_is(board: Any) -> None:
    page = board("Old")
    page.route("**/api/events/**", lambda route: route.abort())
    page.evaluate("vibe.live.manager.restart(vibe.live.manager.cursor)")
    page.keyboard.press("c")
    page.fill("#create-name", "New")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#announcer")).to_have_text("Created New.")
    page.keyboard.press("/")
    page.unroute("**/api/events/**")
    expect(card(page, "New")).to_be_visible()
    expect(page.locator("#search")).to_be_focused()
