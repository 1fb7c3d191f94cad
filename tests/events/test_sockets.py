"""The sockets of this process, found by their other ends."""

import socket
from contextlib import ExitStack

from events import sockets
from tests.descriptors import room_for


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
