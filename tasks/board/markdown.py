"""Markdown that people write, as HTML that is safe to show.

The parser already leaves raw HTML as text; nh3 then lets through only what is listed here, so that a gap
in one of them is not a hole in the page.
"""

from typing import Final

import nh3
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt
from markdown_it.rules_core import StateCore

from tasks.board import highlight

TAGS: Final = {
    "p", "br", "hr", "h2", "h3", "h4", "h5", "h6", "strong", "em", "s", "code", "pre", "span",
    "blockquote", "ul", "ol", "li", "a", "table", "thead", "tbody", "tr", "th", "td",
}  # fmt: skip
ATTRIBUTES: Final = {"a": {"href", "title"}, "span": {"class"}, "code": {"class"}, "ol": {"start"}}
SCHEMES: Final = {"http", "https", "mailto"}


def _coloured(code: str, language: str, attributes: str) -> str:
    lines = code.rstrip("\n").split("\n")
    tokens = highlight.tokens(f"code.{language}" if language else "", lines, language=language)
    return "\n".join(_line(text, runs) for text, runs in zip(lines, tokens, strict=True))


def _line(text: str, runs: list[highlight.Run]) -> str:
    # Token lengths are in UTF-16 units, as the page's script counts.
    units = text.encode("utf-16-le", "surrogatepass")
    parts, at = [], 0
    for name, length in runs:
        part = escape(units[at * 2 : (at + length) * 2].decode("utf-16-le", "surrogatepass"))
        parts.append(f'<span class="hl-{name}">{part}</span>' if name else part)
        at += length
    return "".join(parts) + escape(units[at * 2 :].decode("utf-16-le", "surrogatepass"))


def _lower_headings(state: StateCore) -> None:
    """The page has its own first heading."""
    for token in state.tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(int(token.tag[1]) + 1, 6)}"


BOXES: Final = {"[ ] ": "☐ ", "[x] ": "☑ ", "[X] ": "☑ "}


def _draw_boxes(state: StateCore) -> None:
    """Of lists of things to do, as they are written elsewhere. To see, not to tick."""
    for item, token in zip(state.tokens, state.tokens[2:], strict=False):
        if item.type == "list_item_open" and token.children and token.children[0].type == "text":
            text = token.children[0].content
            token.children[0].content = BOXES.get(text[:4], text[:4]) + text[4:]


_parser = MarkdownIt("commonmark", {"html": False, "breaks": True, "highlight": _coloured})
_parser.enable(["table", "strikethrough"])
_parser.core.ruler.push("lower_headings", _lower_headings)
_parser.core.ruler.push("draw_boxes", _draw_boxes)


def render(text: str) -> SafeString:
    """Headings, lists, tables, code with its colours, links; no images, no HTML of the writer's."""
    html = _parser.render(text)
    return mark_safe(nh3.clean(html, tags=TAGS, attributes=ATTRIBUTES, url_schemes=SCHEMES))
