"""vibe.server, what it does with daphne's options."""

import contextlib
import signal

from tests.servers.clients import opened
from tests.servers.processes import Site
from vibe.server import Server


def test_a_time_limit_on_responses_is_refused_for_it_would_cut_streams(caplog):
    server = Server(lambda: None, endpoints=["tcp:port=0"], http_timeout=5)
    assert server.http_timeout is None
    assert "would cut streams" in caplog.text


def test_a_stream_that_fails_on_its_way_is_cut_off(tmp_path):
    """Its client is to come back, and not to wait for ever."""
    site = Site("daphne", tmp_path)
    try:
        with opened(site.port, "/failing/a") as stream:
            while not stream.ended:
                stream.read()
            assert stream.body.startswith(b"retry: ")
            assert not stream.complete
        assert site.state()["streams"] == 0
        assert "The disk is away." in site.log.read_text()
    finally:
        site.close()


def test_hundreds_that_come_back_at_once_are_let_in(start_site):
    site = start_site("daphne")
    with contextlib.ExitStack() as stack:
        site.process.send_signal(signal.SIGSTOP)
        # While nobody accepts, a connection is made by the kernel alone, if there is room for it to wait.
        streams = [stack.enter_context(opened(site.port, "/room/a", patience=5)) for _ in range(200)]
        site.process.send_signal(signal.SIGCONT)
        for stream in streams:
            stream.until(b"\n\n")
