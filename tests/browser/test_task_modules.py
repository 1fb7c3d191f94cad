"""The page's modules on data of their own, in a real browser but without a server."""

import mimetypes
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route

from tests.needs import needs_chromium

pytestmark = needs_chromium

ROOT = Path(__file__).resolve().parents[2]
STATIC = [ROOT / "tasks" / "static", ROOT / "events" / "static"]
ORIGIN = "http://modules.test"
ESC = "\x1b"


def serve(route: Route) -> None:
    """Files of the apps' static folders, and an empty page for any other address."""
    path = route.request.url.removeprefix(f"{ORIGIN}/static/")
    for folder in STATIC:
        file = folder / path
        if file.is_file():
            kind = mimetypes.guess_type(file.name)[0] or "text/plain"
            route.fulfill(body=file.read_bytes(), content_type=kind)
            return
    styles = "".join(
        f'<link rel="stylesheet" href="/static/tasks/css/{name}.css">'
        for name in ("tokens", "base", "components", "log", "diff")
    )
    route.fulfill(body=f"<!doctype html><head>{styles}</head><body></body>", content_type="text/html")


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 900, "height": 700})
    context.route("**/*", serve)
    page = context.new_page()
    page.goto(f"{ORIGIN}/")
    yield page
    context.close()


def call(page: Page, module: str, code: str, argument: Any = None) -> Any:
    """`code` is an expression over the module `m` and `x`, the argument."""
    source = f"async (x) => {{ const m = await import('/static/{module}'); return {code}; }}"
    return page.evaluate(source, argument)


def runs(page: Page, text: str) -> list[tuple[str, dict[str, Any]]]:
    found = call(page, "tasks/js/ansi.js", "m.parseLine(x)", text)
    return [(run["text"], run["style"]) for run in found]


class TestAnsi:
    def test_plain_text_is_one_run(self, page: Page) -> None:
        assert runs(page, "plain <b>&amp;") == [("plain <b>&amp;", {})]
        assert runs(page, "") == []

    def test_the_sixteen_colours_and_attributes(self, page: Page) -> None:
        assert runs(page, f"{ESC}[1;31mred{ESC}[22;39m plain{ESC}[103;4m x{ESC}[m.") == [
            ("red", {"bold": True, "fg": 1}),
            (" plain", {}),
            (" x", {"bg": 11, "underline": True}),
            (".", {}),
        ]

    def test_256_and_true_colours_with_semicolons_and_colons(self, page: Page) -> None:
        text = f"{ESC}[38;5;202ma{ESC}[48;2;1;2;300mb{ESC}[0;38:2::9:8:7mc{ESC}[0;38:5:20md"
        assert runs(page, text) == [
            ("a", {"fg": 202}),
            ("b", {"fg": 202, "bg": "rgb(1, 2, 255)"}),
            ("c", {"fg": "rgb(9, 8, 7)"}),
            ("d", {"fg": 20}),
        ]
        assert call(page, "tasks/js/ansi.js", "[16, 21, 231, 232, 255].map(m.paletteColour)") == [
            "rgb(0, 0, 0)",
            "rgb(0, 0, 255)",
            "rgb(255, 255, 255)",
            "rgb(8, 8, 8)",
            "rgb(238, 238, 238)",
        ]

    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("10%\r20%\r100%", "100%"),
            ("downloading 50%\rdone", "doneloading 50%"),
            (f"downloading 50%\rdone{ESC}[K", "done"),
            (f"abc{ESC}[2K{ESC}[1Gx", "x"),
            ("ab\b\bc", "cb"),
            (f"a{ESC}[3Cb{ESC}[4Dc", "ac  b"),
        ],
    )
    def test_a_line_overwrites_itself_as_in_a_terminal(self, page: Page, text: str, shown: str) -> None:
        assert call(page, "tasks/js/ansi.js", "m.plainText(x)", text) == shown

    @pytest.mark.parametrize(
        "noise",
        [
            f"{ESC}]0;title\x07",
            f"{ESC}]8;;https://example.com{ESC}\\",
            f"{ESC}[?25l",
            f"{ESC}(B",
            f"{ESC}=",
            f"{ESC}P1;2q{ESC}\\",
            "\x00",
            "\x07",
            "\x7f",
            "\x9b",
        ],
    )
    def test_other_sequences_and_controls_are_dropped(self, page: Page, noise: str) -> None:
        assert call(page, "tasks/js/ansi.js", "m.plainText(x)", f"a{noise}b") == "ab"

    def test_a_cursor_sent_far_away_costs_nothing(self, page: Page) -> None:
        text = f"{ESC}[999999999C" * 2000 + "x"
        assert call(page, "tasks/js/ansi.js", "m.plainText(x).length", text) <= 10_001

    def test_markup_in_output_stays_text(self, page: Page) -> None:
        html = call(
            page,
            "tasks/js/ansi.js",
            "(() => { const e = document.createElement('div'); m.renderLine(e, x); return e.innerHTML })()",
            f"<img src=x onerror=alert(1)>{ESC}[38;5;200m<b>",
        )
        assert html == (
            "&lt;img src=x onerror=alert(1)&gt;"
            '<span class="ansi-fg-exact" style="--ink: rgb(255, 0, 215);">&lt;b&gt;</span>'
        )


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


