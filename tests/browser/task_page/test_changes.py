"""What programs change in front of a reader, and what the reader says of it."""

import re
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, expect

from tests.browser.conftest import LateAnswer
from tests.browser.task_page.conftest import Runs, open_task
from tests.needs import needs_chromium
from tests.scale import scaled

pytestmark = needs_chromium


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

    def test_a_large_file_that_changes_while_it_is_loaded_is_shown_as_it_is_now(
        self, page: Page, runs: Runs
    ) -> None:
        task, attempt = runs.done("{ echo as it was; yes $(seq 300) | head -1200; } > large.txt", "Large")
        open_task(page, task, "?view=changes")
        late = LateAnswer(page, "**/diff?file=*")
        file = page.locator(".diff-file", has_text="large.txt")
        file.get_by_role("button", name="Load it").click()
        late.wait()
        Path(attempt["worktree"], "large.txt").write_text("as it is\n" + f"{'line' * 300}\n" * 1300)
        expect(file.locator(".plus")).to_have_text("+1,301")
        late.arrives()
        expect(file.locator(".diff-line").first).to_contain_text("as it is")
        page.unroute_all()

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
        script = f"n=0; while [ $n -lt {files} ]; do printf '1\\n2\\n\\n%s\\n' $n > f$n; n=$((n+1)); done"
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
        first = "getSelection().selectAllChildren(document.querySelector('.diff-line').parentElement)"
        page.evaluate(first)
        page.locator("a.diff-tree-row").last.click()
        expect(left.locator(".diff-line")).to_have_count(4)
        assert page.evaluate("getSelection().toString()").endswith("1\n2\n\n0\n")

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

    def test_a_comment_that_is_still_written_outlives_its_page(
        self, page: Page, changed: tuple[str, dict[str, Any]]
    ) -> None:
        open_task(page, changed[0], "?view=changes")
        row = page.locator(".diff-file", has_text="src/app.py").locator(".diff-line.is-add")
        row.locator(".diff-number").nth(1).click()
        page.keyboard.type("half a thought")
        page.reload()
        expect(page.locator(".diff-comment-text")).to_have_text("half a thought")
        page.locator(".diff-comment-box").get_by_role("button", name="Edit").click()
        page.keyboard.press("End")
        page.keyboard.type(" and the rest")
        kept = "vibe.page.diff.destroy(), vibe.page.diff.comments.all"  # as where another attempt is opened
        assert [comment["text"] for comment in page.evaluate(kept)] == ["half a thought and the rest"]

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
        adrift = page.locator(".diff-adrift")
        expect(adrift.locator(".diff-comment-text")).to_have_count(3)
        adrift.get_by_role("button", name="Remove").first.click()
        expect(adrift.locator(".diff-comment-text")).to_have_count(2)
        expect(page.get_by_role("button", name="Send 2 comments")).to_be_visible()
        file.write_text(text)
        expect(adrift).to_be_hidden()
        expect(page.locator(".diff-editor textarea")).to_have_value("and another half")
        runs.open_gate("commented")
