"""How many streams there may be, and for how long one may read."""

import httpx

from tests.servers.clients import opened


def test_over_the_limit_is_429_with_a_time_to_come_back(start_site):
    site = start_site("daphne", max_streams_per_user=3, max_streams=5)

    def open_as(name):
        stream = opened(site.port, "/room/a", headers={"X-User": name})
        stream.__enter__().until(b"\n\n")
        return stream

    mine = [open_as("me") for _ in range(3)]
    refused = httpx.get(f"{site.base}/room/a", headers={"X-User": "me"})
    assert (refused.status_code, refused.reason_phrase) == (429, "Too Many Requests")
    assert int(refused.headers["Retry-After"]) > 0
    assert "3 streams" in refused.json()["detail"]
    others = [open_as("you"), open_as("them")]
    assert httpx.get(f"{site.base}/room/a", headers={"X-User": "they"}).status_code == 429
    for stream in mine:
        stream.__exit__(None, None, None)
    site.until(lambda state: state["streams"] == 2)
    again = open_as("me")
    for stream in (*others, again):
        stream.__exit__(None, None, None)


def test_who_may_no_longer_read_is_gone_within_a_heartbeat(start_site):
    site = start_site("daphne", heartbeat=2)
    with (
        opened(site.port, "/room/a", headers={"X-User": "leaver"}) as leaver,
        opened(site.port, "/room/a", headers={"X-User": "stayer"}) as stayer,
    ):
        leaver.until(b"\n\n")
        stayer.until(b"\n\n")
        httpx.get(f"{site.base}/revoke/leaver")
        # At the next heartbeat, instead of it. One may be under way.
        assert leaver.beats_until_end() <= 1
        site.publish("room:a", "still")
        stayer.until(b"0 still")
