"""SIGTERM: every client is told, nothing hangs, and the next process goes on."""

import contextlib
import resource

import pytest

from tests.scale import scaled
from tests.servers.clients import opened
from tests.servers.processes import SERVERS


@pytest.mark.parametrize("server", [*SERVERS, "stock daphne"])
def test_every_client_gets_a_farewell_and_the_process_ends_well(start_site, server):
    count = scaled(1000, 100)
    _allow_files(count + 500)
    site = start_site(server)
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(opened(site.port, "/room/a")) for _ in range(count)]
        for stream in streams:
            stream.until(b"\n\n")
        site.terminate()
        for stream in streams:
            stream.until_end()
        assert site.process.wait(20) == 0
    assert all(stream.complete and b": goodbye" in stream.body for stream in streams)
    retries = {stream.body.rpartition(b"retry: ")[2].split(b"\n")[0] for stream in streams}
    assert len(retries) > count / 4, "they would all come back at the same moment"


@pytest.mark.parametrize("server", SERVERS)
def test_a_second_signal_changes_nothing(start_site, server):
    site = start_site(server)
    with opened(site.port, "/room/a") as stream:
        stream.until(b"\n\n")
        site.terminate()
        # Not at once: granian sets an event in its handler, and waits for ever where a signal comes while it does so.
        stream.until(b": goodbye")
        site.terminate()
        assert site.process.wait(20) in (0, -15)


def _allow_files(wanted: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
