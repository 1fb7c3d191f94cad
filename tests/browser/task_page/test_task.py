"""The task itself, what it is told next, and how an attempt at it ends."""

import re
from typing import Any, NamedTuple

import pytest
from playwright.sync_api import BrowserContext, Page, Route, expect

from tasks import worktrees
from tests.browser.conftest import RESTING, LateAnswer, check, check_phone, leave_dialog, on_a_phone, stay
from tests.browser.task_page.conftest import Runs, line, open_task
from tests.live import LiveServer
from tests.needs import needs_chromium
from tests.repositories import git
from tests.runs import wait_for

pytestmark = needs_chromium


class Tried(NamedTuple):
    task: str
    first: dict[str, Any]


@pytest.fixture(scope="module")
def tried(runs: Runs) -> Tried:
    """A task with two attempts that have ended: one small, and one that printed and changed all sorts, and failed."""
    task, first = runs.done("echo > one.txt", "Tried twice")
    script = r"""
    printf '\033[1;31mred\033[0m and \033[38;5;208morange\033[0m\n'
    echo careful >&2
    echo "print('goodbye')" > src/app.py
    printf '# Test  \n' > README.md
    seq 700 > big.py
    printf '\000\001' > data.bin
    exit 3
    """
    runs.ended(runs.start(task, script))
    return Tried(task, first)


@pytest.fixture(scope="module")
def untried(runs: Runs) -> str:
    """A task without attempts."""
    return runs.task("Untried", description="before")


