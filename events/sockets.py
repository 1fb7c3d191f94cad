"""The sockets under the streams, which ASGI does not show.

A server's own idea of closing a connection is to write out first what is still buffered; to a client that takes
nothing, that is never. And a client that vanished without a goodbye (a lost network, a closed laptop) is
noticed by the kernel after a quarter of an hour. So the descriptors of this process are searched for the sockets
whose other ends are the clients in question. Where the other end is a proxy that names its clients in a header,
nothing is found, and the proxy knows its own dead. The searching takes milliseconds: call it in a thread.
"""

import os
import socket
import stat
import struct
from collections.abc import Collection, Iterator
from contextlib import suppress

Client = tuple[str, int]
"""Address and port of the other end."""

_DESCRIPTORS = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"
# struct tcp_info of linux/tcp.h: eight bytes, then 32-bit words.
_INFO = struct.Struct("=8B13I")
_RETRANSMITS, _UNACKED, _LAST_ACK = 2, 12, 20


def abort(clients: Collection[Client]) -> int:
    """Drops the connections to these clients at once, with what is buffered for them; how many were found."""
    found = 0
    for _, one in _sockets(clients):
        found += 1
        with suppress(OSError):  # It went by itself meanwhile.
            # Otherwise the kernel keeps what the client never took, after the close, for minutes.
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            one.shutdown(socket.SHUT_RDWR)
    return found


def unanswered(clients: Collection[Client], seconds: float) -> set[Client]:
    """Those to whom something was sent, and sent again, and who have acknowledged nothing for this long.

    One that is only slow still acknowledges; it is not among them.
    """
    found = set()
    for client, one in _sockets(clients):
        with suppress(OSError):
            info = _INFO.unpack(one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size))
            if info[_UNACKED] and info[_RETRANSMITS] and info[_LAST_ACK] > seconds * 1000:
                found.add(client)
    return found


def _sockets(clients: Collection[Client]) -> Iterator[tuple[Client, socket.socket]]:
    """The sockets connected to these clients, each as a duplicate that is open for one step only: there may be as many
    as the process may open files."""
    for name in os.listdir(_DESCRIPTORS):
        one = _duplicate(int(name))
        if one is None:
            continue
        with one:
            try:
                client = one.getpeername()[:2]
            except OSError:  # It listens, or is not connected any more.
                continue
            if client in clients:
                yield client, one


def _duplicate(descriptor: int) -> socket.socket | None:
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return None
        copy = os.dup(descriptor)
    except OSError:  # It was closed since the folder was read.
        return None
    try:
        found = socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        return None
    if found.family in (socket.AF_INET, socket.AF_INET6) and found.type == socket.SOCK_STREAM:
        return found
    found.close()
    return None
