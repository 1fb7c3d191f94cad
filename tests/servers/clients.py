"""Clients of the tests: raw sockets, so that a test decides what is read, and when."""

import contextlib
import ctypes
import socket
import struct
import time
from collections.abc import Iterator


class Stream:
    """One open event stream. Reads only when asked to."""

    def __init__(
        self,
        port: int,
        path: str,
        *,
        headers: dict[str, str] | None = None,
        receive_buffer: int = 0,
        source: str = "127.0.0.1",
        host: str = "127.0.0.1",
        method: str = "GET",
        patience: float = 30,
    ) -> None:
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.bind((source, 0))
        self.socket.settimeout(patience)
        self.socket.connect((host, port))
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        self.socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        self._raw = b""
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        """All of the body that was read."""
        self.ended = False
        """The response was completed, or the connection closed."""
        self.complete = False
        """The response was completed by the server, as HTTP says it."""

    def fileno(self) -> int:
        return self.socket.fileno()

    def read(self, timeout: float = 30) -> bytes:
        """What has come, waiting for some; empty at the end."""
        self.socket.settimeout(timeout)
        try:
            data = self.socket.recv(1 << 20)
        except (ConnectionResetError, BrokenPipeError):
            data = b""
        if not data:
            self.ended = True
        self._raw += data
        before = len(self.body)
        self._parse()
        return self.body[before:]

    def until(self, wanted: bytes, timeout: float = 30) -> bytes:
        """Reads until this is in the body; returns the whole body so far."""
        deadline = time.monotonic() + timeout
        while wanted not in self.body:
            if self.ended:
                raise AssertionError(f"The stream ended without {wanted!r}: {self.body[-300:]!r}")
            self.read(max(0.01, deadline - time.monotonic()))
        return self.body

    def beats_until_end(self) -> int:
        """The heartbeats that come from now on, until the stream ends."""
        with contextlib.suppress(BlockingIOError):
            while not self.ended:
                self.read(0)
        before = len(self.body)
        return self.until_end().count(b"event: heartbeat", before)

    def until_end(self, timeout: float = 30) -> bytes:
        deadline = time.monotonic() + timeout
        while not self.ended:
            self.read(max(0.01, deadline - time.monotonic()))
        return self.body

    def _parse(self) -> None:
        if not self.status:
            head, separator, rest = self._raw.partition(b"\r\n\r\n")
            if not separator:
                return
            first, *lines = head.decode("latin1").split("\r\n")
            self.status = int(first.split()[1])
            self.headers = {
                name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)
            }
            self._raw = rest
        if self.headers.get("transfer-encoding") == "chunked":
            self._unchunk()
        else:
            self.body, self._raw = self.body + self._raw, b""
            length = self.headers.get("content-length")
            self.complete = self.ended = self.ended or (length is not None and len(self.body) >= int(length))

    def _unchunk(self) -> None:
        position = 0
        found = []
        while (end := self._raw.find(b"\r\n", position)) >= 0:
            size = int(self._raw[position:end], 16)
            if len(self._raw) < end + 4 + size:
                break
            if size == 0:
                self.complete = self.ended = True
            found.append(self._raw[end + 2 : end + 2 + size])
            position = end + 4 + size
        self.body += b"".join(found)
        self._raw = self._raw[position:]

    def go_silent(self) -> None:
        """From now on the kernel drops what comes for this socket: to the server, the client has vanished."""
        # A socket filter of one instruction, "take nothing" (BPF_RET | BPF_K, 0), on what arrives.
        instruction = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))
        program = struct.pack("HxxxxxxP", 1, ctypes.addressof(instruction))
        self.socket.setsockopt(socket.SOL_SOCKET, 26, program)  # SO_ATTACH_FILTER

    def close(self) -> None:
        self.socket.close()


def events(body: bytes) -> list[dict[str, str]]:
    """The events of a stream, as the specification reads them; ids and retry set without data are left out."""
    found = []
    for block in body.decode().split("\n\n")[:-1]:
        event: dict[str, str] = {}
        for line in block.split("\n"):
            name, _, value = line.partition(": ")
            if name in ("data", "id", "event"):
                event[name] = event[name] + "\n" + value if name == "data" and name in event else value
        if "data" in event:
            found.append(event)
    return found


def messages(body: bytes) -> list[str]:
    """The data of the unnamed events."""
    return [event["data"] for event in events(body) if "event" not in event]


def last_id(body: bytes) -> str:
    return [line[4:] for line in body.decode().split("\n") if line.startswith("id: ")][-1]


@contextlib.contextmanager
def opened(*args, **kwargs) -> Iterator[Stream]:
    stream = Stream(*args, **kwargs)
    try:
        yield stream
    finally:
        stream.close()