@pytest.fixture
def untouched(page: Page, runs: Runs, untried: str) -> Page:
    """The page of that task as it was in the beginning; it is loaded anew only where a test has left it."""
    runs.api("PATCH", f"/api/tasks/{untried}", {"title": "Untried", "description": "before"})
    if f"/tasks/{untried}/" not in page.url:
        open_task(page, untried)
    expect(page.get_by_role("heading", name="Untried", exact=True)).to_be_visible()
    expect(page.locator("#description")).to_have_text("before")
    return page


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
        stay(page)
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

    def test_words_written_while_others_are_sent_stay_where_they_are(
        self, page: Page, runs: Runs, tried: Tried
    ) -> None:
        first = tried.first
        open_task(page, tried.task, f"?attempt={first['id']}&view=changes")
        field = page.get_by_role("textbox", name="Follow-up")
        held: list[Route] = []
        page.route("**/follow-up", lambda route: held.append(route))
        field.fill("echo again")
        page.keyboard.press("Control+Enter")
        wait_for(lambda: page.evaluate("1") and held, "the words on their way")
        field.press_sequentially(" and then more")
        page.locator(".attempt").first.click()
        field.fill("for another attempt")
        page.locator(".diff-file", has_text="src/app.py").locator(".diff-number").last.click()
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
        late = LateAnswer(page, "**/api/processes/*")
        row = page.locator(".composer-queued")
        row.get_by_role("button", name="Edit").click()
        page.get_by_label("The queued follow-up").fill("echo changed")
        page.get_by_role("button", name="Save").click()
        late.wait()
        runs.api("DELETE", f"/api/processes/{queued['id']}")
        expect(row).to_have_count(0)
        with page.expect_response("**/api/processes/*"):
            late.arrives()
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
        task, _ = runs.done("echo other > clash.txt", "The second")
        runs.commit_to_main("clash.txt", "one\n")
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

    def test_a_worktree_deleted_by_hand_is_told_once_and_fails_what_follows(
        self, page: Page, runs: Runs
    ) -> None:
        task, attempt = runs.done("echo lost > lost.txt", "Deleted")
        open_task(page, task)
        expect(page.locator("#distance")).to_have_text("uncommitted")
        worktrees.delete_folder(runs.worktree(attempt))
        expect(page.locator("#distance")).to_have_text("")
        page.get_by_role("tab", name="Output").click()
        gone = page.locator("#attempt-notices .notice").filter(has_text="is gone: somebody deleted it")
        expect(gone).to_have_count(1)
        page.get_by_role("textbox", name="Follow-up").fill("echo more")
        page.keyboard.press("Control+Enter")
        expect(page.locator(".log-line", has_text="is gone: somebody deleted it")).to_be_visible()
        assert runs.ended(attempt, 2)["status"] == "failed"

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
        task, first = runs.done("echo other > same.txt", "Tried again")
        second = runs.start(task, "echo > fine.txt")
        runs.ended(second)
        runs.commit_to_main("same.txt", "one\n")
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
        task, attempt = runs.done("true", "Stands otherwise")
        old = LateAnswer(page, "**/api/task-attempts/*/status")
        open_task(page, task)
        expect(page.locator("#distance")).to_have_text("up to date")
        runs.commit_to_main("meanwhile.txt", "x")
        page.locator("#attempt-menu > summary").click()
        page.locator("#rebase").click()
        old.wait()
        git(runs.worktree(attempt), "commit", "-q", "--allow-empty", "-m", "more")
        expect(page.locator("#distance")).to_have_text("1 ahead")
        with page.expect_response("**/status"):
            old.arrives()
        page.unroute_all()
        runs.api("PATCH", f"/api/tasks/{task}", {"title": "Drawn anew"})
        expect(page.get_by_role("heading", name="Drawn anew")).to_be_visible()
        expect(page.locator("#distance")).to_have_text("1 ahead")

    def test_merge_and_its_ways_are_one_button(self, page: Page, tried: Tried) -> None:
        open_task(page, tried.task)
        expect(page.get_by_role("button", name="Merge", exact=True)).to_be_visible()
        heights = page.locator("#merge-group .button").evaluate_all(
            "(all) => all.map((one) => one.offsetHeight)"
        )
        assert heights[0] == heights[1]

    def test_a_key_that_is_still_held_confirms_nothing(self, page: Page, tried: Tried) -> None:
        open_task(page, tried.task)
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

    def test_an_edit_over_anothers_edit_is_not_lost(self, untouched: Page, runs: Runs, untried: str) -> None:
        page = untouched
        page.keyboard.press("e")
        page.get_by_label("Description (Markdown)").fill("my words")
        stay(page)
        page.keyboard.press("Escape")
        expect(page.get_by_role("alert").filter(has_text="Save it, or press Cancel")).to_be_visible()
        runs.api("PATCH", f"/api/tasks/{untried}", {"description": "their words"})
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_role("alert").filter(has_text="their words")).to_be_visible()
        page.get_by_role("button", name="Save mine over it").click()
        expect(page.locator("#description")).to_have_text("my words")

    def test_the_first_prompt_is_what_the_task_says_now(
        self, untouched: Page, runs: Runs, untried: str
    ) -> None:
        prompt = untouched.get_by_label("Prompt")
        expect(prompt).to_have_value("Untried\n\nbefore")
        runs.api("PATCH", f"/api/tasks/{untried}", {"description": "one\r\ntwo"})
        expect(prompt).to_have_value("Untried\n\none\ntwo")
        prompt.fill("my own words")
        runs.api("PATCH", f"/api/tasks/{untried}", {"description": "after"})
        expect(untouched.locator("#description")).to_have_text("after")
        expect(prompt).to_have_value("my own words")
        untouched.goto(RESTING)

    def test_a_page_that_is_come_back_to_shows_the_status_as_it_is(self, page: Page, runs: Runs) -> None:
        task = runs.task("Moved meanwhile")
        open_task(page, task)
        page.locator("#status").select_option("done")
        expect(page.locator("#status-ring")).to_have_attribute("data-status", "done")
        page.goto(RESTING)
        runs.api("PATCH", f"/api/tasks/{task}", {"status": "cancelled"})
        page.go_back()
        page.locator("#line[data-state=live]").wait_for()
        expect(page.locator("#status")).to_have_value("cancelled")

    def test_a_description_that_could_not_be_drawn_is_asked_for_again(
        self, untouched: Page, runs: Runs, untried: str
    ) -> None:
        page = untouched
        refused: list[Route] = []
        page.route("**/description/", lambda route: (refused.append(route), route.fulfill(status=503)))
        runs.api("PATCH", f"/api/tasks/{untried}", {"description": "after"})
        wait_for(lambda: page.evaluate("1") and refused, "a question")
        page.unroute("**/description/")
        expect(page.locator("#description")).to_have_text("after")

    def test_a_key_of_an_input_method_is_no_order(self, untouched: Page) -> None:
        page = untouched
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
        browser.detach()

    def test_the_window_is_called_as_the_task_is(self, untouched: Page, runs: Runs, untried: str) -> None:
        page = untouched
        runs.api("PATCH", f"/api/tasks/{untried}", {"title": "As it is"})
        expect(page).to_have_title("As it is · Vibe")
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        expect(page).to_have_title("As it is · Vibe")

    def test_an_older_history_does_not_replace_a_newer_one(
        self, untouched: Page, runs: Runs, untried: str
    ) -> None:
        page = untouched
        late = LateAnswer(page, "**/history/")
        page.keyboard.press("4")
        late.wait()
        runs.api("PATCH", f"/api/tasks/{untried}", {"title": "Told at once"})
        expect(page.locator("#history")).to_contain_text("Told at once")
        with page.expect_response("**/history/"):
            late.arrives()
        page.evaluate("new Promise(requestAnimationFrame)")
        expect(page.locator("#history")).to_contain_text("Told at once")
        page.unroute_all()
        page.keyboard.press("1")

    def test_a_copy_that_a_change_does_not_fit_starts_over(
        self, untouched: Page, runs: Runs, untried: str
    ) -> None:
        page = untouched
        page.evaluate("vibe.page.document.task.title = 'Untrue'")
        change = {"op": "replace", "path": f"/tasks/{untried}/nothing", "value": 1}
        page.evaluate("(change) => vibe.page.document.apply(change)", change)
        wait_for(lambda: page.evaluate("vibe.page.document.task.title") == "Untried", "the whole state")
        runs.api("PATCH", f"/api/tasks/{untried}", {"title": "Still followed"})
        expect(page.get_by_role("heading", name="Still followed")).to_be_visible()

    def test_an_edit_that_the_page_has_not_heard_of_is_shown(
        self, untouched: Page, runs: Runs, untried: str
    ) -> None:
        page = untouched
        page.evaluate("vibe.page.document.manager.close()")
        runs.api("PATCH", f"/api/tasks/{untried}", {"description": "their words", "title": "Theirs"})
        page.keyboard.press("e")
        page.get_by_label("Description (Markdown)").fill("my words")
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_role("alert").filter(has_text="their words")).to_be_visible()
        page.get_by_role("button", name="Save mine over it").click()
        expect(page.locator("#description")).to_have_text("my words")
        expect(page.get_by_role("heading", name="Theirs")).to_be_visible()
        page.goto(RESTING)

    def test_a_refused_start_says_why(self, untouched: Page) -> None:
        page = untouched
        page.get_by_label("Starts from, merges into").fill("no-such-branch")
        page.get_by_role("button", name="Start").click()
        expect(page.get_by_role("alert").filter(has_text="no-such-branch")).to_be_visible()
        page.goto(RESTING)

    def test_a_start_that_is_refused_late_is_told(self, page: Page, tried: Tried) -> None:
        open_task(page, tried.task)
        page.keyboard.press("s")
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("Starts from, merges into").fill("no-such-branch")
        late = LateAnswer(page, "**/api/task-attempts")
        dialog.get_by_role("button", name="Start").click()
        late.wait()
        leave_dialog(page)
        late.arrives()
        toast = page.locator(".toast-error")
        expect(toast).to_contain_text("no-such-branch")
        toast.get_by_role("button").click()
        page.unroute("**/api/task-attempts")

    def test_a_prompt_stays_when_somebody_else_starts_first(self, page: Page, runs: Runs) -> None:
        task = runs.task("Begun by two")
        open_task(page, task)
        page.get_by_label("Prompt").fill("my own words")
        page.reload()
        expect(page.get_by_label("Prompt")).to_have_value("my own words")
        runs.ended(runs.start(task, "echo theirs"))
        expect(line(page, "theirs")).to_be_visible()
        page.keyboard.press("s")
        expect(page.get_by_role("dialog").get_by_label("Prompt")).to_have_value("my own words")

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
        page.keyboard.press("s")
        again = page.get_by_role("dialog")
        expect(again.get_by_label("Prompt")).to_have_value("")  # a description is no script
        again.get_by_label("Agent", exact=True).select_option("demo")
        expect(again.get_by_label("Prompt")).to_have_value("Not begun")

    def test_a_window_that_is_low_leaves_the_output_room(self, page: Page, tried: Tried) -> None:
        open_task(page, tried.task, "?view=log")
        before = page.viewport_size
        assert before
        page.set_viewport_size({"width": 740, "height": 320})
        box = page.locator("#panel-log").bounding_box()
        page.locator("#composer textarea").scroll_into_view_if_needed()
        expect(page.locator("#composer textarea")).to_be_in_viewport(ratio=1)
        page.set_viewport_size(before)
        assert box and box["height"] >= 240

    def test_two_attempts_side_by_side(self, page: Page, tried: Tried) -> None:
        open_task(page, tried.task)
        expect(page.locator(".attempt")).to_have_count(2)
        page.get_by_role("link", name="Compare").click()
        expect(page.locator("#diff-a .diff-name")).to_have_text("one.txt")
        changed = ["src/app.py", "README.md", "big.py", "data.bin"]
        expect(page.locator("#diff-b .diff-name")).to_have_text(changed)
        expect(page.locator("#files tbody tr")).to_have_count(5)

    def test_axe_finds_no_violation(self, page: Page, tried: Tried) -> None:
        page.emulate_media(color_scheme="light")
        open_task(page, tried.task, "?view=log")
        expect(line(page, "careful")).to_be_visible()
        check(page, "output, light")
        page.emulate_media(color_scheme="dark")
        page.keyboard.press("s")
        expect(page.get_by_role("dialog")).to_be_visible()
        check(page, "start, dark", include="dialog[open]")  # behind it axe sees nothing
        leave_dialog(page)
        page.keyboard.press("2")
        page.locator(".diff-tree-row[title='src/app.py']").click()
        row = page.locator(".diff-file", has_text="src/app.py").locator(".diff-line.is-add")
        expect(row.locator(".hl-string.diff-mark")).to_be_visible()
        row.locator(".diff-number").nth(1).click()
        check(page, "changes, dark", runOnly=["color-contrast"])
        page.emulate_media(color_scheme="light")
        check(page, "changes, light", include="#panel-changes")

    def test_it_fits_a_phone(self, page: Page, tried: Tried) -> None:
        open_task(page, tried.task, "?view=changes#file=src%2Fapp.py")
        with on_a_phone(page):
            page.get_by_role("tab", name="Task").click()  # the others: test_pages.py
            expect(page.locator(".attempt").first).to_be_visible()
            check_phone(page, "task")
        page.goto(RESTING)

    def test_a_deleted_task_is_said_to_be_gone(self, profile: BrowserContext, runs: Runs) -> None:
        task, _ = runs.done("echo done", "Short-lived")
        page = profile.new_page()
        page.clock.install()
        page.goto(f"/tasks/{task}/")
        expect(page.locator(".attempt")).to_have_count(1)
        runs.api("DELETE", f"/api/tasks/{task}")
        expect(page.locator("#task-notices")).to_contain_text("deleted")
        page.clock.run_for(1_000)
        expect(page.locator("#task")).not_to_have_class(re.compile("is-unstarted"))
        page.close()

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
        expect(page.locator(".attempt .run-state")).to_have_text("Needs review")
