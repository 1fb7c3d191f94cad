"""The load generator: many readers in one process, and two ways of knowing that it is not what is measured.

- It reads whatever has come, up to a megabyte at a time, and counts marks in the bytes. Were it slow, bytes would
  gather in the sockets and each of its reads would carry more: its cost grows with bytes, hardly with messages.
  `limit` measures what it takes in when bytes are always there, and `busy` says what share of the time it worked.
- Latencies end at the moment at which the kernel received the bytes (SO_TIMESTAMPNS), not at which Python saw them.
"""

import resource
import select
import socket
import struct
import threading
import time
from dataclasses import dataclass, field

from benchmarks.pace import LAST, MARK

_SO_TIMESTAMPNS = 35
_TIMESPEC = struct.Struct("qq")
_READ = 1 << 20
_PAUSE = 0.002
"""Between two rounds of reading, where only throughput counts: what came meanwhile is read at one go."""


@dataclass
class Result:
    seconds: float
    messages: int
    """By all readers together."""
    complete: int
    """Readers that got the last message."""
    busy: float
    """The generator's share of one processor."""
    latencies: list[float] = field(default_factory=list)
    """Seconds."""


def allow_files(wanted: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(wanted, soft), hard), hard))


class Readers:
    """Open connections to one address, all read by one epoll."""

    def __init__(self, port: int, path: str, headers: dict[str, str], stamped: bool = False) -> None:
        lines = [f"GET {path} HTTP/1.1", "Host: localhost", "Accept: text/event-stream"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._request = ("\r\n".join(lines) + "\r\n\r\n").encode()
        self._port = port
        self._stamped = stamped
        self._epoll = select.epoll()
        self.sockets: dict[int, socket.socket] = {}

    def _begin(self) -> int:
        one = socket.socket()
        if self._stamped:
            one.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        one.connect(("127.0.0.1", self._port))
        one.sendall(self._request)
        one.setblocking(False)
        self.sockets[one.fileno()] = one
        self._epoll.register(one.fileno(), select.EPOLLIN)
        return one.fileno()

    def connect(self, count: int, at_once: int = 50) -> float:
        """Opens streams until each has its first bytes; returns the seconds."""
        started = time.perf_counter()
        waiting = {self._begin() for _ in range(min(at_once, count))}
        begun = len(waiting)
        while waiting:
            for descriptor, _ in self._epoll.poll(60):
                if descriptor in waiting and b"\r\n\r\n" in self.sockets[descriptor].recv(_READ):
                    waiting.discard(descriptor)
                    if begun < count:
                        waiting.add(self._begin())
                        begun += 1
        return time.perf_counter() - started

    def begin(self, count: int) -> None:
        """Opens streams without waiting for anything: what comes belongs to the measurement."""
        for _ in range(count):
            self._begin()

    def collect(self, timeout: float) -> Result:
        """Reads until each reader has the last message."""
        result = Result(0, 0, 0, 0)
        tails: dict[int, bytes] = {}
        waiting = set(self.sockets)
        started, worked = time.perf_counter(), time.process_time()
        deadline = started + timeout
        take = self._take_stamped if self._stamped else self._take
        while waiting and (left := deadline - time.perf_counter()) > 0:
            if not self._stamped:
                time.sleep(_PAUSE)
            for descriptor, _ in self._epoll.poll(left):
                data = take(descriptor, tails, result)
                if LAST in tails.get(descriptor, b"") + data or not data:
                    result.complete += bool(data) and descriptor in waiting
                    waiting.discard(descriptor)
                    if not data:
                        self._epoll.unregister(descriptor)
                tails[descriptor] = data[-300:]
        result.seconds = time.perf_counter() - started
        result.busy = (time.process_time() - worked) / result.seconds
        return result

    def _take(self, descriptor: int, tails: dict[int, bytes], result: Result) -> bytes:
        data = self.sockets[descriptor].recv(_READ)
        result.messages += data.count(MARK)
        return data

    def _take_stamped(self, descriptor: int, tails: dict[int, bytes], result: Result) -> bytes:
        data, ancillary, _, _ = self.sockets[descriptor].recvmsg(_READ, 128)
        arrived = time.time_ns()
        for level, kind, value in ancillary:
            if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS:
                seconds, nanoseconds = _TIMESPEC.unpack(value[: _TIMESPEC.size])
                arrived = seconds * 10**9 + nanoseconds
        for piece in data.split(MARK)[1:]:
            result.messages += 1
            sent, bar, _ = piece.partition(b"|")
            if bar:
                result.latencies.append((arrived - int(sent)) / 1e9)
        return data

    def close(self) -> None:
        for one in self.sockets.values():
            one.close()
        self._epoll.close()


def limit(readers: int, messages: int, size: int) -> float:
    """Messages a second that the generator takes in from a sender that only copies bytes it has ready."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=readers)
    frame = b"id: 1\ndata: " + MARK + b"0|" + b"x" * size + b"\n\n"
    block = b"HTTP/1.1 200 OK\r\n\r\n" + frame * (messages - 1) + frame.replace(b"xxxx", LAST, 1)

    def send() -> None:
        for _ in range(readers):
            accepted, _ = listener.accept()
            accepted.sendall(block)
            taken.append(accepted)

    taken: list[socket.socket] = []
    sender = threading.Thread(target=send, daemon=True)
    crowd = Readers(listener.getsockname()[1], "/", {})
    sender.start()
    crowd.begin(readers)
    result = crowd.collect(60)
    sender.join()
    crowd.close()
    listener.close()
    return result.messages / result.seconds
