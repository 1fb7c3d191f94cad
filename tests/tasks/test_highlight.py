"""Colours fit the lines that they are of, whatever the code."""

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.board import highlight, markdown

CODE = st.text(st.sampled_from("abcdef01 \t(){}[]'\"\\#/*=<>&;:,.\r\ufeff\u2028é😀\x00\x0c"), max_size=40)


def units(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["a.py", "a.js", "a.css", "a.md", "a.html", "Makefile", "a.c"]),
    st.lists(CODE, max_size=8),
)
def test_runs_never_reach_past_their_line(file: str, lines: list[str]) -> None:
    found = highlight.tokens(file, lines)
    assert len(found) == len(lines)
    for runs, line in zip(found, lines, strict=True):
        assert sum(length for _, length in runs) <= units(line)


def test_lengths_are_counted_as_javascript_counts() -> None:
    (runs,) = highlight.tokens("a.py", ["'😀' + x"])
    assert runs[0] == ("string", 4)


def test_a_comment_over_lines_colours_each() -> None:
    found = highlight.tokens("a.c", ["/* one", "two */ int x;"])
    assert found[0] == [("comment", 6)]
    assert found[1][0] == ("comment", 6)


@pytest.mark.parametrize(
    ("file", "line"),
    [("unknown.zzz", "text"), ("a.py", "x" * 3000), ("a.py", "")],
    ids=["unknown", "long", "empty"],
)
def test_what_is_not_coloured_stays_plain(file: str, line: str) -> None:
    assert highlight.tokens(file, [line]) == [[]]


def test_what_lexers_need_a_line_end_for_is_coloured_to_its_end() -> None:
    for language, code in (
        ("pytb", 'Traceback (most recent call last):\n  File "x", line 1'),
        ("tnt", "((("),
    ):
        assert len(highlight.tokens("", code.split("\n"), language)) == code.count("\n") + 1


def test_a_lexer_that_comes_to_no_end_costs_a_moment_and_only_its_own_colours(
    caplog: pytest.LogCaptureFixture,
) -> None:
    colours = highlight.Highlighter(cpu_seconds=0.5)

    def ask(language: str, text: str) -> list[list[highlight.Run]]:
        return colours.ask({"file": "", "language": language, "text": text})

    assert ask("scala", '"' + "\\" * 80) == []
    assert "Colouring Scala came to no end" in caplog.text
    assert ask("md", '```rita\n"' + "1" * 40 + "\n```")[1] == [("string", 41)]
    assert ask("scala", "val x = 1") == []
    assert ask("python", "1") == [[("constant", 1)], []]


def test_the_program_that_colours_is_begun_again() -> None:
    colours = highlight.Highlighter(cpu_seconds=30)
    question = {"file": "a.py", "language": "", "text": "1"}
    assert colours.ask(question)
    (child,) = (one for one in psutil.Process().children() if "30" in one.cmdline())
    child.kill()
    child.wait()
    assert colours.ask(question)


class TestMarkdown:
    @pytest.mark.parametrize(
        "text",
        [
            "<script>alert(1)</script>",
            "<img src=x onerror=alert(1)>",
            "[x](javascript:alert(1))",
            "[x](data:text/html,<script>)",
            "![x](https://example.com/x.png)",
            "<a href='javascript:alert(1)'>x</a>",
            "```<script>\nalert(1)\n```",
            "```html\n<script>alert(1)</script>\n```",
            "[x]: javascript:alert(1)\n[x]",
        ],
    )
    def test_nothing_runs_and_nothing_loads(self, text: str) -> None:
        html = str(markdown.render(text)).lower()
        for danger in ("<script", "<img", "<iframe", 'href="javascript', 'href="data'):
            assert danger not in html

    def test_what_people_write(self) -> None:
        html = markdown.render(
            "# T\n\n###### U\n\n- a\n- ~~b~~\n- [x] done\n- [ ] *open*\n\n[ ] no list\n\n|x|\n|-|\n|1|\n\n[d](https://example.com)\nnext"
        )
        for part in (
            "<h2>T</h2>",
            "<h6>U</h6>",
            "<li>☑ done</li>",
            "☐ <em>open</em>",
            "<p>[ ] no list</p>",
            "<li>a</li>",
            "<s>b</s>",
            "<td>1</td>",
            'rel="noopener noreferrer"',
            "<br>",
        ):
            assert part in html
