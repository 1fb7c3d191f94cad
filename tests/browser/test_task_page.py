"""The page of a task in front of real programs: what they print, what they change, what the reader does."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from tests.browser.conftest import PATIENCE, PHONE, RESTING, Api, check, check_phone
from tests.live import LiveServer
from tests.needs import needs_chromium
from tests.repositories import git
from tests.runs import wait_for
from tests.scale import scaled

pytestmark = needs_chromium
expect.set_options(timeout=PATIENCE)

LINES = scaled(1_000_000, 30_000)
SAMPLES = Path(__file__).resolve().parents[1] / "data" / "conversations"
ENDED = ("completed", "failed", "killed", "interrupted")


class Runs:
    """Attempts of the `script` executor, whose scripts wait for the test at gates: `gate NAME`."""

    def __init__(self, api: Api, folder: Path) -> None:
        self.api = api
        self.folder = folder
        self.project = api.project()

    def task(self, title: str = "A task", **fields: Any) -> str:
        return self.api.task(self.project, title, **fields)

    def start(self, task: str, script: str) -> dict[str, Any]:
        body = {"task_id": task, "executor": "script", "prompt": self.gated(script)}
        return dict(self.api("POST", "/api/task-attempts", body))

    def gated(self, script: str) -> str:
        wait = f'while [ ! -e "{self.folder}/$1" ]; do sleep 0.02; done'
        return f"gate() {{ {wait}; }}\n{script}"

    def open_gate(self, name: str) -> None:
        (self.folder / name).touch()

    def of(self, attempt: dict[str, Any]) -> list[dict[str, Any]]:
        return list(self.api("GET", f"/api/processes?task_attempt_id={attempt['id']}"))

    def ended(self, attempt: dict[str, Any], number: int = 1) -> dict[str, Any]:
        """The given run (from 1), once it has ended."""

        def last() -> dict[str, Any] | None:
            runs = self.of(attempt)
            return runs[number - 1] if len(runs) >= number and runs[number - 1]["status"] in ENDED else None

        return dict(wait_for(last, "the end of the run"))

    def worktree(self, attempt: dict[str, Any]) -> Path:
        def folder() -> str | None:
            return self.api("GET", f"/api/task-attempts/{attempt['id']}")["worktree"]

        return Path(wait_for(folder, "the worktree"))

    def done(self, script: str, title: str = "A task") -> tuple[str, dict[str, Any]]:
        """A task and its attempt whose run has ended."""
        task = self.task(title)
        attempt = self.start(task, script)
        self.ended(attempt)
        return task, attempt


@pytest.fixture(scope="module")
def profile(browser: Browser, server: LiveServer, signed_in: Any) -> Iterator[BrowserContext]:
    """One browser profile for the module: its cache spares each test the loading of all scripts."""
    context = browser.new_context(base_url=server.url, storage_state=signed_in, reduced_motion="reduce")
    yield context
    context.close()


@pytest.fixture(scope="class")
def page(profile: BrowserContext) -> Iterator[Page]:
    """One tab for the tests of a class. A script error on it fails the last of them."""
    page = profile.new_page()
    problems: list[str] = []
    page.set_default_timeout(PATIENCE)
    page.on("pageerror", lambda error: problems.append(f"{page.url}: {error}"))
    yield page
    page.evaluate("localStorage.clear()")
    page.close()
    assert not problems, "\n".join(problems)


@pytest.fixture(scope="module")
def runs(api: Api, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(api, tmp_path_factory.mktemp("gates"))


def open_task(page: Page, task: str, query: str = "") -> Page:
    """The page, as for the first time; as it is where the test before has left it there."""
    address = f"/tasks/{task}/{query}"
    if page.url.endswith(address):
        return page
    if page.url.startswith("http"):
        page.evaluate("localStorage.clear()")
    if page.url.partition("#")[0].endswith(address.partition("#")[0]):
        page.goto(RESTING)  # Another hash alone loads nothing.
    page.goto(address)
    page.locator("#line[data-state=live]").wait_for()
    return page


def line(page: Page, text: str) -> Any:
    return page.locator(
        ".log-line", has=page.locator(".log-text", has_text=re.compile(f"^{re.escape(text)}$"))
    )


def shown(page: Page) -> list[str]:
    return page.locator(".log-line:not(.is-continued) .log-text").all_inner_texts()


@pytest.fixture(scope="module")
def printed(runs: Runs) -> str:
    script = r"""
    printf 'plain <b>text</b>\n'
    printf '\033[1;31mred\033[0m and \033[38;5;208morange\033[0m\n'
    echo careful >&2
    printf 'Working 10%%'; sleep 0.4; printf '\rWorking 60%%'; sleep 0.4; printf '\rWorking 100%%\n'
    printf 'Name? '; sleep 0.4; printf 'Ada\n'
    exit 3
    """
    return runs.done(script, "Prints all sorts")[0]


class TestOutput:
    def test_lines_keep_their_colours_and_stderr_is_told_apart(self, page: Page, printed: str) -> None:
        open_task(page, printed, "?view=log")
        expect(line(page, "plain <b>text</b>")).to_be_visible()
        coloured = line(page, "red and orange")
        expect(coloured.locator(".ansi-fg-1.ansi-bold")).to_have_text("red")
        expect(coloured.locator(".ansi-fg-exact")).to_have_text("orange")
        expect(page.locator(".log-stderr .log-text")).to_have_text("careful")

    def test_a_progress_bar_is_one_line_and_a_prompt_is_joined(self, page: Page, printed: str) -> None:
        open_task(page, printed, "?view=log")
        expect(line(page, "Working 100%")).to_be_visible()
        assert [text for text in shown(page) if "Working" in text] == ["Working 100%"]
        expect(line(page, "Name? Ada")).to_be_visible()

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
        page.get_by_placeholder("Search the whole log").fill("line")
        page.keyboard.press("Enter")
        expect(page.locator(".log-hit")).to_have_count(1)
        wait_for(lambda: page.evaluate("vibe.page.log.search.drawing") == 0, "the last drawing")
        expect(page.locator(".log-summary")).to_contain_text("JSON")
        page.unroute("**/search?*")

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
        runs.open_gate("flood")
        expect(line(page, str(LINES))).to_be_in_viewport()
        looks = (
            "performance.getEntriesByType('resource').filter((one) => one.name.includes('first=-')).length"
        )
        assert page.evaluate(looks) > 1  # the first of them opened the page
        runs.open_gate("flooded")
        expect(line(page, "over")).to_be_in_viewport()
        page.evaluate("location.hash = '#L5000'")
        expect(page.locator(".log-line.is-chosen .log-text").last).to_have_text(re.compile(r"^\d{4}$"))
        runs.open_gate("over")

    def test_a_page_that_changes_during_a_flood_counts_no_line_twice(self, page: Page, runs: Runs) -> None:
        task = runs.task("Edited during a flood")
        attempt = runs.start(
            task, "echo begun; gate pour; seq 1 5000; gate more; seq 1 100; gate poured; echo over; gate end"
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
        runs.open_gate("more")
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
        runs.open_gate("end")


@pytest.fixture(scope="module")
def changed(runs: Runs) -> tuple[str, dict[str, Any]]:
    script = """
    echo "print('goodbye')" > src/app.py
    printf '# Test  \\n' > README.md
    i=0; while [ $i -lt 700 ]; do echo "return $i"; i=$((i+1)); done > big.py
    printf '\\000\\001' > data.bin
    """
    return runs.done(script, "Changed files")


class TestChanges:
    def test_changes_appear_and_move_nobody(self, page: Page, runs: Runs) -> None:
        task = runs.task("Changes files")
        script = """
        i=0; while [ $i -lt 120 ]; do echo "def f$i(): return $i"; i=$((i+1)); done > long.py
        rm README.md; git mv src/app.py src/main.py
        gate change
        { echo '# one'; echo '# two'; echo '# three'; cat long.py; } > new.py && mv new.py long.py
        echo 'a = 1' > a.py
        gate finish
        """
        runs.start(task, script)
        open_task(page, task, "?view=changes")
        expect(page.locator(".diff-tree-row[title='long.py'] .plus")).to_have_text("+120")
        # A list, as the file that is renamed may be seen deleted for a moment.
        expect(page.locator(".diff-file[data-change=deleted] .diff-name")).to_have_text(["README.md"])
        expect(page.locator(".diff-file[data-change=renamed] .diff-name")).to_have_text(
            "src/app.py → src/main.py"
        )
        target = page.locator(".diff-line", has_text="def f90(): return 90")
        target.scroll_into_view_if_needed()
        expect(target.locator(".hl-keyword").first).to_have_text("def")
        target.evaluate("(row) => { row.mine = true }")
        top = target.bounding_box()
        runs.open_gate("change")
        expect(page.locator(".diff-tree-row[title='long.py'] .plus")).to_have_text("+123")
        expect(page.locator(".diff-tree-row[title='a.py']")).to_be_visible()
        page.wait_for_timeout(200)
        after = target.bounding_box()
        assert top and after and abs(top["y"] - after["y"]) < 2
        assert target.evaluate("(row) => row.mine"), "the row was made anew"
        expect(target.locator(".diff-number").nth(1)).to_have_text("94")
        runs.open_gate("finish")

    def test_side_by_side_blanks_large_and_binary(self, page: Page, changed: tuple[str, Any]) -> None:
        open_task(page, changed[0], "?view=changes")
        file = page.locator(".diff-file", has_text="src/app.py")
        expect(file.locator(".diff-line.is-del")).to_have_text(re.compile("hello"))
        expect(file.locator(".diff-line.is-add .diff-mark")).to_have_text("goodbye")
        expect(page.locator(".diff-file", has_text="big.py")).to_contain_text("A large change: 700 lines")
        expect(page.locator(".diff-file", has_text="data.bin")).to_contain_text("binary")
        page.keyboard.press("w")
        expect(page.locator(".diff-file", has_text="README.md")).to_contain_text("Only blanks changed")
        page.keyboard.press("u")
        expect(file.locator(".diff-table.is-split .diff-code.is-add")).to_contain_text("goodbye")
        big = page.locator(".diff-file", has_text="big.py")
        big.get_by_role("button", name="Show it").click()
        # Nothing stands beside what is all new.
        expect(big.locator(".diff-table")).not_to_have_class(re.compile("is-split"))
        expect(big.locator(".diff-code .hl-keyword").first).to_have_text("return")

    def test_what_changes_after_it_was_viewed_is_to_be_viewed_again(self, page: Page, runs: Runs) -> None:
        task, attempt = runs.done("echo one >> README.md", "Viewed files")
        open_task(page, task, "?view=changes")
        viewed = page.get_by_role("checkbox", name="Viewed")
        viewed.check()
        page.reload()
        expect(viewed).to_be_checked()
        readme = Path(attempt["worktree"], "README.md")
        readme.write_text(readme.read_text().replace("one", "two"))
        expect(viewed).not_to_be_checked()

    def test_of_many_files_those_near_the_eye_are_drawn(self, page: Page, runs: Runs) -> None:
        files = scaled(2000, 100)
        script = f"n=0; while [ $n -lt {files} ]; do printf '1\\n2\\n3\\n%s\\n' $n > f$n; n=$((n+1)); done"
        task, _ = runs.done(script, "Many files")
        open_task(page, task, "?view=changes")
        expect(page.locator(".diff-summary strong")).to_have_text(f"{files:,} files")
        for end in ("last", "first"):
            getattr(page.locator("a.diff-tree-row"), end).click()
            expect(getattr(page.locator(".diff-file"), end).locator(".diff-line")).to_have_count(4)
        left = page.locator(".diff-file").last
        expect(left.locator(".diff-line")).to_have_count(0)
        assert left.locator(".diff-file-body").evaluate("(body) => parseFloat(body.style.minHeight)") > 80
        assert page.locator(".diff-line").count() < 200

    def test_a_file_has_an_address(self, page: Page, changed: tuple[str, Any]) -> None:
        open_task(page, changed[0], "#file=src%2Fapp.py")
        expect(page.locator(".diff-tree-row[title='src/app.py']")).to_have_attribute("aria-current", "true")

    def test_comments_go_to_the_agent_with_the_next_follow_up(
        self, page: Page, runs: Runs, changed: tuple[str, dict[str, Any]]
    ) -> None:
        task, attempt = changed
        open_task(page, task, "?view=changes#file=src%2Fapp.py")
        row = page.locator(".diff-file", has_text="src/app.py").locator(".diff-line.is-add")
        row.locator(".diff-number").nth(1).click()
        page.keyboard.type("Say hello again.")
        page.keyboard.press("Control+Enter")
        expect(page.locator(".diff-comment-text")).to_have_text("Say hello again.")
        page.reload()
        expect(page.locator(".diff-comment-text")).to_have_text("Say hello again.")
        page.get_by_role("textbox", name="Follow-up").fill("Nearly.")
        page.get_by_role("button", name="Send 1 comment").click()
        expect(page.locator(".run", has_text="Follow-up 1")).to_be_visible()
        prompt = runs.ended(attempt, 2)["prompt"]
        assert prompt.startswith("Nearly.") and "print('goodbye')" in prompt and "Say hello again." in prompt
        assert "src/app.py, line 1" in prompt
        page.keyboard.press("2")
        expect(page.locator(".diff-comment-text")).to_have_count(0)
        open_task(page, task, f"?run={runs.of(attempt)[0]['id']}&view=log")
        expect(page.locator(".run[aria-current=true]")).to_contain_text("Agent")

    def test_each_comment_belongs_to_the_line_it_is_written_under(self, page: Page, runs: Runs) -> None:
        task = runs.task("Commented")
        attempt = runs.start(task, "printf 'one\\ntwo\\nthree\\n' > new.txt; gate commented")
        file = runs.worktree(attempt) / "new.txt"
        open_task(page, task, "?view=changes")
        numbers = page.locator(".diff-line.is-add .diff-number:nth-child(2)")
        numbers.nth(0).click()
        page.keyboard.type("of the first")
        numbers.nth(2).click()
        page.keyboard.type("of the third")
        page.keyboard.press("Control+Enter")
        under = ".diff-line:has-text('{}') + .diff-comment .diff-comment-text"
        expect(page.locator(under.format("one"))).to_have_text("of the first")
        expect(page.locator(under.format("three"))).to_have_text("of the third")
        numbers.nth(1).click()
        page.keyboard.type("half a thou")
        page.locator(".diff-comment-box").first.get_by_role("button", name="Edit").click()
        page.keyboard.type("Really ")
        numbers.nth(1).click()
        expect(page.locator(under.format("two"))).to_have_text("half a thou")
        page.keyboard.type("and another half")
        text = file.read_text()
        file.unlink()
        expect(page.locator(".diff-file")).to_have_count(0)
        file.write_text(text)
        expect(page.locator(".diff-editor textarea")).to_have_value("and another half")
        runs.open_gate("commented")


@pytest.fixture(scope="module")
def talkers(server: LiveServer) -> None:
    """Executors that say what is in a sample."""
    for sample in ("codex", "gemini"):
        said = str(SAMPLES / f"{sample}.jsonl")
        server.manage("executor", "--format", sample, f"{sample}-talker", "--", "cat", said)


@pytest.mark.usefixtures("talkers")
class TestConversation:
    @pytest.fixture
    def talk(self, runs: Runs) -> str:
        return self.said(runs, "gemini")

    def said(self, runs: Runs, sample: str) -> str:
        """A task whose agent said what is in this sample."""
        task = runs.task("Talks")
        body = {"task_id": task, "executor": f"{sample}-talker", "prompt": "Say hello."}
        runs.ended(runs.api("POST", "/api/task-attempts", body))
        return task

    def test_a_failed_turn_is_told_once(self, page: Page, runs: Runs) -> None:
        open_task(page, self.said(runs, "codex"), "?view=conversation")
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


class TestFollowUps:
    def test_one_is_queued_changed_and_taken_back(self, page: Page, runs: Runs) -> None:
        task = runs.task("Works for a while")
        attempt = runs.start(task, "echo working; gate done")
        open_task(page, task)
        expect(line(page, "working")).to_be_visible()
        page.keyboard.press("f")
        page.keyboard.type("echo later")
        expect(page.locator(".composer").get_by_role("button", name="Queue")).to_be_visible()
        page.keyboard.press("Control+Enter")
        queued = page.locator(".composer-queued")
        expect(queued.locator(".composer-prompt")).to_have_text("echo later")
        queued.get_by_role("button", name="Edit").click()
        page.get_by_label("The queued follow-up").fill("echo much later")
        queued.get_by_role("button", name="Save").click()
        expect(queued.locator(".composer-prompt")).to_have_text("echo much later")
        queued.get_by_role("button", name="Take back").click()
        expect(page.get_by_role("textbox", name="Follow-up")).to_have_value("echo much later")
        page.keyboard.press("Control+Enter")
        expect(queued).to_be_visible()
        runs.open_gate("done")
        expect(line(page, "much later")).to_be_visible()
        assert runs.ended(attempt, 2)["status"] == "completed"
        page.get_by_role("tab", name="History").click()
        expect(page.locator("#history")).to_contain_text(
            "took back the agent of attempt #1: “echo much later”"
        )

    def test_words_written_while_others_are_sent_stay_where_they_are(self, page: Page, runs: Runs) -> None:
        task, first = runs.done("echo > one.txt", "Sent slowly")
        runs.ended(runs.start(task, "echo > two.txt"))
        open_task(page, task, f"?attempt={first['id']}&view=changes")
        field = page.get_by_role("textbox", name="Follow-up")
        held: list[Route] = []
        page.route("**/follow-up", lambda route: held.append(route))
        field.fill("echo again")
        page.keyboard.press("Control+Enter")
        wait_for(lambda: page.evaluate("1") and held, "the words on their way")
        field.press_sequentially(" and then more")
        page.locator(".attempt").first.click()
        field.fill("for another attempt")
        page.locator(".diff-file", has_text="two.txt").locator(".diff-number").last.click()
        page.keyboard.type("on another attempt")
        page.keyboard.press("Control+Enter")
        page.unroute("**/follow-up")  # which lets the held one go on
        assert runs.ended(first, 2)["prompt"] == "echo again"
        expect(page.locator("#announcer")).to_have_text("Sent")
        expect(field).to_have_value("for another attempt")
        expect(page.locator(".diff-comment-text")).to_have_text("on another attempt")
        page.locator(".attempt").last.click()
        expect(field).to_have_value("and then more")

    def test_a_change_to_what_has_begun_meanwhile_is_not_lost(self, page: Page, runs: Runs) -> None:
        task = runs.task("Begins while it is changed")
        attempt = runs.start(task, "echo working; gate begin")
        runs.worktree(attempt)
        runs.api("POST", f"/api/task-attempts/{attempt['id']}/follow-up", {"prompt": "echo as it was"})
        open_task(page, task)
        page.locator(".composer-queued").get_by_role("button", name="Edit").click()
        page.get_by_label("The queued follow-up").fill("echo as it should be")
        runs.open_gate("begin")
        expect(line(page, "as it was")).to_be_visible()
        expect(page.get_by_role("textbox", name="Follow-up")).to_have_value("echo as it should be")

    def test_what_was_taken_back_does_not_come_back_with_a_late_answer(self, page: Page, runs: Runs) -> None:
        task = runs.task("Changed and taken back")
        attempt = runs.start(task, "gate late")
        queued = runs.api("POST", f"/api/task-attempts/{attempt['id']}/follow-up", {"prompt": "echo never"})
        open_task(page, task)
        late: list[tuple[Route, Any]] = []
        page.route("**/api/processes/*", lambda route: late.append((route, route.fetch())))
        row = page.locator(".composer-queued")
        row.get_by_role("button", name="Edit").click()
        page.get_by_label("The queued follow-up").fill("echo changed")
        page.get_by_role("button", name="Save").click()
        wait_for(lambda: page.evaluate("1") and late, "an answer that is slow")
        runs.api("DELETE", f"/api/processes/{queued['id']}")
        expect(row).to_have_count(0)
        with page.expect_response("**/api/processes/*"):
            late[0][0].fulfill(response=late[0][1])
        page.unroute_all()
        runs.api("PATCH", f"/api/tasks/{task}", {"title": "Goes on"})
        expect(page.get_by_role("heading", name="Goes on")).to_be_visible()
        expect(row).to_have_count(0)
        runs.open_gate("late")


class TestFinish:
    def test_a_merge_ends_the_task(self, page: Page, runs: Runs) -> None:
        task, _ = runs.done("echo merged > merged.txt", "To merge")
        open_task(page, task)
        expect(page.locator(".diff-file .diff-name")).to_have_text("merged.txt")
        page.keyboard.press("m")
        page.get_by_role("dialog").get_by_role("button", name="Merge").click()
        expect(page.locator("#attempt-notices")).to_contain_text("Merged into main")
        expect(page.locator("#status")).to_have_value("done")
        expect(page.locator("#composer")).to_be_hidden()

    def test_a_program_of_the_repository_that_takes_long_is_told_of(self, page: Page, runs: Runs) -> None:
        task, attempt = runs.done("echo '*.slow filter=slow' > .gitattributes; echo slow > a.slow", "Slow")
        open_task(page, task)
        expect(page.locator(".diff-file .diff-name")).to_have_count(2)
        slow = f'while [ ! -e "{runs.folder}/filtered" ]; do sleep 0.05; done; cat'
        git(runs.worktree(attempt), "config", "filter.slow.clean", slow)
        page.locator("#merge").click()
        page.get_by_role("dialog").get_by_role("button", name="Merge").click()
        expect(page.locator("#attempt-notices")).to_contain_text("Git is still at work")
        runs.open_gate("filtered")
        expect(page.locator("#attempt-notices")).to_contain_text("Merged into main")
        expect(page.locator("#attempt-notices")).not_to_contain_text("still at work")

    def test_conflicts_are_listed(self, page: Page, runs: Runs) -> None:
        _, first = runs.done("echo one > clash.txt", "The first")
        task, _ = runs.done("echo other > clash.txt", "The second")
        runs.api("POST", f"/api/task-attempts/{first['id']}/merge")
        open_task(page, task)
        page.locator("#merge").click()
        page.get_by_role("dialog").get_by_role("button", name="Merge").click()
        expect(page.locator("#attempt-notices .notice-red")).to_contain_text("clash.txt")
        expect(page.locator("#composer")).to_be_visible()

    def test_what_git_cannot_say_of_the_branch_is_told(self, page: Page, runs: Runs) -> None:
        task, attempt = runs.done("echo mine > mine.txt", "Damaged")
        worktree = runs.worktree(attempt)
        main = git(worktree, "rev-parse", "main").strip()
        commit = runs.folder / "commit"
        person = "A <a@example.com> 1000000000 +0000"
        missing = "1" * 40
        commit.write_text(f"tree {missing}\nparent {main}\nauthor {person}\ncommitter {person}\n\nDamaged\n")
        damaged = git(worktree, "hash-object", "-t", "commit", "-w", str(commit)).strip()
        git(worktree, "update-ref", "refs/heads/main", damaged)
        try:
            open_task(page, task)
            expect(page.locator("#attempt-notices")).to_contain_text(f"Could not read {missing}")
            expect(page.locator("#distance")).not_to_contain_text("up to date")
        finally:
            git(worktree, "update-ref", "refs/heads/main", main)
        expect(page.locator("#attempt-notices")).not_to_contain_text("Could not read")

    def test_a_discard_says_where_the_work_is_kept(self, page: Page, runs: Runs) -> None:
        task, attempt = runs.done("echo kept > kept.txt", "To discard")
        open_task(page, task)
        page.locator("#attempt-menu summary").click()
        page.locator("#discard").click()
        page.get_by_role("dialog").get_by_role("button", name="Discard").click()
        kept = wait_for(
            lambda: runs.api("GET", f"/api/task-attempts/{attempt['id']}")["kept_ref"], "the kept work"
        )
        expect(page.locator("#attempt-notices")).to_contain_text(kept)

    def test_an_answer_for_one_attempt_is_not_told_of_another(self, page: Page, runs: Runs) -> None:
        _, clash = runs.done("echo one > same.txt", "Merged before")
        task, first = runs.done("echo other > same.txt", "Tried again")
        second = runs.start(task, "echo > fine.txt")
        runs.ended(second)
        runs.api("POST", f"/api/task-attempts/{clash['id']}/merge")
        open_task(page, task, f"?attempt={first['id']}")
        held: list[Route] = []
        page.route("**/merge", lambda route: held.append(route))
        page.locator("#merge").click()
        page.get_by_role("dialog").get_by_role("button", name="Merge").click()
        wait_for(lambda: page.evaluate("1") and held, "the merge on its way")
        page.locator(".attempt").first.click()
        page.unroute("**/merge")  # which lets the held one go on
        expect(page.locator(".toast-error")).to_contain_text("change the same places")
        expect(page.locator("#attempt-notices")).not_to_contain_text("same.txt")
        page.locator("#attempt-menu summary").click()
        page.locator("#discard").click()
        gone = {"op": "remove", "path": f"/task_attempts/{second['id']}"}
        page.evaluate("(change) => vibe.page.document.apply(change)", gone)
        expect(page.locator("#branch")).to_have_text(first["branch"])
        page.get_by_role("dialog").get_by_role("button", name="Discard").click()
        expect(page.locator("#announcer")).to_have_text("Discarded")
        outcomes = {
            one["id"]: one["outcome"] for one in runs.api("GET", f"/api/task-attempts?task_id={task}")
        }
        assert outcomes == {first["id"]: "open", second["id"]: "discarded"}

    def test_how_a_branch_stands_is_never_what_it_was(self, page: Page, runs: Runs) -> None:
        task = runs.task("Stands otherwise")
        attempt = runs.start(task, "gate commit; git commit -q --allow-empty -m more; gate end")
        runs.worktree(attempt)
        old: list[tuple[Route, Any]] = []
        page.route("**/api/task-attempts/*/status", lambda route: old.append((route, route.fetch())))
        open_task(page, task, f"?attempt={attempt['id']}")
        wait_for(lambda: page.evaluate("1") and old, "an answer that is slow")
        runs.open_gate("commit")
        expect(page.locator("#distance")).to_have_text("1 ahead")
        with page.expect_response("**/status"):
            old[0][0].fulfill(response=old[0][1])
        page.unroute_all()
        runs.open_gate("end")
        runs.ended(attempt)
        expect(page.locator("#stop")).to_be_hidden()
        expect(page.locator("#distance")).to_have_text("1 ahead")

    def test_a_key_that_is_still_held_confirms_nothing(self, page: Page, runs: Runs) -> None:
        task, _ = runs.done("echo held > held.txt", "Held")
        open_task(page, task)
        page.locator("#merge").focus()
        for _ in range(3):
            page.keyboard.down("Enter")
        expect(page.get_by_role("dialog")).to_be_visible()
        page.keyboard.up("Enter")
        page.keyboard.press("Escape")
        expect(page.locator("#merge")).to_be_visible()


class TestTask:
    def test_markdown_is_rendered_and_harmless(self, page: Page, runs: Runs) -> None:
        text = "**bold** <img src=x onerror=alert(1)> [bad](javascript:alert(1))\n\n```python\nreturn 1\n```"
        task = runs.task("Described", description=text)
        open_task(page, task)
        prose = page.locator("#description")
        expect(prose.locator("strong")).to_have_text("bold")
        expect(prose.locator(".hl-keyword")).to_have_text("return")
        assert prose.locator("img, a").count() == 0
        runs.api("PATCH", f"/api/tasks/{task}", {"description": "now *this*", "title": "Renamed"})
        expect(prose.locator("em")).to_have_text("this")
        expect(page.get_by_role("heading", name="Renamed")).to_be_visible()

    def test_an_edit_over_anothers_edit_is_not_lost(self, page: Page, runs: Runs) -> None:
        task = runs.task("Mine", description="before")
        open_task(page, task)
        page.keyboard.press("e")
        page.get_by_label("Description (Markdown)").fill("my words")
        runs.api("PATCH", f"/api/tasks/{task}", {"description": "their words"})
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_role("alert").filter(has_text="their words")).to_be_visible()
        page.get_by_role("button", name="Save mine over it").click()
        expect(page.locator("#description")).to_have_text("my words")

    def test_an_edit_that_the_page_has_not_heard_of_is_shown(self, page: Page, runs: Runs) -> None:
        task = runs.task("Mine", description="before")
        open_task(page, task)
        page.evaluate("vibe.page.document.manager.close()")
        runs.api("PATCH", f"/api/tasks/{task}", {"description": "their words", "title": "Theirs"})
        page.keyboard.press("e")
        page.get_by_label("Description (Markdown)").fill("my words")
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_role("alert").filter(has_text="their words")).to_be_visible()
        page.get_by_role("button", name="Save mine over it").click()
        expect(page.locator("#description")).to_have_text("my words")
        expect(page.get_by_role("heading", name="Theirs")).to_be_visible()

    def test_a_description_that_could_not_be_drawn_is_asked_for_again(self, page: Page, runs: Runs) -> None:
        task = runs.task("Described", description="before")
        open_task(page, task)
        refused: list[Route] = []
        page.route("**/description/", lambda route: (refused.append(route), route.fulfill(status=503)))
        runs.api("PATCH", f"/api/tasks/{task}", {"description": "after"})
        wait_for(lambda: page.evaluate("1") and refused, "a question")
        page.unroute("**/description/")
        expect(page.locator("#description")).to_have_text("after")

    def test_a_key_of_an_input_method_is_no_order(self, page: Page, runs: Runs) -> None:
        open_task(page, runs.task("Written"))
        page.keyboard.press("e")
        title = page.get_by_label("Title")
        title.fill("")
        browser = page.context.new_cdp_session(page)
        browser.send("Input.imeSetComposition", {"text": "かな", "selectionStart": 2, "selectionEnd": 2})
        for key in ("Enter", "Escape"):
            browser.send("Input.dispatchKeyEvent", {"type": "rawKeyDown", "key": key, "code": key})
        expect(title).to_be_focused()
        expect(title).to_have_value("かな")
        browser.send("Input.insertText", {"text": "仮名"})
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="仮名")).to_be_visible()

    def test_the_window_is_called_as_the_task_is(self, page: Page, runs: Runs) -> None:
        task = runs.task("As it was")
        open_task(page, task)
        runs.api("PATCH", f"/api/tasks/{task}", {"title": "As it is"})
        expect(page).to_have_title("As it is · Vibe")
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        expect(page).to_have_title("As it is · Vibe")

    def test_a_prompt_stays_when_somebody_else_starts_first(self, page: Page, runs: Runs) -> None:
        task = runs.task("Begun by two")
        open_task(page, task)
        page.get_by_label("Prompt").fill("my own words")
        runs.ended(runs.start(task, "echo theirs"))
        expect(line(page, "theirs")).to_be_visible()
        page.keyboard.press("s")
        expect(page.get_by_role("dialog").get_by_label("Prompt")).to_have_value("my own words")

    def test_an_older_history_does_not_replace_a_newer_one(self, page: Page, runs: Runs) -> None:
        task = runs.task("Told late")
        open_task(page, task)
        late: list[tuple[Route, Any]] = []

        def first_late(route: Route) -> None:
            if late:
                route.continue_()
            else:
                late.append((route, route.fetch()))

        page.route("**/history/", first_late)
        page.keyboard.press("4")
        wait_for(lambda: page.evaluate("1") and late, "an answer that is slow")
        runs.api("PATCH", f"/api/tasks/{task}", {"title": "Told at once"})
        expect(page.locator("#history")).to_contain_text("Told at once")
        with page.expect_response("**/history/"):
            late[0][0].fulfill(response=late[0][1])
        page.evaluate("new Promise(requestAnimationFrame)")
        expect(page.locator("#history")).to_contain_text("Told at once")
        page.unroute_all()

    def test_an_attempt_is_started_from_the_page(self, page: Page, runs: Runs) -> None:
        task = runs.task("Not begun")
        open_task(page, task)
        page.keyboard.press("s")
        page.get_by_label("Agent", exact=True).select_option("script")
        page.get_by_label("Prompt").fill("echo from the page")
        page.keyboard.press("Control+Enter")
        expect(line(page, "from the page")).to_be_visible()
        expect(page.locator("#status")).to_have_value("inreview")
        page.keyboard.press("4")
        expect(page.locator(".history-entry").first).to_be_visible()
        expect(page.locator("#history")).to_contain_text("to In review")

    def test_a_refused_start_says_why(self, page: Page, runs: Runs) -> None:
        open_task(page, runs.task("Badly begun"))
        page.get_by_label("Starts from, merges into").fill("no-such-branch")
        page.get_by_role("button", name="Start").click()
        expect(page.get_by_role("alert").filter(has_text="no-such-branch")).to_be_visible()

    def test_two_attempts_side_by_side(self, page: Page, runs: Runs) -> None:
        task, _ = runs.done("echo a > a.txt", "Tried twice")
        runs.ended(runs.start(task, "echo b > b.txt"))
        open_task(page, task)
        expect(page.locator(".attempt")).to_have_count(2)
        page.get_by_role("link", name="Compare").click()
        expect(page.locator("#diff-a .diff-name")).to_have_text("a.txt")
        expect(page.locator("#diff-b .diff-name")).to_have_text("b.txt")
        expect(page.locator("#files tbody tr")).to_have_count(2)

    def test_a_copy_that_a_change_does_not_fit_starts_over(self, page: Page, runs: Runs) -> None:
        task = runs.task("True")
        open_task(page, task)
        page.evaluate("vibe.page.document.task.title = 'Untrue'")
        change = {"op": "replace", "path": f"/tasks/{task}/nothing", "value": 1}
        page.evaluate("(change) => vibe.page.document.apply(change)", change)
        wait_for(lambda: page.evaluate("vibe.page.document.task.title") == "True", "the whole state")
        runs.api("PATCH", f"/api/tasks/{task}", {"title": "Still followed"})
        expect(page.get_by_role("heading", name="Still followed")).to_be_visible()

    def test_a_deleted_task_is_said_to_be_gone(self, page: Page, runs: Runs) -> None:
        task = runs.task("Short-lived")
        open_task(page, task)
        runs.api("DELETE", f"/api/tasks/{task}")
        expect(page.locator("#task-notices")).to_contain_text("deleted")

    def test_axe_finds_no_violation(self, page: Page, printed: str, changed: tuple[str, Any]) -> None:
        page.emulate_media(color_scheme="light")
        open_task(page, printed, "?view=log")
        expect(line(page, "careful")).to_be_visible()
        check(page, "output, light")
        page.emulate_media(color_scheme="dark")
        page.keyboard.press("s")
        expect(page.get_by_role("dialog")).to_be_visible()
        check(page, "start, dark")
        open_task(page, changed[0], "?view=changes#file=src%2Fapp.py")
        row = page.locator(".diff-file", has_text="src/app.py").locator(".diff-line.is-add")
        expect(row.locator(".hl-string.diff-mark")).to_be_visible()
        row.locator(".diff-number").nth(1).click()
        check(page, "changes, dark", runOnly=["color-contrast"])
        page.emulate_media(color_scheme="light")
        check(page, "changes, light")

    def test_it_fits_a_phone(self, open_context: Callable[..., Any], runs: Runs) -> None:
        task, _ = runs.done("echo on a phone; echo x > phone.txt", "On a phone")
        page = open_context(**PHONE).new_page()
        for view, there in (("task", ".attempt"), ("log", ".log-line"), ("changes", ".diff-file")):
            open_task(page, task, f"?view={view}")
            expect(page.locator(there).first).to_be_visible()
            check_phone(page, view)

    def test_it_is_whole_after_the_server_was_killed(
        self, page: Page, runs: Runs, server: LiveServer
    ) -> None:
        task = runs.task("Outlives the server")
        attempt = runs.start(task, "seq 1 50; gate back; seq 51 100")
        open_task(page, task)
        expect(line(page, "50")).to_be_visible()
        server.kill()
        runs.open_gate("back")
        expect(page.locator("#line")).to_have_attribute("data-state", re.compile("reconnecting|offline"))
        server.start()
        expect(line(page, "100")).to_be_visible()
        numbers = page.locator(".log-line:not(.log-system) .log-text").all_inner_texts()
        assert numbers == [str(n) for n in range(101 - len(numbers), 101)]
        assert runs.ended(attempt)["status"] == "completed"
        expect(page.locator(".attempt .run-state")).to_have_text("To review")
