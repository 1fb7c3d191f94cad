"""The board in Chromium: what one window does, another sees; by mouse, by keyboard and by finger."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, Route, expect

from tests.browser.conftest import PHONE, RESTING, Api, Watched, card, lift, middle, titles, wait_live
from tests.needs import needs_chromium

pytestmark = needs_chromium


def test_escape_puts_a_carried_card_back(api: Api, project: str, board: Any) -> None:
    page = board("One", "Two")
    lift(page, "Two", page.locator("#column-done"))
    page.keyboard.press("Escape")
    page.mouse.up()
    expect_titles(page, "todo", ["One", "Two"])
    assert page.url.endswith(f"/projects/{project}/")
    assert api.tasks(project)["Two"]["status"] == "todo"


def test_the_press_that_ends_a_drag_is_no_press_on_the_card(board: Any) -> None:
    page = board("One")
    page.evaluate(
        """() => {
            document.querySelector("#columns").onclick = (event) => {
                event.preventDefault();
                globalThis.pressed = true;
            };
            // The page is busy when the card falls.
            const beBusy = () => {
                const until = performance.now() + 150;
                while (performance.now() < until);
            };
            document.addEventListener("pointerup", beBusy, { once: true });
        }"""
    )
    lift(page, "One", card(page, "One"))
    page.mouse.up()
    page.locator(".is-dragging").wait_for(state="detached")
    assert not page.evaluate("globalThis.pressed")
    card(page, "One").click()
    assert page.evaluate("globalThis.pressed")
    page.evaluate("() => { document.querySelector('#columns').onclick = null; delete globalThis.pressed; }")


def test_the_press_of_a_drag_that_was_given_up_is_none_on_the_card_either(board: Any) -> None:
    page = board("One")
    page.evaluate("() => { document.querySelector('#columns').onclick = () => (globalThis.pressed = true) }")
    lift(page, "One", card(page, "One"))
    page.keyboard.press("Escape")
    page.evaluate("() => { const { now } = Date; Date.now = () => now() + 1_000 }")
    page.mouse.up()
    assert not page.evaluate("globalThis.pressed")
    card(page, "One").click()
    expect(page.get_by_role("heading", name="One")).to_be_visible()


def test_a_carried_card_stays_in_hand_while_others_change_the_board(
    api: Api, project: str, board: Any
) -> None:
    page = board("One", "Two")
    lift(page, "Two", page.locator("#column-done"))
    api.task(project, "Three")
    expect(card(page, "Three")).to_be_visible()
    page.mouse.up()
    expect_titles(page, "done", ["Two"])
    expect_titles(page, "todo", ["One", "Three"])
    lift(page, "Three", page.locator("#column-done"))
    api("DELETE", f"/api/tasks/{api.tasks(project)['Three']['id']}")
    page.locator(".is-dragging").wait_for(state="detached")
    page.mouse.up()
    expect_titles(page, "todo", ["One"])


def test_moves_of_one_card_are_saved_in_turn_and_shown_all_the_while(
    api: Api, project: str, board: Any
) -> None:
    page = board("Moved")
    held: list[Route] = []
    page.route("**/api/tasks/*", lambda route: held.append(route))
    card(page, "Moved").get_by_role("link").focus()
    page.keyboard.press("4")
    expect_titles(page, "done", ["Moved"])
    page.keyboard.press("3")
    expect_titles(page, "inreview", ["Moved"])
    api.task(project, "Made meanwhile")
    expect(card(page, "Made meanwhile")).to_be_visible()
    assert titles(page, "inreview") == ["Moved"]
    assert [route.request.post_data_json["status"] for route in held] == ["done"]
    page.unroute("**/api/tasks/*")  # which lets the held one go on
    page.locator(".is-pending").wait_for(state="detached")
    assert api.tasks(project)["Moved"]["status"] == "inreview"


def test_a_later_move_holds_though_an_earlier_one_of_many_is_still_being_saved(
    api: Api, project: str, board: Any
) -> None:
    page = board("One", "Two", "Three")
    held: list[Route] = []
    one = api.tasks(project)["One"]["id"]
    page.route(f"**/api/tasks/{one}", lambda route: held.append(route))
    card(page, "One").get_by_role("link").focus()
    page.keyboard.press("Control+a")
    page.keyboard.press("4")
    expect_titles(page, "done", ["One", "Two", "Three"])
    page.keyboard.press("Escape")
    api("DELETE", f"/api/tasks/{api.tasks(project)['Three']['id']}")
    card(page, "Two").get_by_role("link").focus()
    page.keyboard.press("3")
    expect(card(page, "Two")).not_to_have_class(re.compile("is-pending"))
    assert api.tasks(project)["Two"]["status"] == "inreview"
    page.unroute(f"**/api/tasks/{one}")  # which lets the held one go on
    expect(page.get_by_role("alert")).to_contain_text("Not moved (1 of 3)")
    expect(page.locator(".is-pending")).to_have_count(0)
    assert {title: task["status"] for title, task in api.tasks(project).items()} == {
        "One": "done",
        "Two": "inreview",
    }


def test_a_card_that_goes_while_many_are_carried_keeps_none_of_the_others(
    api: Api, project: str, board: Any
) -> None:
    page = board("One", "Two", "Three")
    card(page, "One").get_by_role("link").focus()
    page.keyboard.press("Control+a")
    lift(page, "Three", page.locator("#column-done"))
    api("DELETE", f"/api/tasks/{api.tasks(project)['One']['id']}")
    expect(card(page, "One")).to_have_count(0)
    page.mouse.up()
    expect_titles(page, "done", ["Two", "Three"])
    expect(page.locator(".is-pending")).to_have_count(0)
    assert {task["status"] for task in api.tasks(project).values()} == {"done"}


def test_the_keyboard_moves_cards_and_says_so(api: Api, project: str, board: Any) -> None:
    page = board("One", "Two", "Three")
    page.keyboard.press("j")
    page.keyboard.press("j")
    expect(card(page, "Two").get_by_role("link")).to_be_focused()
    page.keyboard.press("Shift+ArrowUp")
    expect_titles(page, "todo", ["Two", "One", "Three"])
    expect(page.locator("#announcer")).to_have_text("Two: place 1 of 3 in To do.")
    page.keyboard.press("Shift+ArrowRight")
    expect_titles(page, "inprogress", ["Two"])
    expect(page.locator("#announcer")).to_have_text("Two: moved to In progress, place 1 of 1.")
    expect(card(page, "Two").get_by_role("link")).to_be_focused()
    page.keyboard.press("4")
    expect_titles(page, "done", ["Two"])
    page.keyboard.press("Control+z")
    expect_titles(page, "inprogress", ["Two"])
    page.keyboard.press("4")
    expect_titles(page, "done", ["Two"])
    page.locator(".is-pending").wait_for(state="detached")
    assert api.tasks(project)["Two"]["status"] == "done"


def test_arrows_bring_the_whole_column_into_sight(api: Api, project: str, board: Any) -> None:
    page = board("One")
    page.set_viewport_size({"width": 900, "height": 600})
    api.task(project, "Two", status="cancelled")
    expect(card(page, "Two")).to_be_attached()
    card(page, "One").get_by_role("link").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#column-cancelled")).to_be_in_viewport(ratio=1)


def test_who_stands_on_a_card_that_goes_stands_on_its_neighbour(api: Api, project: str, board: Any) -> None:
    page = board("One", "Two", "Three")
    card(page, "Two").get_by_role("link").focus()
    page.keyboard.press("Delete")
    page.locator("dialog[open]").wait_for()
    page.keyboard.press("Enter")
    expect(card(page, "Three").get_by_role("link")).to_be_focused()
    for gone, focused in (
        ("Three", card(page, "One").get_by_role("link")),
        ("One", page.locator(".cards").first),
    ):
        api("DELETE", f"/api/tasks/{api.tasks(project)[gone]['id']}")
        expect(focused).to_be_focused()


def test_changes_leave_focus_typing_and_scroll_alone(api: Api, project: str, board: Any) -> None:
    page = board(*(f"Task {number}" for number in range(12)))
    page.set_viewport_size({"width": 1280, "height": 400})
    scroll = "document.querySelector('.cards[data-status=todo]').scrollTop"
    page.evaluate(f"{scroll} = 300")
    page.keyboard.press("c")
    page.fill("#create-name", "Half a sen")
    element = page.evaluate_handle("document.querySelectorAll('.card')[10]")
    task = api.tasks(project)["Task 3"]["id"]
    api("PATCH", f"/api/tasks/{task}", {"title": "Task 3, renamed"})
    api("PATCH", f"/api/tasks/{task}", {"status": "done"})
    expect(card(page, "Task 3, renamed")).to_be_visible()
    expect_titles(page, "done", ["Task 3, renamed"])
    expect(page.locator("#create-name")).to_be_focused()
    expect(page.locator("#create-name")).to_have_value("Half a sen")
    assert abs(page.evaluate(scroll) - 300) < 80
    assert page.evaluate("element => element.isConnected", element), "an unchanged card was drawn anew"


def test_search_and_filter_narrow_the_board_and_stay_in_the_address(
    api: Api, project: str, board: Any
) -> None:
    page = board("Apple pie", "Pear tart")
    api.task(project, "Apple wine", labels=["week 10", "drink", "week 9"], description="from cider")
    page.keyboard.press("/")
    page.keyboard.type("apple")
    expect_titles(page, "todo", ["Apple pie", "Apple wine"])
    page.locator("#filter-menu summary").click()
    expect(page.locator("#filter-list")).to_contain_text(re.compile("drink.*week 9.*week 10", re.DOTALL))
    page.locator("#filter-list").get_by_role("button", name="drink").click()
    expect_titles(page, "todo", ["Apple wine"])
    expect(page.locator(".filter-matches")).to_have_text("1 of 3")
    page.reload()
    expect_titles(page, "todo", ["Apple wine"])
    page.get_by_role("button", name="Remove the filter Label drink").click()
    page.locator("#search").focus()
    page.keyboard.press("Escape")
    expect_titles(page, "todo", ["Apple pie", "Pear tart", "Apple wine"])


def test_many_are_moved_labelled_and_deleted_at_once(api: Api, project: str, board: Any) -> None:
    page = board("One", "Two", "Three")
    card(page, "One").click(modifiers=["Control"], position={"x": 150, "y": 14})
    card(page, "Two").click(modifiers=["Shift"], position={"x": 150, "y": 14})
    bulk = page.locator("#bulk")
    expect(bulk).to_contain_text("2 selected")
    bulk.get_by_text("Label").click()
    bulk.get_by_label("Label to add").fill("soon")
    page.keyboard.press("Enter")
    expect(page.locator(".card .label-chip")).to_have_count(2)
    bulk.get_by_text("Move").click()
    bulk.get_by_role("button", name="In review").click()
    expect_titles(page, "inreview", ["One", "Two"])
    page.locator("#column-inreview .card-title").first.focus()
    page.keyboard.press("Delete")
    page.locator("dialog[open]").get_by_role("button", name="Delete").click()
    expect_titles(page, "inreview", [])
    assert set(api.tasks(project)) == {"Three"}


def test_what_the_filter_hides_is_not_among_the_selected(board: Any) -> None:
    page = board("One", "Two", "Three")
    for title in ("One", "Two"):
        card(page, title).click(modifiers=["Control"], position={"x": 150, "y": 14})
    bulk = page.locator("#bulk")
    for sought, there in (("One", "1 selected"), ("Three", None), ("", "2 selected")):
        page.locator("#search").fill(sought)
        if there:
            expect(bulk).to_contain_text(there)
        else:
            expect(bulk).to_be_hidden()
    page.locator("#search").blur()
    page.keyboard.press("Escape")


def test_a_page_that_is_come_back_to_selects_nothing(board: Any) -> None:
    page = board("One")
    card(page, "One").get_by_role("link").focus()
    page.keyboard.press("x")
    expect(card(page, "One").locator(".card-check")).to_be_checked()
    page.goto(RESTING)
    page.go_back()
    wait_live(page)
    expect(card(page, "One").locator(".card-check")).not_to_be_checked()


def test_a_title_reads_in_the_direction_of_its_letters(board: Any) -> None:
    page = board("תקן (abc) 123!")
    ends = (
        card(page, "תקן (abc) 123!")
        .locator(".card-title")
        .evaluate("""(title) => {
        const text = title.firstChild;
        return [0, text.length - 1].map((at) => {
            const range = new Range();
            range.setStart(text, at);
            range.setEnd(text, at + 1);
            return range.getBoundingClientRect().left;
        });
    }""")
    )
    assert ends[1] < ends[0]


def test_the_demo_agent_starts_with_the_task(api: Api, project: str, board: Any) -> None:
    page = board()
    page.keyboard.press("c")
    page.fill("#create-name", "Show me")
    page.select_option("#create-executor", "demo")
    page.get_by_role("button", name="Create and start").click()
    running = page.locator("#column-inprogress .card")
    expect(running.locator(".run-state")).to_have_text("Running")
    expect(running.locator(".card-agent")).to_have_text("demo")
    expect(running.locator(".card-line")).not_to_be_empty()
    api.stop(project)
    expect(page.locator("#column-inreview .run-state")).to_have_text("Stopped")


def test_a_run_whose_card_is_in_review_already_is_asked_for_no_oftener(
    api: Api, project: str, board: Any
) -> None:
    page = board("Goes on")
    task = api.tasks(project)["Goes on"]["id"]
    api("POST", "/api/task-attempts", {"task_id": task, "executor": "script", "prompt": "echo on; sleep 60"})
    expect(card(page, "Goes on").locator(".card-line")).to_have_text("on")
    api("PATCH", f"/api/tasks/{task}", {"status": "inreview"})
    expect_titles(page, "inreview", ["Goes on"])
    with page.expect_request("**/pulse/"):
        pass
    began = time.monotonic()
    with page.expect_request("**/pulse/"):
        pass
    assert time.monotonic() - began > 1.5
    api.stop(project)


def test_the_menu_does_what_the_keys_do(board: Any) -> None:
    page = board("One", "Two")
    page.get_by_role("button", name="Actions for One").click()
    page.get_by_role("menuitem", name="Done").click()
    expect_titles(page, "done", ["One"])
    page.keyboard.press("?")
    expect(page.locator("#shortcuts-help")).to_contain_text("New task")


def test_the_menu_of_a_task_that_is_gone_starts_nothing(api: Api, project: str, board: Any) -> None:
    page = board("One")
    page.get_by_role("button", name="Actions for One").click()
    api("DELETE", f"/api/tasks/{api.tasks(project)['One']['id']}")
    expect_titles(page, "todo", [])
    page.get_by_role("menuitem", name="Start an agent").click()
    expect(page.locator("#card-menu")).to_be_hidden()
    expect(page.locator("dialog[open]")).to_have_count(0)


@pytest.fixture(scope="class")
def other(usual_context: BrowserContext) -> Iterator[Page]:
    page = usual_context.new_page()
    yield page
    page.close()


@pytest.fixture
def windows(page: Page, other: Page) -> list[Page]:
    return [page, other]


class TestTwoWindows:
    def test_a_new_task_appears_in_every_window(self, show: Any, windows: list[Page]) -> None:
        first, second = show(on=windows)
        first.keyboard.press("c")
        first.fill("#create-name", "Peel the apples")
        first.fill("#create-labels", "kitchen, fruit")
        first.keyboard.press("Control+Enter")
        expect(card(second, "Peel the apples")).to_contain_text("kitchen")
        expect(card(first, "Peel the apples").get_by_role("link")).to_be_focused()

    def test_a_drag_moves_the_card_for_everybody_and_for_good(self, show: Any, windows: list[Page]) -> None:
        first, second = show("One", "Two", "Three", on=windows)
        drag(first, "Three", target=card(first, "One"), below=False)
        expect_titles(first, "todo", ["Three", "One", "Two"])
        expect_titles(second, "todo", ["Three", "One", "Two"])
        drag(first, "One", target=first.locator("#column-done"))
        expect_titles(second, "done", ["One"])
        second.reload()
        assert titles(second, "todo") == ["Three", "Two"]

    def test_two_people_order_one_column_without_clobbering(self, show: Any, windows: list[Page]) -> None:
        first, second = show("One", "Two", "Three", "Four", on=windows)
        card(first, "Four").get_by_role("link").focus()
        card(second, "One").get_by_role("link").focus()
        first.keyboard.press("Shift+ArrowUp")
        second.keyboard.press("Shift+ArrowDown")
        for page in (first, second):
            expect_titles(page, "todo", ["Two", "One", "Four", "Three"])

    def test_an_agent_is_started_from_the_board_and_followed_on_the_card(
        self, show: Any, windows: list[Page], tmp_path: Path
    ) -> None:
        first, second = show("Make a file", on=windows)
        card(first, "Make a file").get_by_role("link").focus()
        first.keyboard.press("s")
        first.select_option("#start-executor", "script")
        first.fill(
            "#start-prompt",
            f"echo working hard; until [ -e {tmp_path}/go ]; do sleep 0.1; done; seq 5 > numbers",
        )
        first.locator("#start-dialog [type=submit]").click()
        expect(second.locator("#column-inprogress .run-state")).to_have_text("Running")
        expect(second.locator("#column-inprogress .card-line")).to_have_text("working hard")
        (tmp_path / "go").touch()
        review = second.locator("#column-inreview .card")
        expect(review.locator(".run-state")).to_have_text("Needs review")
        expect(review.locator(".plus")).to_have_text("+5")


MOVE_BEFORE = """(card, [x, y]) => {
    const finger = { bubbles: true, pointerType: "touch", isPrimary: true, clientX: x };
    card.dispatchEvent(new PointerEvent("pointerdown", { ...finger, clientY: y }));
    card.dispatchEvent(new PointerEvent("pointermove", { ...finger, clientY: y - 20 }));
}"""


class Finger:
    def __init__(self, page: Page) -> None:
        self.touch = page.context.new_cdp_session(page)

    def __call__(self, kind: str, x: float = 0, y: float = 0) -> None:
        points = [] if kind == "touchEnd" else [{"x": x, "y": y}]
        self.touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})


@pytest.fixture(scope="class")
def phone(watched: Watched) -> Iterator[Page]:
    context = watched.open(reduced_motion="no-preference", **PHONE)
    page = context.new_page()
    page.clock.install()
    yield page
    context.close()


@pytest.mark.usefixtures("open_context")
class TestPhone:
    def test_a_finger_carries_a_card_after_a_long_press(self, phone: Page, show: Any) -> None:
        show("One", "Two", "Three", on=[phone])
        start, end = middle(card(phone, "Three")), middle(card(phone, "One"))
        finger = Finger(phone)
        # One that moves before is scrolling, also where the browser itself does not say so.
        card(phone, "Three").evaluate(MOVE_BEFORE, start)
        phone.clock.run_for(1_000)
        assert not phone.locator(".is-dragging").count()
        finger("touchStart", *start)
        phone.locator(".is-dragging").wait_for()
        for part in range(1, 6):
            finger("touchMove", start[0], start[1] + (end[1] - 12 - start[1]) * part / 5)
        finger("touchEnd")
        expect_titles(phone, "todo", ["Three", "One", "Two"])

    def test_a_phone_shows_one_column_at_a_time_and_nothing_sticks_out(self, phone: Page, show: Any) -> None:
        show("A" * 120, "Words " * 40, on=[phone])
        assert phone.evaluate("document.documentElement.scrollWidth") <= 390
        phone.get_by_role("tab", name="Done").click()
        expect(phone.get_by_role("tab", name="Done")).to_have_attribute("aria-selected", "true")
        expect(phone.locator("#column-done")).to_be_in_viewport(ratio=0.9)
        expect(phone.locator("#column-cancelled").get_by_text("No tasks")).to_be_visible()
        phone.get_by_role("button", name="New task", exact=True).click()
        expect(phone.locator("#create-dialog")).to_be_visible()
        assert phone.evaluate("document.documentElement.scrollWidth") <= 390


def drag(page: Page, title: str, target: Any, below: bool = True) -> None:
    lift(page, title, target)
    x, y = middle(target)
    page.mouse.move(x, y if below else y - 14)
    page.mouse.up()


def expect_titles(page: Page, status: str, wanted: list[str]) -> None:
    expect(page.locator(f'.cards[data-status="{status}"] .card-title')).to_have_text(wanted)