class TestPlaces:
    @pytest.mark.parametrize(
        ("hash_", "lines"),
        [
            ("#L12", [11, 11]),
            ("#L9-L3", [2, 8]),
            ("#L99", [49, 49]),
            ("#L0", [0, 0]),
            ("#x", None),
            ("", None),
        ],
    )
    def test_line_numbers_of_an_address(self, page: Page, hash_: str, lines: Any) -> None:
        assert call(page, "tasks/js/places.js", "m.lineRange(x, 50)", hash_) == lines

    def test_file_names_survive_the_address(self, page: Page) -> None:
        for name in ("a b/ü#?.py", "100%.txt"):
            assert call(page, "tasks/js/places.js", "m.fileOfHash(m.fileHash(x))", name) == name
        assert call(page, "tasks/js/places.js", "m.fileOfHash('#file=%E0%A4')") is None


class TestLinePages:
    CODE = """(async () => {
      const asked = [];
      const load = async (first, count) => {
        asked.push([first, count]);
        const record = (_, i) => ({ content: "x".repeat(100), n: first + i });
        const records = Array.from({ length: Math.min(count, x.most ?? 999) }, record);
        return { first, total: 10000, records };
      };
      const pages = new m.LinePages(load, 100_000);
      pages.total = 10000;
      for (const [first, last] of x.ranges) await pages.ensure(first, last);
      return { asked, size: pages.size, pages: pages.pages.size, got: x.get.map((i) => pages.get(i)?.n ?? null) };
    })()"""

    def ask(self, page: Page, **x: Any) -> Any:
        return call(page, "tasks/js/line-pages.js", self.CODE, x)

    def test_whole_pages_are_asked_for_once(self, page: Page) -> None:
        found = self.ask(page, ranges=[[10, 20], [0, 200], [250, 260]], get=[0, 255, 256, 512])
        assert found["asked"] == [[0, 256], [256, 256]]
        assert found["got"] == [0, 255, 256, None]

    def test_a_short_answer_is_asked_on(self, page: Page) -> None:
        found = self.ask(page, most=100, ranges=[[0, 150], [0, 150], [0, 256]], get=[99, 199, 255])
        assert found["asked"] == [[0, 256], [100, 156], [200, 56]]
        assert found["got"] == [99, 199, 255]

    def test_memory_is_bounded(self, page: Page) -> None:
        ranges = [[i, i + 10] for i in range(0, 10000, 256)]
        found = self.ask(page, ranges=ranges, get=[0, 9999])
        assert found["size"] <= 100_000
        assert found["got"] == [None, 9999]


