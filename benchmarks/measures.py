"""What is measured of each server."""

import contextlib
import http.client
import socket
import statistics
import threading
import time
import uuid
from dataclasses import dataclass

from benchmarks.load import Readers
from benchmarks.pace import message
from benchmarks.servers import Server

READERS = 200
BURST = 1000
SIZE = 200
RATE = 20.0
STEADY = 200
HISTORY = 100_000


@dataclass
class Measured:
    """One server's figures; None is what it cannot do, or did not finish."""

    name: str
    burst: float | None = None
    """Deliveries a second."""
    burst_lost: float = 0.0
    """The share of messages that never arrived."""
    p50: float | None = None
    p99: float | None = None
    """Seconds."""
    replay: float | None = None
    replay_many: float | None = None
    """Seconds until one reader, and until twenty, had the whole history."""
    kilobytes: float | None = None
    """A reader."""
    connects: float | None = None
    """A second."""
    busy: float = 0.0
    """The generator's share of a processor, at its most."""


def measure(server: Server) -> Measured:
    found = Measured(server.name)
    _connects_and_memory(server, found)
    _burst(server, found)
    _steady(server, found)
    if server.keeps_history:
        _replay(server, found)
    return found


def _path(server: Server, key: str) -> str:
    return server.room.format(key=key)


def publish(server: Server, key: str, count: int, rate: float = 0) -> None:
    """Has messages published; returns at once."""
    if server.posts:
        threading.Thread(target=_post, args=(server.port, key, count, rate), daemon=True).start()
        return
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("POST", f"/publish/{key}?count={count}&size={SIZE}&rate={rate}")
    assert connection.getresponse().status == 202
    connection.close()


def _post(port: int, key: str, count: int, rate: float) -> None:
    """One request a message on one connection; a burst sends them without waiting for the answers."""
    with socket.create_connection(("127.0.0.1", port)) as one:
        drain = threading.Thread(target=_drain, args=(one,), daemon=True)
        drain.start()
        due = time.perf_counter()
        for number in range(count):
            if rate:
                due += 1 / rate
                time.sleep(max(0.0, due - time.perf_counter()))
            body = message(SIZE, number == count - 1)
            one.sendall(
                f"POST /post/{key} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
            )
        time.sleep(1)


def _drain(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while one.recv(1 << 16):
            pass


def _connects_and_memory(server: Server, found: Measured) -> None:
    warm = Readers(server.port, _path(server, "warm"), server.headers)
    warm.connect(50)
    before = server.resident()
    crowd = Readers(server.port, _path(server, "warm"), server.headers)
    count = 1000
    seconds = crowd.connect(count)
    time.sleep(1)
    found.connects = count / seconds
    found.kilobytes = (server.resident() - before) / count / 1024
    crowd.close()
    warm.close()
    time.sleep(1)


def _burst(server: Server, found: Measured) -> None:
    """The best of three: the machine has other things to do now and then."""
    for _ in range(3):
        key = uuid.uuid4().hex
        crowd = Readers(server.port, _path(server, key), server.headers)
        crowd.connect(READERS)
        publish(server, key, BURST)
        result = crowd.collect(30 if server.name != "django-eventstream" else 8)
        crowd.close()
        found.burst_lost = 1 - result.messages / (READERS * BURST)
        found.busy = max(found.busy, result.busy)
        if result.complete == READERS:
            found.burst = max(found.burst or 0, result.messages / result.seconds)
        time.sleep(0.5)


def _steady(server: Server, found: Measured) -> None:
    key = uuid.uuid4().hex
    crowd = Readers(server.port, _path(server, key), server.headers, stamped=True)
    crowd.connect(READERS)
    time.sleep(1)
    publish(server, key, STEADY, RATE)
    result = crowd.collect(STEADY / RATE + 10)
    crowd.close()
    if result.latencies:
        cuts = statistics.quantiles(result.latencies, n=100)
        found.p50, found.p99 = cuts[49], cuts[98]


def _replay(server: Server, found: Measured) -> None:
    key = uuid.uuid4().hex
    watcher = Readers(server.port, _path(server, key), server.headers)
    watcher.connect(1)
    publish(server, key, HISTORY)
    # A server that did not take its own history in has none to replay.
    complete = watcher.collect(120).complete
    watcher.close()
    if not complete:
        return
    found.replay = _replay_to(server, key, 1)
    found.replay_many = _replay_to(server, key, 20)


def _replay_to(server: Server, key: str, readers: int) -> float | None:
    crowd = Readers(server.port, _path(server, key), server.headers)
    crowd.begin(readers)
    result = crowd.collect(60)
    crowd.close()
    time.sleep(0.5)
    return result.seconds if result.complete == readers else None
