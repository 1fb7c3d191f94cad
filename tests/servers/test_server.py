"""vibe.server, what it does with daphne's options."""

from vibe.server import Server


def test_a_time_limit_on_responses_is_refused_for_it_would_cut_streams(caplog):
    server = Server(lambda: None, endpoints=["tcp:port=0"], http_timeout=5)
    assert server.http_timeout is None
    assert "would cut streams" in caplog.text