WINDOW = """(async () => {
  document.body.replaceChildren();
  const scroller = document.createElement("div");
  scroller.className = "log-scroller is-wrapped";
  scroller.style.position = "fixed";
  scroller.style.height = "400px";
  document.body.append(scroller);
  const frames = async (n = 3) => { for (let i = 0; i < n; i += 1) await new Promise(requestAnimationFrame) };
  const render = (i) => {
    const row = document.createElement("div");
    row.className = "log-line";
    row.textContent = x.wide && i % 3 === 0 ? `${i} ${"words ".repeat(100)}` : String(i);
    return row;
  };
  const follows = [];
  const list = new m.LineWindow(scroller, { render, onFollow: (on) => follows.push(on) });
  list.remeasure();
  list.setTotal(x.total);
  await frames();
  const seen = () => {
    const box = scroller.getBoundingClientRect();
    const rows = [...scroller.querySelectorAll(".log-line")].filter((row) => {
      const { top, bottom } = row.getBoundingClientRect();
      return bottom > box.top + 1 && top < box.top + scroller.clientHeight - 1;
    });
    const last = rows.at(-1)?.getBoundingClientRect();
    return {
      first: parseInt(rows[0]?.textContent), last: parseInt(rows.at(-1)?.textContent),
      rows: scroller.querySelectorAll(".log-line").length,
      gap: last ? Math.round(box.top + scroller.clientHeight - last.bottom) : null,
    };
  };
  const out = [];
  for (const step of x.steps) {
    if (step.height) {
      await new Promise((resolve) => setTimeout(resolve));
      scroller.style.height = `${step.height}px`;
      scroller.getBoundingClientRect();
    }
    if (step.total) list.setTotal(step.total);
    if (step.scroll !== undefined) scroller.scrollTop = step.scroll * (scroller.scrollHeight - scroller.clientHeight);
    if (step.line !== undefined) list.toLine(step.line);
    if (step.wheel) scroller.dispatchEvent(new WheelEvent("wheel", { deltaY: step.wheel, cancelable: true }));
    if (step.key) scroller.dispatchEvent(new KeyboardEvent("keydown", { key: step.key, cancelable: true }));
    if (step.end) list.toEnd();
    await frames(6);
    out.push({ ...seen(), following: list.following });
  }
  list.destroy();
  return { out, follows };
})()"""


