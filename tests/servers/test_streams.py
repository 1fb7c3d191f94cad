"""The same on each real server: what a stream is to a client, and what it costs the process."""

import contextlib
import uuid

import httpx
import pytest

from tests.servers.clients import Stream, events, last_id, messages, opened


@pytest.fixture
def room() -> str:
    return f"/room/{uuid.uuid4().hex}"


def stream_id(room: str) -> str:
    return "room:" + room.removeprefix("/room/")


def test_the_first_bytes_go_out_at_once(site, room):
    with opened(site.port, room) as stream:
        body = stream.until(b"\n\n", timeout=5)
    assert stream.status == 200
    assert body.startswith(b"retry: ") and b"\nid: " in body
    assert stream.headers["content-type"] == "text/event-stream"
    assert stream.headers["cache-control"] == "no-cache, no-transform"
    assert stream.headers["x-accel-buffering"] == "no"


def test_a_stream_is_never_compressed(site, room):
    with opened(site.port, room, headers={"Accept-Encoding": "gzip, br"}) as stream:
        site.publish(stream_id(room), "x" * 5000)
        stream.until(b"xxxx")
    assert "content-encoding" not in stream.headers


def test_messages_arrive_in_order_with_ids(site, room):
    with opened(site.port, room) as stream:
        stream.until(b"id: ")
        site.publish(stream_id(room), "hello", 500)
        body = stream.until(b"499 hello")
    assert messages(body) == [f"{n} hello" for n in range(500)]
    ids = [event["id"] for event in events(body) if "event" not in event]
    assert len(set(ids)) == 500


def test_the_last_id_resumes_exactly_and_the_header_wins(site, room):
    with opened(site.port, room) as stream:
        site.publish(stream_id(room), "a", 3)
        cursor = last_id(stream.until(b"data: 2 a\n\n"))
    latest = site.publish(stream_id(room), "b", 2)
    for path, headers in (
        (f"{room}?cursor={cursor}", {}),
        (room, {"Last-Event-ID": cursor}),
        (f"{room}?cursor={latest}", {"Last-Event-ID": cursor}),
    ):
        with opened(site.port, path, headers=headers) as stream:
            assert messages(stream.until(b"1 b")) == ["0 b", "1 b"]


def test_the_priming_id_loses_nothing(site, room):
    """The line is lost after the first bytes and before the first message."""
    site.publish(stream_id(room), "a")
    with opened(site.port, room) as stream:
        primed = last_id(stream.until(b"\n\n").split(b"data")[0].rpartition(b"\n\n")[0] + b"\n")
    with opened(site.port, room, headers={"Last-Event-ID": primed}) as stream:
        assert messages(stream.until(b"0 a")) == ["0 a"]


@pytest.mark.parametrize("cursor", ["garbage", "%00%ff", "a" * 5000, "00000000.7", "0"])
def test_a_cursor_that_is_not_known_starts_over(site, room, cursor):
    site.publish(stream_id(room), "a", 2)
    with opened(site.port, f"{room}?cursor={cursor}") as stream:
        body = stream.until(b"1 a\n\n")
    told = [event for event in events(body) if event.get("event") != "heartbeat"]
    assert [event.get("event") for event in told] == ["reset", None, None]
    assert all(event["id"] for event in told)


def test_head_is_headers_and_the_end(site, room):
    with opened(site.port, room, method="HEAD", headers={"Connection": "close"}) as stream:
        assert stream.until_end() == b""
        assert (stream.status, stream.headers["content-type"]) == (200, "text/event-stream")
        assert site.state()["streams"] == 0


def test_only_get_and_who_may(site, room):
    assert httpx.post(site.base + room).status_code == 405
    answer = httpx.get(site.base + room, headers={"X-User": "nobody"})
    assert answer.status_code == 401
    assert answer.json()["detail"]


def test_a_decorator_keeps_its_say(site, room):
    guarded = room.replace("/room/", "/guarded/")
    assert httpx.get(site.base + guarded).status_code == 403
    with opened(site.port, guarded, headers={"X-Word": "please"}) as stream:
        site.publish(stream_id(room), "a")
        assert messages(stream.until(b"0 a")) == ["0 a"]


def test_a_heartbeat_comes_in_time_and_moves_no_cursor(site, room):
    with opened(site.port, room) as stream:
        site.publish(stream_id(room), "a")
        cursor = last_id(stream.until(b"0 a"))
        stream.until(b"event: heartbeat")
        body = stream.until(b": heartbeat\n")
    assert last_id(body) == cursor
    assert {"event": "heartbeat", "data": "{}"} in events(body)


def test_idle_streams_hold_no_thread_and_no_database_connection(site, room):
    before = site.state()
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(opened(site.port, room)) for _ in range(60)]
        for stream in streams:
            stream.until(b"\n\n")
        held = site.until(lambda state: state["databases"] == 0)
    assert held["streams"] == 60
    assert held["os_threads"] <= before["os_threads"] + 6


def test_a_client_that_leaves_is_cleaned_up_at_once(site, room):
    streams = [Stream(site.port, room) for _ in range(20)]
    for number, stream in enumerate(streams):
        if number % 2:  # Some leave before the answer has come.
            stream.until(b"\n\n")
    for stream in streams:
        stream.close()
    site.until(lambda state: state["streams"] == 0)
