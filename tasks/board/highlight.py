"""The colours of code: lines in, runs of token kinds out. The page makes elements of them; no HTML is made here."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

from pygments.lexer import Lexer
from pygments.lexers import get_lexer_by_name, get_lexer_for_filename
from pygments.token import Comment, Keyword, Literal, Name, Number, Operator, String, _TokenType
from pygments.util import ClassNotFound

Run = tuple[str, int]
"""A kind (a key of KINDS' values, or "" for plain) and a length in UTF-16 units, as JavaScript counts."""

LONGEST_LINE: Final = 2_000
LARGEST_BLOCK: Final = 100_000
MOST_ESCAPES: Final = 16

# In a string that nothing closes, the patterns of these lexers try two ways at each character, and those of the second
# set at each backslash: thirty take hours, and hold the interpreter, so all of the server, all the while.
_NEVER_END: Final = frozenset({"fancy", "maple", "rita", "smithy", "urbiscript"})
_ESCAPES: Final = frozenset(
    {"ansys", "cddl", "chapel", "factor", "fish", "ncl", "pan", "registry", "rego", "rell", "scala", "tcsh"}
)

KINDS: Final = {
    Comment: "comment",
    Keyword.Type: "type",
    Keyword: "keyword",
    Name.Function: "function",
    Name.Class: "type",
    Name.Namespace: "plain",
    Name.Builtin: "builtin",
    Name.Exception: "type",
    Name.Decorator: "meta",
    Name.Tag: "keyword",
    Name.Attribute: "attribute",
    Name.Variable: "variable",
    Name.Constant: "constant",
    Number: "constant",
    String.Doc: "comment",
    String: "string",
    Literal: "constant",
    Operator.Word: "keyword",
    Operator: "operator",
}


def tokens(filename: str, lines: Sequence[str], language: str = "") -> list[list[Run]]:
    """For each line its runs, adjacent ones of one kind joined; [] for all where the language is not known.

    Code that is very large, or has very long lines, stays plain: its cost would be anybody's guess.
    """
    lexer = _lexer(filename, language)
    # The lexer would turn the one into a line end and drop the other.
    text = "\n".join(lines).replace("\r", " ").replace("\ufeff", " ")
    if lexer is None or _is_too_much(lexer, text) or any(len(line) > LONGEST_LINE for line in lines):
        return [[] for _ in lines]
    coloured = _split(lexer.get_tokens(text))
    # Some lexers drop or add a line at the end.
    return (coloured + [[] for _ in lines])[: len(lines)]


def _is_too_much(lexer: Lexer, text: str) -> bool:
    names = lexer.aliases
    many = len(text) > LARGEST_BLOCK or (not _ESCAPES.isdisjoint(names) and text.count("\\") > MOST_ESCAPES)
    return many or not _NEVER_END.isdisjoint(names)


@lru_cache(maxsize=256)
def _lexer(filename: str, language: str) -> Lexer | None:
    # Each block ends with a line end: without one, the lexer of Python's tracebacks, among others, never ends.
    # Code within Markdown stays plain: it would be given to any lexer there is.
    options = {"stripnl": False, "ensurenl": True, "handlecodeblocks": False}
    try:
        if language:
            return get_lexer_by_name(language, **options)
        return get_lexer_for_filename(filename, **options)
    except ClassNotFound:
        return None


def _split(found: Iterable[tuple[_TokenType, str]]) -> list[list[Run]]:
    lines: list[list[Run]] = [[]]
    for token, value in found:
        kind = _kind(token)
        for number, part in enumerate(value.split("\n")):
            if number:
                lines.append([])
            if part:
                _add(lines[-1], kind, _units(part))
    return lines


def _add(line: list[Run], kind: str, length: int) -> None:
    if line and line[-1][0] == kind:
        line[-1] = (kind, line[-1][1] + length)
    else:
        line.append((kind, length))


@lru_cache(maxsize=512)
def _kind(token: _TokenType) -> str:
    current: _TokenType | None = token
    while current is not None:
        if current in KINDS:
            kind = KINDS[current]
            return "" if kind == "plain" else kind
        current = current.parent
    return ""


def _units(text: str) -> int:
    return len(text) + sum(character > "\uffff" for character in text)
