"""Clients that take nothing, or are no more: what they cost, and when they go."""

import contextlib
import statistics
import time

import pytest

from tests.scale import SOAK, scaled
from tests.servers.clients import Stream, opened
from tests.servers.processes import SERVERS

MEGABYTE = 1024**2


@pytest.mark.parametrize("server", ["daphne command", "uvicorn", "granian"])
def test_a_client_that_reads_nothing_costs_little_and_is_cut(start_site, server):
    site = start_site(server, heartbeat=2, send_timeout=3, buffer=4 * MEGABYTE)
    before = site.state()["resident"]
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(opened(site.port, "/room/a", receive_buffer=4096))
        site.until(lambda state: state["streams"] == 20)
        for _ in range(20):
            site.publish("room:a", "x" * 60_000, 50)
        # Sixty megabytes were published; without backpressure each of the twenty would hold them.
        assert site.state()["resident"] - before < 60 * MEGABYTE
        gone = site.until(lambda state: state["streams"] == 0)
    assert gone["cut"] == 20


@pytest.mark.parametrize("server", SERVERS)
def test_a_client_that_vanished_goes_within_two_heartbeats(start_site, server):
    heartbeat = 2
    site = start_site(server, heartbeat=heartbeat, send_timeout=60)
    with opened(site.port, "/room/a") as live, opened(site.port, "/room/a") as gone:
        live.until(b"\n\n")
        gone.until(b"\n\n")
        gone.go_silent()
        started = time.monotonic()
        site.until(lambda state: state["streams"] == 1)
        # Some seconds for the kernel to try again, and for a loaded machine.
        assert time.monotonic() - started < 2 * heartbeat + 5
        live.until(b"event: heartbeat")
        assert site.state()["streams"] == 1


def test_stuck_clients_delay_nobody(start_site):
    """A hundred that read nothing beside a hundred that do: the live ones' latency stays what it was."""
    site = start_site("daphne", send_timeout=60, buffer=8 * MEGABYTE)
    count = scaled(100, 20)
    with contextlib.ExitStack() as stack:
        live = [stack.enter_context(opened(site.port, "/room/a")) for _ in range(count)]
        for stream in live:
            stream.until(b"\n\n")
        alone = _worst(site, live)
        for _ in range(count):
            stack.enter_context(opened(site.port, "/room/a", receive_buffer=4096))
        site.until(lambda state: state["streams"] == 2 * count)
        for _ in range(50):
            site.publish("room:a", "x" * 20_000)
            for stream in live:
                stream.until(b"x" * 20_000)
                stream.body = b""
        beside = _worst(site, live)
    # All arrived. How much later is a figure of the full run: a short one, beside other tests, has too few samples.
    if SOAK:
        assert beside <= alone * 1.5 + 0.005, (alone, beside)


def _worst(site, live: list[Stream]) -> float:
    """Seconds until a message has reached all of them: 99 of 100 rounds are faster."""
    rounds = []
    for number in range(scaled(300, 40)):
        mark = f"mark-{number}".encode()
        started = time.perf_counter()
        site.publish("room:a", mark.decode())
        for stream in live:
            stream.until(mark)
            stream.body = b""
        rounds.append(time.perf_counter() - started)
    return statistics.quantiles(rounds, n=100)[98]
