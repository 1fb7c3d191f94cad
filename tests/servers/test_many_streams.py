"""Thousands of open streams in one process: no thread each, no database connection, little memory."""

import contextlib
import resource
import statistics
import time

from tests.scale import scaled
from tests.servers.clients import opened

KILOBYTE = 1024


def test_idle_streams_are_cheap_and_pages_stay_quick(start_site):
    count = scaled(10_000, 400)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(count + 1000, hard), hard))
    site = start_site("daphne", heartbeat=15)
    alone = _page_seconds(site)
    with contextlib.ExitStack() as stack:
        warm = [stack.enter_context(opened(site.port, "/room/a")) for _ in range(50)]
        for stream in warm:
            stream.until(b"\n\n")
        before = site.state()
        for number in range(count):
            # A source address has some 28,000 ports.
            source = f"127.0.0.{1 + number // 20_000}"
            stream = stack.enter_context(opened(site.port, "/room/a", source=source))
            stream.until(b"\n\n")
        held = site.until(lambda state: state["streams"] == count + 50 and state["databases"] == 0)
        beside = _page_seconds(site)
        site.publish("room:a", "all")
        for stream in warm:
            stream.until(b"0 all")
    each = (held["resident"] - before["resident"]) / count / KILOBYTE
    assert held["os_threads"] <= before["os_threads"] + 6
    assert each <= 30, f"{each:.1f} KB a stream"
    assert beside < alone + 0.1, (alone, beside)


def _page_seconds(site) -> float:
    """Seconds that a request takes, in the median."""
    seconds = []
    for _ in range(20):
        started = time.perf_counter()
        site.http.get("/state", headers={"Connection": "close"})
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)
