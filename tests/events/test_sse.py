"""The wire format, read back as the specification says."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events import sse


def parse(body: bytes) -> list[dict[str, str]]:
    """The events of a body, by the algorithm of the HTML standard, for complete events only."""
    found, data, last_id, kind = [], [], "", ""
    for line in re.split("\r\n|\r|\n", body.decode()):
        if not line:
            if data:
                found.append({"data": "\n".join(data), "id": last_id, "event": kind or "message"})
            data, kind = [], ""
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            data.append(value)
        elif name == "event":
            kind = value
        elif name == "id" and "\0" not in value:
            last_id = value
    return found


def test_a_frame_has_its_id_and_data_together():
    assert sse.frame(b'{"a":1}', "e.1") == b'id: e.1\ndata: {"a":1}\n\n'


def test_a_named_frame():
    assert sse.frame(b"{}", event="ready") == b"event: ready\ndata: {}\n\n"


@given(st.text(alphabet=st.characters(blacklist_categories=["Cs"])) | st.text("\r\n: a"))
def test_any_text_comes_back_with_its_lines(text):
    (event,) = parse(sse.frame(text.encode(), "x.1"))
    assert event["data"] == re.sub("\r\n|\r", "\n", text)
    assert event["id"] == "x.1"


@given(
    st.recursive(st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(), lambda x: st.lists(x))
)
def test_any_json_comes_back_from_one_line(value):
    body = sse.json_frame(value, "x.1")
    assert body.count(b"\ndata: ") == 1
    assert json.loads(parse(body)[0]["data"]) == value


def test_the_priming_block_sets_the_id_and_dispatches_nothing():
    body = sse.prime("e.start", 1234)
    assert body == b"retry: 1234\nid: e.start\n\n"
    assert parse(body) == []
    assert parse(body + sse.frame(b"x"))[0]["id"] == "e.start"


def test_the_heartbeat_is_a_comment_and_an_event_without_an_id():
    assert sse.HEARTBEAT.startswith(b": ")
    assert parse(sse.frame(b"x", "e.1") + sse.HEARTBEAT)[1] == {
        "data": "{}",
        "id": "e.1",
        "event": "heartbeat",
    }


def test_retries_are_spread():
    assert len({sse.farewell() for _ in range(100)}) > 50
    assert all(500 <= int(sse.farewell().split()[1]) < 4000 for _ in range(100))


@pytest.mark.parametrize(
    ("raw", "clean"), [(None, None), ("", None), ("ab.12", "ab.12"), ("a:b~c-d_e", "a:b~c-d_e")]
)
def test_a_cursor_as_it_was_given(raw, clean):
    assert sse.clean_cursor(raw) == clean


@pytest.mark.parametrize("raw", ["a b", "a\nb", "a\0", "ü", "x" * 101, "<script>", "a\n"])
def test_what_is_no_cursor_is_invalid_and_not_absent(raw):
    assert sse.clean_cursor(raw) == sse.INVALID_CURSOR
