"""The sockets of this process, found by their other ends."""

import os
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from events import sockets


@contextmanager
def room_for(descriptors: int) -> Iterator[None]:
    """This process may open so many more files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1 + descriptors, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_looking_at_many_takes_no_room_from_others():
    with ExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=50))
        far = [stack.enter_context(socket.create_connection(listening.getsockname())) for _ in range(30)]
        near = [stack.enter_context(listening.accept()[0]) for _ in far]
        clients = {one.getsockname() for one in far}
        with room_for(5):
            assert sockets.unanswered(clients, 1) == set()
            assert sockets.abort(clients) == len(clients)
        assert all(one.recv(1) == b"" for one in near)