class TestLineWindow:
    def walk(
        self, page: Page, total: int, *steps: dict[str, Any], wide: bool = False
    ) -> list[dict[str, Any]]:
        found = call(
            page, "tasks/js/line-window.js", WINDOW, {"total": total, "steps": list(steps), "wide": wide}
        )
        return list(found["out"])

    @pytest.mark.parametrize("wide", [False, True], ids=["even", "wrapped"])
    def test_it_shows_the_end_and_follows_it(self, page: Page, wide: bool) -> None:
        for seen in self.walk(page, 1000, {}, {"total": 1001}, {"total": 5000}, wide=wide):
            assert seen["following"] and abs(seen["gap"]) <= 1, seen
        assert seen["last"] == 4999

    def test_it_stays_where_the_reader_is(self, page: Page) -> None:
        up, more, end = self.walk(page, 1000, {"scroll": 0.5}, {"total": 90_000}, {"end": True})
        assert not up["following"] and not more["following"]
        assert (more["first"], more["last"]) == (up["first"], up["last"])
        assert end["following"] and end["last"] == 89_999

    def test_a_list_that_grows_taller_goes_on_following(self, page: Page) -> None:
        """Also when lines come before the browser has told that it moved the list."""
        steps = [{"height": 300 + 60 * n, "total": 1000 + 1000 * n} for n in range(4)]
        for step, seen in zip(steps, self.walk(page, 1000, *steps), strict=True):
            assert seen["following"] and seen["last"] == step["total"] - 1

    def test_scrolling_back_to_the_end_follows_again(self, page: Page) -> None:
        up, down, more = self.walk(page, 1000, {"scroll": 0.2}, {"scroll": 1}, {"total": 1100}, wide=True)
        assert not up["following"]
        assert down["following"] and down["last"] == 999
        assert more["last"] == 1099

    @pytest.mark.parametrize("total", [100, 20_000, 1_000_000, 30_000_000])
    def test_the_document_stays_small(self, page: Page, total: int) -> None:
        steps = [{"scroll": place / 7} for place in range(8)]
        for seen in self.walk(page, total, *steps):
            assert seen["rows"] < 80
        assert seen["last"] == total - 1

    @pytest.mark.parametrize("total", [20_000, 30_000_000])
    def test_any_line_can_be_gone_to(self, page: Page, total: int) -> None:
        for line in (0, 7, total // 2, total - 1):
            (seen,) = self.walk(page, total, {"line": line})
            assert seen["first"] <= line <= seen["last"]

    def test_the_wheel_skips_no_line_in_a_very_long_list(self, page: Page) -> None:
        before, after = self.walk(page, 30_000_000, {"line": 15_000_000}, {"wheel": 100})
        assert 3 <= after["first"] - before["first"] <= 7

    def test_the_keyboard_moves_by_line_page_and_to_both_ends(self, page: Page) -> None:
        line, down, page_down, home, end = self.walk(
            page,
            50_000,
            {"line": 100},
            {"key": "ArrowDown"},
            {"key": "PageDown"},
            {"key": "Home"},
            {"key": "End"},
        )
        assert down["first"] == line["first"] + 1
        assert 10 <= page_down["first"] - down["first"] <= 20
        assert home["first"] == 0
        assert end["last"] == 49_999 and end["following"]


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


class TestStorage:
    FULL = """(() => {
      localStorage.clear();
      localStorage.setItem("old", "o");
      for (let size = 2 ** 22; size >= 1; size /= 2) {
        try {
          localStorage.setItem(`filler ${size}`, "x".repeat(size));
        } catch { /* half of it, then */ }
      }
      const { storage } = m;
      const values = () => ["old", "new"].map((key) => [storage.getItem(key), localStorage.getItem(key)]);
      storage.setItem("old", "longer");
      storage.setItem("new", "words");
      const full = values();
      localStorage.removeItem(`filler ${2 ** 22}`);
      storage.setItem("old", "longest");
      storage.removeItem("new");
      const room = values();
      localStorage.clear();
      return [full, room];
    })()"""

    def test_what_does_not_fit_lasts_as_long_as_the_page(self, page: Page) -> None:
        full, room = call(page, "tasks/js/storage.js", self.FULL)
        assert full == [["longer", "o"], ["words", None]]
        assert room == [["longest", "longest"], [None, None]]


class TestConfirmOn:
    CODE = """(async () => {
      document.body.innerHTML = "<div id=announcer></div><button>Copy</button><button>one</button>";
      const [copy, branch] = document.querySelectorAll("button");
      const shown = [m.confirmOn(copy, "Copied"), m.confirmOn(copy, "Copied 3 lines"), m.confirmOn(branch, "Copied")];
      branch.textContent = "another";
      await Promise.all(shown);
      return [copy.textContent, branch.textContent];
    })()"""

    def test_the_label_comes_back_once_and_no_other_is_undone(self, page: Page) -> None:
        assert call(page, "tasks/js/controls.js", self.CODE) == ["Copy", "another"]


class TestLine:
    SAYS = """(() => {
      document.body.innerHTML = "<div id=announcer></div><button id=line><span class=line-text></span></button>";
      const line = Object.assign(new EventTarget(), { retryAt: null });
      const unwatch = m.watchLine(line);
      const { now } = Date;
      const words = x.map(([state, later]) => {
        Date.now = () => now() + later;
        line.state = state;
        line.dispatchEvent(new Event("state"));
        return document.querySelector(".line-text").textContent;
      });
      Date.now = now;
      unwatch();
      return words;
    })()"""

    def test_a_loss_is_as_long_as_itself(self, page: Page) -> None:
        states = [("live", 0), ("offline", 0), ("live", 500), ("offline", 60_000), ("offline", 80_000)]
        said = call(page, "tasks/js/line-status.js", self.SAYS, states)
        assert said == ["Live", "Offline", "Live", "Offline", "Offline · 20s"]


class TestLogStream:
    CODE = """(async () => {
      document.body.replaceChildren();
      const stream = new m.LogStream("1");
      const got = [];
      stream.addEventListener("records", ({ detail }) => got.push(...detail.records));
      stream.take({ type: "message", data: '{"content":"x"}', id: "1" });
      if (x) stream.close();
      await new Promise((later) => setTimeout(later, 100));
      stream.close();
      return got.length;
    })()"""

    def test_records_come_gathered_and_none_after_the_end(self, page: Page) -> None:
        assert call(page, "events/log-stream.js", self.CODE, False) == 1
        assert call(page, "events/log-stream.js", self.CODE, True) == 0


@pytest.mark.parametrize(
    ("exit_code", "told"),
    [
        (3, "Agent was not started, because the setup script failed (exit code 3)."),
        (None, "Agent could not be started or did not finish. The last lines of its output may say more."),
    ],
)
def test_only_a_setup_script_that_ran_is_said_to_have_failed(
    page: Page, exit_code: int | None, told: str
) -> None:
    setup = {"run_reason": "setupscript", "status": "failed", "exit_code": exit_code, "created_at": "1"}
    run = {"run_reason": "codingagent", "status": "failed", "exit_code": None, "created_at": "1"}
    assert call(page, "tasks/js/task/words.js", "m.endNotice(x[1], x).text", [setup, run]) == told


class TestHistory:
    ATTEMPTS = [{"id": "kept", "branch": "vibe/kept", "executor": "demo"}]
    GONE = {"branch": "vibe/gone", "executor": "script"}
    RUN = {"run_reason": "codingagent", "prompt": "again", "status": "queued", "task_attempt_id": "kept"}
    SENTENCES = """(() => {
      const names = m.namesOf(x.entries, { attempts: x.attempts, runs: () => [] });
      return x.entries.map((entry) => m.sentence(entry, names));
    })()"""

    def test_what_is_gone_has_a_name_all_the_same(self, page: Page) -> None:
        ended = {**self.RUN, "status": "completed", "task_attempt_id": "gone"}
        told = [
            ("task_attempts", "gone", "remove", self.GONE),
            ("execution_processes", "ended", "remove", ended),
            ("execution_processes", "queued", "remove", self.RUN),
            ("task_attempts", "gone", "add", None),
            ("task_attempts", "kept", "add", None),
        ]
        entries = [
            {"table": table, "object_id": pk, "operation": operation, "field": "", "old": old, "value": None}
            for table, pk, operation, old in told
        ]
        given = {"entries": entries, "attempts": self.ATTEMPTS}
        assert call(page, "tasks/js/task/sentences.js", self.SENTENCES, given) == [
            "deleted the attempt on vibe/gone",
            "deleted the agent of the attempt on vibe/gone",
            "took back the agent of attempt #1: “again”",
            "started the attempt on vibe/gone with script",
            "started attempt #1 with demo",
        ]


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


class TestBoard:
    def test_a_card_shows_the_run_that_goes_on_rather_than_those_that_wait_behind_it(
        self, page: Page
    ) -> None:
        run = {"task_attempt_id": "a", "run_reason": "codingagent", "started_at": None, "completed_at": None}
        document = {
            "tasks": {"t": {"id": "t", "status": "inprogress", "position": 1, "created_at": "1"}},
            "task_attempts": {"a": {"id": "a", "task_id": "t", "created_at": "1"}},
            "execution_processes": {
                "first": {**run, "id": "first", "status": "running", "created_at": "1"},
                "next": {**run, "id": "next", "status": "queued", "created_at": "2"},
            },
        }
        found = call(page, "tasks/js/board/model.js", "m.columns(x).get('inprogress')", document)
        assert [(card["run"], card["state"]) for card in found] == [("first", "running")]


class TestForcedColors:
    """In the colours of the system, as with Windows' contrast themes."""

    SHOWN = """(html) => {
        document.body.innerHTML = html;
        const shown = [...document.body.children].map((one) => {
            const { backgroundColor, borderBottomColor, borderLeftColor, outlineStyle } = getComputedStyle(one);
            return [backgroundColor, borderBottomColor, borderLeftColor, outlineStyle].join();
        });
        document.body.replaceChildren();
        return shown;
    }"""

    def test_what_is_said_by_colour_is_still_told_apart(self, page: Page) -> None:
        kinds = {
            "status": [
                f'<i class="status-ring" data-status="{one}"></i>' for one in ("todo", "inprogress", "done")
            ],
            "tab": [f'<b class="tab" role="tab" aria-selected="{one}"></b>' for one in ("true", "false")],
            "switch": [f'<button class="button" aria-pressed="{one}"></button>' for one in ("true", "false")],
            "line": [f'<p class="log-line {one}"></p>' for one in ("log-stderr", "")],
        }
        page.emulate_media(forced_colors="active")
        for kind, all_of_it in kinds.items():
            shown = page.evaluate(self.SHOWN, "".join(all_of_it))
            assert len(set(shown)) == len(all_of_it), (kind, shown)
        page.emulate_media(forced_colors="none")
