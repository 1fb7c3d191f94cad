"""The colours of code: lines in, runs of token kinds out. The page makes elements of them; no HTML is made here."""

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

logger = logging.getLogger("tasks")

Run = tuple[str, int]
"""A kind (`comment`, `keyword`, …, or "" for plain) and a length in UTF-16 units, as JavaScript counts."""

LONGEST_LINE: Final = 2_000
LARGEST_BLOCK: Final = 100_000
CPU_SECONDS: Final = 3.0
"""For one text. The largest takes a tenth of it."""
_PROGRAM: Final = Path(__file__).resolve().parent / "highlighter.py"


def tokens(filename: str, lines: Sequence[str], language: str = "") -> list[list[Run]]:
    """For each line its runs, adjacent ones of one kind joined; [] for all where the language is not known.

    Code that is very large, or has very long lines, stays plain: its cost would be anybody's guess.
    """
    # The lexer would turn the one into a line end and drop the other.
    text = "\n".join(lines).replace("\r", " ").replace("\ufeff", " ")
    if len(text) > LARGEST_BLOCK or any(len(line) > LONGEST_LINE for line in lines):
        return [[] for _ in lines]
    coloured = _highlighter.ask({"file": filename, "language": language, "text": text})
    # Some lexers drop or add a line at the end.
    return (coloured + [[] for _ in lines])[: len(lines)]


class Highlighter:
    """The process that colours for all of this one: begun when it is first asked, and ended by the end of its pipe."""

    def __init__(self, cpu_seconds: float) -> None:
        self._cpu_seconds = cpu_seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._unused: list[str] = []

    def ask(self, question: dict[str, str]) -> list[list[Run]]:
        """Runs for each line; none at all where the lexer came to no end, which is not used again then."""
        with self._lock:
            lexer = None
            try:
                lexer = self._tell(question)
                return [[(kind, length) for kind, length in line] for line in self._answer()]
            except (EOFError, BrokenPipeError):
                self._end()
                if lexer is not None:
                    self._unused.append(lexer)
                    logger.warning("Colouring %s came to no end: it stays plain until the next start.", lexer)
                return []

    def _tell(self, question: dict[str, str]) -> str | None:
        """The lexer that colours it."""
        if self._process is None or self._process.poll() is not None:
            command = [sys.executable, "-I", str(_PROGRAM), str(self._cpu_seconds), *self._unused]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question).encode() + b"\n")
        self._process.stdin.flush()
        lexer: str | None = self._answer()
        return lexer

    def _answer(self) -> Any:
        assert self._process is not None and self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.endswith(b"\n"):
            raise EOFError
        return json.loads(line)

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


_highlighter: Final = Highlighter(CPU_SECONDS)
