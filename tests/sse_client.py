"""A small strict EventSource: parses a stream as the WHATWG's section 9.2.6 says."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx


@dataclass(frozen=True)
class Event:
    data: str
    id: str
    event: str = "message"

    @property
    def json(self) -> Any:
        return json.loads(self.data)


class EventStream:
    """`for event in stream` yields events; `last_id`, `retry` and `comments` are what the stream set so far."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.last_id = ""
        self.retry: int | None = None
        self.comments = 0
        self._lines = response.iter_lines()
        self._heartbeats = 0

    def __iter__(self) -> Iterator[Event]:
        data: list[str] = []
        kind, event_id = "", self.last_id
        for line in self._lines:
            if not line:
                self.last_id = event_id
                if data:
                    yield Event("\n".join(data), self.last_id, kind or "message")
                data, kind = [], ""
                continue
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if not name:
                self.comments += 1
            elif name == "data":
                data.append(value)
            elif name == "id":
                event_id = value
            elif name == "event":
                kind = value
            elif name == "retry":
                self.retry = int(value)

    def until(self, done: Callable[[Event], bool], seconds: float = 60) -> list[Event]:
        """The events up to and with the first that fits; heartbeats are left out."""
        deadline = time.monotonic() + seconds
        found: list[Event] = []
        for event in self:
            if event.event != "heartbeat":
                found.append(event)
                if done(event):
                    return found
            if time.monotonic() > deadline:
                break
        raise AssertionError(f"not seen within {seconds} s, only: {found[-5:]}")


@contextmanager
def connect(
    url: str, token: str, *, last_id: str | None = None, read_timeout: float = 60
) -> Iterator[EventStream]:
    headers = [(b"Authorization", f"Bearer {token}".encode()), (b"Accept", b"text/event-stream")]
    if last_id is not None:
        headers.append((b"Last-Event-ID", last_id.encode()))
    with httpx.stream("GET", url, headers=headers, timeout=httpx.Timeout(30, read=read_timeout)) as response:
        assert response.status_code == 200, response.read()
        yield EventStream(response)
