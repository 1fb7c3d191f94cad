"""Hunks as rows, their colours, and the comments that move with them."""

import pytest
from playwright.sync_api import Page

from tests.browser.modules.conftest import call
from tests.needs import needs_chromium

pytestmark = needs_chromium


DIFF = """\
@@ -1,4 +1,5 @@ def f():
 same
-old  line
-gone
+old line
+--- looks like a header
+new
 end
\\ No newline at end of file
@@ -20 +21 @@
-    x
+\tx
"""


class TestDiffParse:
    def test_lines_have_their_numbers_on_both_sides(self, page: Page) -> None:
        hunks = call(page, "tasks/js/diff-parse.js", "m.parseDiff(x)", DIFF)
        assert [(hunk["oldStart"], hunk["newStart"], hunk["section"]) for hunk in hunks] == [
            (1, 1, "def f():"),
            (20, 21, ""),
        ]
        assert [(line["kind"], line["old"], line["new"]) for line in hunks[0]["lines"]] == [
            ("context", 1, 1),
            ("del", 2, None),
            ("del", 3, None),
            ("add", None, 2),
            ("add", None, 3),
            ("add", None, 4),
            ("context", 4, 5),
        ]
        assert hunks[0]["lines"][4]["text"] == "--- looks like a header"
        assert [line["noEnd"] for line in hunks[0]["lines"]] == [False] * 6 + [True]

    def test_headers_before_the_first_hunk_are_left_out(self, page: Page) -> None:
        text = "diff --git a/x b/x\nindex 1..2\n--- a/x\n+++ b/x\n@@ -0,0 +1 @@\n+x\n"
        assert len(call(page, "tasks/js/diff-parse.js", "m.parseDiff(x)", text)) == 1
        assert call(page, "tasks/js/diff-parse.js", "m.parseDiff(x)", "") == []

    def test_changes_of_blanks_alone_can_be_ignored(self, page: Page) -> None:
        hunks = call(page, "tasks/js/diff-parse.js", "m.ignoreWhitespace(m.parseDiff(x))", DIFF)
        assert [(line["kind"], line["text"]) for line in hunks[0]["lines"]] == [
            ("context", "same"),
            ("context", "old line"),
            ("del", "gone"),
            ("add", "--- looks like a header"),
            ("add", "new"),
            ("context", "end"),
        ]
        assert len(hunks) == 1

    def test_side_by_side_pairs_what_was_replaced(self, page: Page) -> None:
        code = "m.sideBySide(m.parseDiff(x)[0].lines).map(([a, b]) => [a?.text ?? null, b?.text ?? null])"
        assert call(page, "tasks/js/diff-parse.js", code, DIFF) == [
            ["same", "same"],
            ["old  line", "old line"],
            ["gone", "--- looks like a header"],
            [None, "new"],
            ["end", "end"],
        ]

    def test_the_changed_part_of_a_line(self, page: Page) -> None:
        text = "@@ -1 +1 @@\n-let count = 1;\n+let total = 1;\n"
        parts = call(
            page, "tasks/js/diff-parse.js", "[...m.changedParts(m.parseDiff(x)[0].lines).values()]", text
        )
        assert parts == [[4, 8], [4, 8]] or parts == [[4, 9], [4, 9]]

    def test_a_chain_of_folders_is_one_row(self, page: Page) -> None:
        files = [{"file": name} for name in ("a/b/c.py", "a/b/d.py", "z.md", "q/r/s/t")]
        tree = call(page, "tasks/js/diff-parse.js", "m.fileTree(x)", files)
        assert [(node["name"], [child["name"] for child in node["children"]]) for node in tree] == [
            ("a/b", ["c.py", "d.py"]),
            ("q/r/s", ["t"]),
            ("z.md", []),
        ]

    def test_comments_quote_their_code(self, page: Page) -> None:
        comments = [
            {"file": "a.py", "line": 3, "side": "new", "code": "x = ```1```", "text": " Why? "},
            {"file": "b.py", "line": 9, "side": "old", "code": "gone()", "text": "Keep this."},
        ]
        prompt = call(page, "tasks/js/diff-parse.js", "m.reviewPrompt(x, 'Nearly.')", comments)
        assert prompt == (
            "Nearly.\n\nPlease address these review comments:\n\n"
            "a.py, line 3:\n````\nx = ```1```\n````\nWhy?\n\n"
            "b.py, line 9 before the change:\n```\ngone()\n```\nKeep this."
        )


class TestCode:
    def test_colours_and_marks_cut_the_same_line(self, page: Page) -> None:
        html = call(
            page,
            "tasks/js/diff-code.js",
            "(() => { const e = document.createElement('p'); e.append(...m.codeNodes(...x)); return e.innerHTML })()",
            ["let a = <1>;", [["keyword", 3], ["", 5]], [4, 10]],
        )
        assert html == (
            '<span class="hl-keyword">let</span> <span class="diff-mark">a = </span>'
            '<span class="diff-mark">&lt;1</span>&gt;;'
        )


class TestComments:
    CODE = """(() => {
      const lines = x.lines.map((text, i) => ({ kind: "context", old: i + 1, new: i + 1, text }));
      return m.place(x.comment, lines)?.new ?? null;
    })()"""

    @pytest.mark.parametrize(
        ("lines", "place"),
        [(["a", "b", "c"], 2), (["new", "a", "b", "c"], 3), (["b", "b", "b"], 2), (["a", "c"], None)],
        ids=["unchanged", "moved down", "the nearest of several", "gone"],
    )
    def test_a_comment_stays_with_its_line(self, page: Page, lines: list[str], place: int | None) -> None:
        comment = {"file": "x", "side": "new", "line": 2, "code": "b", "text": "?"}
        found = call(page, "tasks/js/diff-comments.js", self.CODE, {"lines": lines, "comment": comment})
        assert found == place

    WINDOWS = """(() => {
      localStorage.clear();
      const [first, second] = [new m.Comments("a"), new m.Comments("a")];
      first.put({ id: "1", file: "x", line: 1, text: "first" });
      second.put({ id: "2", file: "x", line: 2, text: "second" });
      const sent = second.all;
      second.put({ id: "2", file: "x", line: 2, text: "second thoughts" });
      first.put({ id: "3", file: "x", line: 3, text: "third" });
      second.clear(sent);
      return new m.Comments("a").all.map((comment) => comment.text);
    })()"""

    def test_what_two_windows_write_is_kept_but_for_what_was_sent(self, page: Page) -> None:
        assert call(page, "tasks/js/diff-comments.js", self.WINDOWS) == ["second thoughts", "third"]
