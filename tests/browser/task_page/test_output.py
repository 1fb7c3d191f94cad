"""What programs print, as lines and as a conversation."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import RESTING, check
from tests.browser.task_page.conftest import Runs, line, open_task, shown
from tests.live import LiveServer
from tests.needs import needs_chromium
from tests.runs import wait_for
from tests.scale import scaled

pytestmark = needs_chromium

LINES = scaled(1_000_000, 10_000)
SAMPLES = Path(__file__).resolve().parents[2] / "data" / "conversations"


class TestOutput:
    def test_lines_keep_their_colours_and_stderr_is_told_apart(self, page: Page, printed: str) -> None:
        open_task(page, printed, "?view=log")
        expect(line(page, "plain <b>text</b>")).to_be_visible()
        coloured = line(page, "red and orange")
        expect(coloured.locator(".ansi-fg-1.ansi-bold")).to_have_text("red")
        expect(coloured.locator(".ansi-fg-exact")).to_have_text("orange")
        expect(page.locator(".log-stderr .log-text")).to_have_text("careful")
        expect(page.locator(".log-stderr .visually-hidden")).to_have_text("stderr:")

    def test_a_progress_bar_is_one_line_and_a_prompt_is_joined(self, page: Page, printed: str) -> None:
        open_task(page, printed, "?view=log")
        expect(line(page, "Working 100%")).to_be_visible()
        assert [text for text in shown(page) if "Working" in text] == ["Working 100%"]
        expect(line(page, "Name? Ada")).to_be_visible()

    def test_a_progress_bar_that_took_minutes_hides_nothing(
        self, page: Page, runs: Runs, server: LiveServer
    ) -> None:
        task, attempt = runs.done("echo before", "Took minutes")
        run = runs.of(attempt)[0]["id"]
        start, end = '{"type":"stdout","content":', '"timestamp":"2026-01-01T00:00:00.000000Z"'
        with open(server.data / "runs" / run / "log.jsonl", "a") as log:
            log.writelines(f'{start}"\\rStep {step}",{end},"partial":true}}\n' for step in range(2_000))
            log.write(f'{start}"\\rFinished",{end}}}\n')
        open_task(page, task, "?view=log")
        expect(line(page, "before")).to_be_visible()
        expect(line(page, "Finished")).to_be_visible()
        assert shown(page) == ["before", "Finished"]

    def test_a_line_that_came_in_parts_is_found(self, page: Page, printed: str) -> None:
        open_task(page, printed, "?view=log")
        search = page.get_by_role("searchbox", name="Search the whole log")
        search.fill("Working")
        search.press("Enter")
        expect(page.locator(".log-summary")).to_have_text("1 of 3 lines found")
        search.press("Escape")

    def test_the_end_is_said_where_the_person_looks(self, page: Page, printed: str) -> None:
        open_task(page, printed, "?view=log")
        expect(page.locator("#attempt-notices")).to_contain_text("exit code 3")
        expect(page.locator(".run[aria-current=true] .run-code")).to_have_text("exit code 3")
        expect(page.locator(".attempt .run-state")).to_have_text("Failed")

    def test_times_are_shown_on_demand(self, page: Page, printed: str) -> None:
        open_task(page, printed, "?view=log")
        time = page.locator(".log-time").first
        expect(time).to_be_hidden()
        page.get_by_role("button", name="Times").click()
        expect(time).to_have_text(re.compile(r"^\d\d:\d\d:\d\d[.,]\d{3}$"))

    def test_a_line_has_an_address(self, page: Page, printed: str) -> None:
        open_task(page, printed, "?view=log")
        line(page, "careful").locator(".log-number").click()
        assert page.url.endswith("#L3")
        page.reload()
        expect(page.locator(".log-line.is-chosen .log-text")).to_have_text("careful")

    def test_the_end_is_followed_only_by_a_reader_who_is_there(self, page: Page, runs: Runs) -> None:
        task = runs.task("Prints in steps")
        attempt = runs.start(task, "seq 1 300; gate more; seq 301 400; gate end; seq 401 500")
        open_task(page, task, "?view=log")
        expect(line(page, "300")).to_be_in_viewport()
        page.locator(".log-scroller").hover()
        page.mouse.wheel(0, -2000)
        expect(page.locator(".log-end")).to_be_visible()
        page.wait_for_timeout(200)
        before = shown(page)
        runs.open_gate("more")
        expect(page.locator(".log-end")).to_contain_text("100 new lines")
        assert shown(page) == before
        page.locator(".log-end").click()
        expect(line(page, "400")).to_be_in_viewport()
        runs.open_gate("end")
        expect(line(page, "500")).to_be_in_viewport()
        expect(page.locator(".log-end")).to_be_hidden()
        runs.ended(attempt)
        expect(page.locator(".run .run-dot")).to_be_visible()

    def test_who_selects_at_the_end_keeps_it_while_more_is_printed(self, page: Page, runs: Runs) -> None:
        task = runs.task("Prints on")
        attempt = runs.start(
            task, "seq 1 300; printf 'a\n\nb\n'; gate rows; seq 301 400; gate rest; echo over"
        )
        open_task(page, task, "?view=log")
        expect(line(page, "b")).to_be_in_viewport()
        selected = "getSelection().toString()"
        page.evaluate("getSelection().selectAllChildren(document.querySelector('.log-scroller .lines'))")
        before = page.evaluate(selected)
        assert before.endswith("300\na\n\nb")
        runs.open_gate("rows")
        expect(page.locator(".log-end")).to_contain_text("100 new lines")
        assert page.evaluate(selected).startswith(before)
        page.locator(".log-end").click()
        expect(line(page, "400")).to_be_in_viewport()
        runs.open_gate("rest")
        expect(line(page, "over")).to_be_in_viewport()
        runs.ended(attempt)

    def test_a_long_line_that_was_opened_stays_open(self, page: Page, runs: Runs) -> None:
        task = runs.task("Prints a long line")
        attempt = runs.start(task, "head -c 20000 /dev/zero | tr '\\0' y; echo; gate on; echo next")
        open_task(page, task, "?view=log")
        page.get_by_role("button", name="Show 10,000 more characters").click()
        expect(line(page, "y" * 20_000)).to_be_visible()
        runs.open_gate("on")
        expect(line(page, "next")).to_be_visible()
        expect(line(page, "y" * 20_000)).to_be_visible()
        runs.ended(attempt)

    def test_a_run_is_stopped_with_one_key(self, page: Page, runs: Runs) -> None:
        task = runs.task("Goes on for ever")
        attempt = runs.start(task, "echo begun; sleep 600")
        open_task(page, task)
        expect(line(page, "begun")).to_be_visible()
        page.keyboard.press("x")
        expect(page.locator(".attempt .run-state")).to_have_text("Stopped")
        expect(page.locator("#stop")).to_be_hidden()
        assert runs.ended(attempt)["status"] == "killed"

    def test_an_executor_that_cannot_start_says_so_in_its_log(
        self, page: Page, runs: Runs, server: LiveServer
    ) -> None:
        server.manage("executor", "broken", "--", "/nowhere/program")
        task = runs.task("Cannot start")
        answer = runs.api.client.post(
            "/api/task-attempts", json={"task_id": task, "executor": "broken", "prompt": "x"}
        )
        open_task(page, task)
        if answer.is_success:
            expect(page.locator(".log-error, .log-system").first).to_contain_text("/nowhere/program")
        else:
            assert "/nowhere/program" in answer.json()["detail"]


@pytest.fixture(scope="module")
def long(runs: Runs) -> str:
    pad = "x" * 80
    script = f'awk \'BEGIN {{ for (i = 1; i <= {LINES}; i++) print "line " i " {pad}" }}\''
    return runs.done(script, "Prints very much")[0]


class TestLongLog:
    def rows(self, page: Page) -> int:
        return int(page.evaluate("document.querySelectorAll('.log-line').length"))

    def test_it_opens_at_its_end_and_any_line_is_near(self, page: Page, long: str) -> None:
        page.goto(RESTING)  # or what another test has left open is not opened
        open_task(page, long, "?view=log")
        expect(page.locator(".log-line .log-text").last).to_contain_text(f"line {LINES} ")
        asked = page.evaluate(
            "performance.getEntriesByType('resource').filter((one) => one.name.includes('/logs/lines'))"
            ".map((one) => one.initiatorType)"
        )
        assert asked == ["link"]  # once, and by the page itself, while its scripts were on their way
        assert self.rows(page) < 200
        page.locator(".log-scroller").focus()
        page.keyboard.press("Home")
        expect(page.locator(".log-line .log-text").first).to_contain_text("line 1 ")
        middle = LINES // 2
        page.evaluate(f"location.hash = '#L{middle}'")
        expect(page.locator(".log-line.is-chosen .log-text")).to_contain_text(f"line {middle} ")
        assert self.rows(page) < 200

    def test_the_whole_of_it_is_searched_on_the_server(self, page: Page, long: str) -> None:
        open_task(page, long, "?view=log")
        page.keyboard.press("/")
        page.keyboard.type(f"line {LINES // 3} ")
        page.keyboard.press("Enter")
        expect(page.locator(".log-summary")).to_have_text("1 of 1 line found")
        chosen = page.locator(".log-line.is-chosen .log-text")
        expect(chosen).to_contain_text(f"line {LINES // 3} ")
        page.get_by_role("searchbox", name="Search the whole log").press("Escape")
        expect(page.locator(".log-results")).to_be_hidden()

    def test_a_search_that_breaks_off_says_so_for_good(self, page: Page, long: str) -> None:
        open_task(page, long, "?view=log")
        page.route("**/search?*", lambda route: route.fulfill(body='{"line": 0, "content": "line 1"}\n{"li'))
        field = page.get_by_placeholder("Search the whole log")
        field.fill("line")
        field.press("Enter")
        expect(page.locator(".log-hit")).to_have_count(1)
        wait_for(lambda: page.evaluate("vibe.page.log.search.drawing") == 0, "the last drawing")
        expect(page.locator(".log-summary")).to_contain_text("JSON")
        page.unroute("**/search?*")
        page.route("**/search?*", lambda route: route.abort())
        field.fill("lines")
        field.press("Enter")
        expect(page.locator(".log-summary")).to_have_text("The server can't be reached.")
        page.unroute("**/search?*")
        field.press("Escape")
        field.blur()

    def test_scrolling_all_over_keeps_memory_bounded(self, page: Page, long: str) -> None:
        open_task(page, long, "?view=log")
        for place in range(12):
            page.evaluate(
                "(part) => { const s = document.querySelector('.log-scroller');"
                " s.scrollTop = part * (s.scrollHeight - s.clientHeight) }",
                place / 11,
            )
            expect(page.locator(".log-line.is-absent")).to_have_count(0)
        assert self.rows(page) < 200

    def test_a_flood_is_followed_by_its_end_and_then_line_by_line(self, page: Page, runs: Runs) -> None:
        task = runs.task("Prints faster than a page can read")
        runs.start(
            task,
            f"echo begun; gate flood; seq 1 {LINES}; gate flooded; printf ov; sleep 0.3; echo er; gate over",
        )
        open_task(page, task, "?view=log")
        expect(line(page, "begun")).to_be_visible()
        page.evaluate("performance.now = () => 0")  # so many lines are a flood on a slow machine, too
        runs.open_gate("flood")
        expect(line(page, str(LINES))).to_be_in_viewport()
        looks = (
            "performance.getEntriesByType('resource').filter((one) => one.name.includes('first=-')).length"
        )
        assert page.evaluate(looks) > 1  # the first of them opened the page
        page.evaluate("delete performance.now")
        runs.open_gate("flooded")
        expect(line(page, "over")).to_be_in_viewport()
        page.evaluate("location.hash = '#L5000'")
        expect(page.locator(".log-line.is-chosen .log-text").last).to_have_text(re.compile(r"^\d{4}$"))
        runs.open_gate("over")

    def test_a_page_that_changes_during_a_flood_counts_no_line_twice(self, page: Page, runs: Runs) -> None:
        task = runs.task("Edited during a flood")
        attempt = runs.start(
            task, "echo begun; gate pour; seq 1 5000; gate ebb; seq 1 100; gate poured; echo over; gate dry"
        )
        open_task(page, task, "?view=log")
        expect(line(page, "begun")).to_be_visible()
        held: list[Route] = []
        looks, streams = "**/lines?first=-*", "**/api/events/processes/**"
        page.route(looks, lambda route: held.append(route))
        page.route(streams, lambda route: None)
        runs.open_gate("pour")
        wait_for(lambda: page.evaluate("1") and held, "a look at the end")
        runs.api("PATCH", f"/api/tasks/{task}", {"title": "Edited meanwhile"})
        expect(page.get_by_role("heading", name="Edited meanwhile")).to_be_visible()
        runs.open_gate("ebb")
        last = f"/api/processes/{runs.of(attempt)[0]['id']}/logs/lines?first=-1&count=1"
        wait_for(lambda: runs.api("GET", last)["total"] == 5_101, "more lines")
        page.unroute(looks)
        for route in held:
            route.continue_()
        expect(page.locator(".log-state")).to_contain_text("5,101 lines")
        page.unroute_all()  # which lets the stream go on
        runs.open_gate("poured")
        expect(line(page, "over")).to_be_in_viewport()
        expect(page.locator(".log-state")).to_have_text("5,102 lines")
        runs.open_gate("dry")


@pytest.fixture(scope="module")
def talkers(server: LiveServer) -> None:
    """Executors that say what is in a sample."""
    for sample in ("codex", "gemini"):
        said = str(SAMPLES / f"{sample}.jsonl")
        server.manage("executor", "--format", sample, f"{sample}-talker", "--", "cat", said)


def said(runs: Runs, sample: str) -> str:
    """A task whose agent said what is in this sample."""
    task = runs.task("Talks")
    body = {"task_id": task, "executor": f"{sample}-talker", "prompt": "Say hello."}
    runs.ended(runs.api("POST", "/api/task-attempts", body))
    return task


@pytest.fixture(scope="module")
def talk(runs: Runs, talkers: None) -> str:
    return said(runs, "gemini")


@pytest.mark.usefixtures("talkers")
class TestConversation:
    def test_a_failed_turn_is_told_once(self, page: Page, runs: Runs) -> None:
        open_task(page, said(runs, "codex"), "?view=conversation")
        expect(page.locator(".talk-error")).to_have_text(["The model is overloaded. (Try again later.)"])

    def test_messages_and_tools_with_their_results_folded(self, page: Page, talk: str) -> None:
        open_task(page, talk, "?view=log")
        expect(page.locator(".log-line").first).to_be_visible()
        page.keyboard.press("3")
        # Written in two pieces, read as one.
        expect(page.locator(".talk-message:not(.is-user) .talk-text")).to_have_text(
            ["I'll look at the files first."]
        )
        tool = page.locator(".talk-tool").first
        expect(tool.locator(".talk-output")).to_be_hidden()
        tool.locator("summary").click()
        expect(tool.locator(".talk-output")).to_be_visible()
        expect(page.locator(".talk-usage")).to_contain_text("tokens in")
        check(page, "conversation")

    def test_it_is_what_opens_once_there_is_nothing_to_review(
        self, page: Page, runs: Runs, talk: str
    ) -> None:
        (attempt,) = runs.api("GET", f"/api/task-attempts?task_id={talk}")
        runs.api("POST", f"/api/task-attempts/{attempt['id']}/discard")
        open_task(page, talk)
        expect(page.get_by_role("tab", name="Conversation")).to_have_attribute("aria-selected", "true")
        expect(page.locator(".talk").first).to_be_visible()
