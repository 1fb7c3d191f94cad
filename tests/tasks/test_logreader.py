"""Reading and searching a log, plain and compressed."""

import json
import random
from pathlib import Path

import pytest

from tasks.supervision.logreader import BLOCK, LineIndex, LogReader, compress
from tasks.supervision.records import record
from tasks.supervision.search import matcher, search

STAMP = "2026-01-01T00:00:00.000000Z"


def write(folder: Path, contents: list[str]) -> bytes:
    folder.mkdir(exist_ok=True)
    data = b"".join(record("stdout", content, STAMP) for content in contents)
    (folder / "log.jsonl").write_bytes(data)
    return data


@pytest.fixture(params=["plain", "compressed"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, bytes, list[str]]:
    """About four megabytes with lines of very different lengths."""
    chance = random.Random(1)
    contents = [f"{number} " + "é" * chance.choice([0, 5, 60, 2000]) for number in range(4000)]
    contents[1500] = "long " + "x" * (BLOCK * 2)
    folder = tmp_path / "run"
    data = write(folder, contents)
    if request.param == "compressed":
        compress(folder)
        assert not (folder / "log.jsonl").exists()
    return folder, data, contents


def test_it_reads_the_same_bytes_from_any_place(log: tuple[Path, bytes, list[str]]) -> None:
    folder, data, _ = log
    reader, chance = LogReader(folder), random.Random(2)
    assert reader.size() == reader.end() == len(data)
    for _ in range(50):
        start, count = chance.randrange(len(data)), chance.randrange(1, BLOCK * 3)
        assert reader.read(start, count) == data[start : start + count]


def test_lines_are_whole_and_make_up_the_log(log: tuple[Path, bytes, list[str]]) -> None:
    folder, data, _ = log
    reader, position, parts = LogReader(folder), 0, []
    while part := reader.lines(position, 10_000):
        assert part.endswith(b"\n")
        parts.append(part)
        position += len(part)
    assert b"".join(parts) == data


def test_any_line_is_found_by_its_number(log: tuple[Path, bytes, list[str]]) -> None:
    folder, _, contents = log
    reader = LogReader(folder)
    index = LineIndex(reader)
    assert index.total() == len(contents)
    for number in (0, 1, 1499, 1500, 1501, 2222, len(contents) - 1):
        offset = index.offset(number)
        assert json.loads(reader.lines(offset).splitlines()[0])["content"] == contents[number]
    assert index.offset(len(contents)) == reader.size()


def test_a_packed_log_is_not_unpacked_to_find_a_line(tmp_path: Path) -> None:
    contents = [f"{number} " + "x" * 1000 for number in range(4000)]
    write(tmp_path, contents)
    plain = LineIndex(LogReader(tmp_path))
    expected = [plain.offset(number) for number in range(0, 4000, 100)]
    compress(tmp_path)
    packed = tmp_path / "log.jsonl.gz"
    first = json.loads((tmp_path / "log.jsonl.gz.index").read_text())["places"][1]
    packed.write_bytes(b"\0" * first + packed.read_bytes()[first:])  # what is not looked at may be broken
    index = LineIndex(LogReader(tmp_path))
    assert [index.offset(number) for number in range(1200, 4000, 100)] == expected[12:]


def test_going_back_by_lines(log: tuple[Path, bytes, list[str]]) -> None:
    folder, data, contents = log
    reader, index = LogReader(folder), LineIndex(LogReader(folder))
    for count in (0, 1, 2, 2499, 2501, len(contents), len(contents) + 5):
        assert reader.back(len(data), count) == index.offset(max(0, len(contents) - count))


def test_half_a_record_does_not_exist_yet(tmp_path: Path) -> None:
    data = write(tmp_path, ["one", "two"])
    with (tmp_path / "log.jsonl").open("ab") as file:
        file.write(b'{"type":"stdout","content":"thr')
    reader = LogReader(tmp_path)
    assert reader.end() == len(data)
    assert reader.lines(0) == data
    assert reader.lines(len(data)) == b""
    assert LineIndex(reader).total() == 2


def test_an_index_follows_a_growing_log(tmp_path: Path) -> None:
    contents = ["x" * 500] * 600
    write(tmp_path, contents)
    index = LineIndex(LogReader(tmp_path))
    assert index.total() == 600
    write(tmp_path, contents * 5)
    assert index.total() == 3000
    write(tmp_path, contents)
    assert index.total() == 600, "a log that was cut is counted afresh"


def test_no_log_is_an_empty_log(tmp_path: Path) -> None:
    reader = LogReader(tmp_path / "nothing")
    assert (reader.size(), reader.end(), reader.lines(0), reader.back(0, 5)) == (0, 0, b"", 0)


# -- search ------------------------------------------------------------------------------------


def lines_found(folder: Path, query: str, **options: bool) -> list[int]:
    return [hit["line"] for hit in search(str(folder), query, **options) if "line" in hit]


def test_search_finds_every_line_and_says_where_it_is(log: tuple[Path, bytes, list[str]]) -> None:
    folder, _, contents = log
    assert lines_found(folder, "1234") == [i for i, text in enumerate(contents) if "1234" in text]
    assert lines_found(folder, "ÉÉÉ") == [i for i, text in enumerate(contents) if "ééé" in text]
    assert lines_found(folder, "ÉÉÉ", case=True) == []
    assert lines_found(folder, r"^39\d\d ", regex=True) == list(range(3900, 4000))


def test_search_looks_through_colours_quotes_and_backslashes(tmp_path: Path) -> None:
    write(tmp_path, ["say \x1b[1;31mre\x1b[0md", 'a "quoted" word', "back\\slash", "tab\there", "nothing"])
    assert lines_found(tmp_path, "RED") == [0]
    assert lines_found(tmp_path, '"quoted"') == [1]
    assert lines_found(tmp_path, "k\\s") == [2]
    assert lines_found(tmp_path, "tab\there") == [3]


def test_search_tells_how_far_it_is_and_when_it_stops_early(tmp_path: Path) -> None:
    data = write(tmp_path, ["hit"] * 100)
    found = list(search(str(tmp_path), "hit", most=10))
    assert found[-1] == {"done": True, "hits": 10, "truncated": True}
    found = list(search(str(tmp_path), "miss"))
    assert found == [
        {"scanned": len(data), "total": len(data)},
        {"done": True, "hits": 0, "truncated": False},
    ]


def test_a_hit_in_a_huge_line_shows_its_surroundings_only(tmp_path: Path) -> None:
    write(tmp_path, ["a" * 100_000 + "needle" + "b" * 100_000])
    hit = next(search(str(tmp_path), "needle"))
    assert "needle" in hit["content"] and len(hit["content"]) < 1000


def test_a_bad_expression_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'\(' is no regular expression"):
        matcher("(", regex=True, case=False)
