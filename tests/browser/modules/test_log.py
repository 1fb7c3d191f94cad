"""Terminal colours, the lines of a log by number, and the window that shows some of them."""

from typing import Any

import pytest
from playwright.sync_api import Page

from tests.browser.modules.conftest import call
from tests.needs import needs_chromium

pytestmark = needs_chromium

ESC = "\x1b"


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
