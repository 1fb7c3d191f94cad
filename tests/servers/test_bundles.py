"""Several streams on one connection, on each real server: each is allowed, counted, refused and ended by itself."""

import json
import uuid
from urllib.parse import urlencode

import httpx
import pytest

from tests.servers.clients import Stream, events, opened
from tests.servers.processes import Site


def address(*streams: str) -> str:
    return "/bundle?" + urlencode([("stream", one) for one in streams])


def rooms(count: int) -> list[str]:
    return [f"room/{uuid.uuid4().hex}" for _ in range(count)]


def publish(site: Site, room: str, data: str, count: int = 1) -> str:
    return site.publish(room.replace("/", ":"), data, count)


def ended(stream: Stream) -> dict[int, int | None]:
    """Which parts are over, and by which status."""
    told = [json.loads(one["data"]) for one in events(stream.body) if one.get("event") == "ended"]
    return {one["stream"]: one["status"] for one in told}


def parts(body: bytes) -> dict[int, list[str]]:
    """The messages of each part."""
    found: dict[int, list[str]] = {}
    current: list[str] = []
    for one in events(body):
        if one.get("event") == "stream":
            current = found.setdefault(int(one["data"]), [])
        elif "event" not in one:
            current.append(one["data"])
    return found


def test_each_part_follows_its_own_cursor(site):
    first, second = rooms(2)
    cursor = publish(site, first, "old")
    publish(site, second, "old")
    with opened(
        site.port, address(f"{first}?cursor={cursor}", second), headers={"Last-Event-ID": "x"}
    ) as stream:
        stream.until(b"0 old")
        publish(site, first, "new")
        publish(site, second, "newer")
        stream.until(b"0 newer")
        stream.until(b"0 new\n")
        assert parts(stream.body) == {0: ["0 new"], 1: ["0 old", "0 newer"]}
        assert stream.headers["content-type"] == "text/event-stream"
        assert site.state()["streams"] == 2
        stream.until(b"event: heartbeat")
    site.until(lambda state: state["streams"] == 0)


def test_what_is_no_stream_is_refused_alone(site):
    (room,) = rooms(1)
    asked = [room, "guarded/x", "state", "bundle?stream=room/x", "nowhere", "//[", "../room/x"]
    with opened(site.port, address(*asked)) as stream:
        publish(site, room, "hello")
        stream.until(b"0 hello")
        assert ended(stream) == {1: 403, 2: 404, 3: 404, 4: 404, 5: 404}
        assert site.state()["streams"] == 2
    assert httpx.get(site.base + address("guarded/x", "nowhere")).status_code == 403


def test_a_bundle_of_nothing_readable_is_refused_as_a_whole(site):
    (room,) = rooms(1)
    assert httpx.get(site.base + address(room), headers={"X-User": "nobody"}).status_code == 401
    assert httpx.head(site.base + address(room, "nowhere")).status_code == 200
    assert httpx.post(site.base + address(room)).status_code == 405
    for count in (0, 51):
        answer = httpx.get(site.base + address(*rooms(count)))
        assert (answer.status_code, str(count) in answer.json()["detail"]) == (400, True)
    with opened(site.port, address(*rooms(50))) as stream:
        stream.until(b"event: stream\nid\ndata: 49\n\n")


def test_a_client_that_takes_nothing_is_cut_with_all_its_parts(site):
    several = rooms(3)
    cut = site.state()["cut"]
    with opened(site.port, address(*several), receive_buffer=4096):
        site.until(lambda state: state["streams"] == 3)
        for _ in range(8):
            publish(site, several[0], "x" * 500_000, 4)
        gone = site.until(lambda state: state["streams"] == 0)
    assert gone["cut"] > cut


def test_who_may_no_longer_read_loses_every_part(site):
    leaver = f"leaver-{site.server.replace(' ', '')}"
    with opened(site.port, address(*rooms(2)), headers={"X-User": leaver}) as stream:
        stream.until(b"event: stream\nid\ndata: 1\n\n")
        httpx.get(f"{site.base}/revoke/{leaver}")
        stream.until_end()
    assert stream.complete
    assert ended(stream) == {0: None, 1: None}


@pytest.mark.parametrize("server", ["daphne", "uvicorn"])
def test_limits_count_each_part_and_the_end_is_told_to_each(start_site, server):
    site = start_site(server, max_streams_per_user=2)
    with opened(site.port, address("room/a", "room/b", "room/c")) as stream:
        stream.until(b"event: stream\nid\ndata: 1\n\n")
        assert ended(stream) == {2: 429}
        assert httpx.get(f"{site.base}/room/a").status_code == 429
        refused = httpx.get(site.base + address("room/a"))
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "5")
        site.terminate()
        stream.until_end()
        assert site.process.wait(20) == 0
    assert stream.complete and stream.body.count(b": goodbye") == 2
    assert ended(stream) == {2: 429, 0: None, 1: None}
