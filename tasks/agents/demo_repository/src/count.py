"""Prints the most frequent words of a file."""

import sys
from pathlib import Path

from util import words


def top(text: str, limit: int = 10) -> list[tuple[str, int]]:
    counts: dict[str, int] = {}
    for word in words(text):
        counts[word] = counts.get(word, 0) + 1
    return sorted(counts.items(), key=lambda pair: -pair[1])[:limit]


if __name__ == "__main__":
    for word, count in top(Path(sys.argv[1]).read_text()):
        print(f"{count:4d} {word}")
