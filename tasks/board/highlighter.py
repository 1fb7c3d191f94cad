"""Colours code: `python -I tasks/board/highlighter.py CPU_SECONDS [LEXER…]`, a question a line on stdin.

All is JSON. A question is `{"file", "language", "text"}`, the answer two lines: the name of the lexer, or null where
there is none or it is one of the command line's, which stay unused; then for each line of the text its runs.

It is a program of its own because some of Pygments' patterns try two ways at each character of a string that nothing
closes: thirty take hours, and hold the interpreter all the while. The kernel ends it when one text takes longer than
CPU_SECONDS, and nothing else with it.
"""

import json
import signal
import sys
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final

from pygments.lexer import Lexer
from pygments.lexers import get_lexer_by_name, get_lexer_for_filename
from pygments.token import Comment, Keyword, Literal, Name, Number, Operator, String, _TokenType
from pygments.util import ClassNotFound

Run = tuple[str, int]

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


def main(cpu_seconds: float, unused: list[str]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # A terminal tells it too; it ends with the server's pipe.
    for question in sys.stdin.buffer:
        asked = json.loads(question)
        signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
        lexer = _lexer(asked["file"], asked["language"])
        if lexer is None or lexer.name in unused:
            _say(None)
            _say([])
        else:
            _say(lexer.name)
            _say(_split(lexer.get_tokens(asked["text"])))
        signal.setitimer(signal.ITIMER_PROF, 0)


def _say(answer: Any) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


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


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2:])
