"""What git prints, as records; in whatever pieces it comes."""

import os
import random
import subprocess
from pathlib import Path

import pytest

from events.messages import FileDiff
from tasks.diffs.parse import Parser, UnexpectedOutput, quoted, shown
from tests.repositories import git, make_repository
from tests.tasks.diffs.state import git_says

RAW = b":100644 100644 aaa 000 M\0a\0:000000 100644 000 000 A\0b\0"
COUNTS = b"1\t0\ta\x000\t0\tb\0\0"
PATCH = (
    b"diff --git a/a b/a\nindex 1..2 100644\n--- a/a\n+++ b/a\n@@ -1 +1,2 @@\n one\n+diff --git a/x b/x\n"
    b"diff --git a/b b/b\nnew file mode 100644\nindex 0..e\n"
)


def parsed(output: bytes, sizes: list[int], limit: int = 10_000) -> list[FileDiff]:
    parser = Parser(limit)
    found = []
    for size in sizes:
        piece, output = output[:size], output[size:]
        found += parser.feed(piece)
    found += parser.feed(output)
    found += parser.close()
    return [record for _, record in found]


def test_each_record_however_the_output_is_cut() -> None:
    output = RAW + COUNTS + PATCH
    expected = [
        FileDiff("a", "@@ -1 +1,2 @@\n one\n+diff --git a/x b/x\n", "modified", additions=1),
        FileDiff("b", "", "added"),
    ]
    for cut in range(len(output)):
        assert parsed(output, [cut]) == expected
    assert parsed(output, [1] * len(output)) == expected


def test_nothing_differs() -> None:
    assert parsed(b"", []) == []


def test_output_that_ends_in_its_middle() -> None:
    with pytest.raises(UnexpectedOutput):
        parsed(RAW, [])


def test_patch_that_was_not_announced() -> None:
    with pytest.raises(UnexpectedOutput):
        parsed(RAW + COUNTS + PATCH.replace(b"a/b b/b", b"a/c b/c"), [])


def test_over_the_limit_keeps_its_counts() -> None:
    patch = PATCH.replace(b"+diff", b"+" + b"long line" * 10_000 + b"diff")
    record = parsed(RAW + COUNTS + patch, [100, 1000, 20_000], limit=1000)[0]
    assert (record.omitted, record.diff, record.additions) == ("too_large", "", 1)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"plain name", b"plain name"),
        (b'q"', rb'"q\""'),
        (b"a\\b", rb'"a\\b"'),
        (b"new\nline\ttab\x01", rb'"new\nline\ttab\001"'),
        ("ü".encode(), "ü".encode()),
        (b"\x7f", rb'"\177"'),
    ],
)
def test_names_are_quoted_as_git_does(name: bytes, expected: bytes) -> None:
    assert quoted(name) == expected


def test_names_that_are_not_utf8_are_told_apart() -> None:
    assert shown(os.fsdecode(b"caf\xe9 \xff")) == r'"caf\351 \377"'
    assert shown("café") == "café"
    assert shown('"quoted"') == '"quoted"'


@pytest.mark.parametrize("seed", range(5))
def test_real_output_of_git_in_random_pieces(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    repository = make_repository(tmp_path / "r", {f"f{n}": f"{n}\n" * 5 for n in range(12)})
    for name in chance.sample(range(12), 5):
        (repository / f"f{name}").write_text(
            "diff --git a/x b/x\n@@ -1 +1 @@\n\0" if name % 3 == 0 else "new\r\n"
        )
    (repository / "f11").rename(repository / "moved here")
    git(repository, "add", "-A")
    expected = git_says(repository, "HEAD")
    command = ["git", "diff", "--raw", "--numstat", "--patch", "-z", "-M", "HEAD"]
    output = subprocess.run(command, cwd=repository, capture_output=True, check=True).stdout
    sizes = [chance.randrange(1, 40) for _ in range(len(output) // 20)]
    assert {record.file: record.as_dict() for record in parsed(output, sizes)} == expected
