"""Reads the echo stream through whatever stands before the server, and says what it does to streams."""

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
from django.conf import settings

from tasks.doctor import echo
from tasks.doctor.findings import Finding, Level

ADDRESS: Final = "/api/events/echo"
BEATS: Final = 8
INTERVAL: Final = 0.25
CONNECT_SECONDS: Final = 10
CHECK: Final = "proxy"
DOCS: Final = "docs/operating.md has a configuration that works."


@dataclass
class Echo:
    """What came of one echo: the headers, and when each beat was sent and arrived (Unix seconds)."""

    status: int
    headers: Mapping[str, str]
    sent: list[float] = field(default_factory=list)
    arrived: list[float] = field(default_factory=list)
    seen: dict[str, str] = field(default_factory=dict)
    ended: bool = False
    seconds: float = 0

    @property
    def spread(self) -> float:
        """How much longer the slowest beat was under way than the fastest; clocks that differ do not matter."""
        delays = [there - here for here, there in zip(self.sent, self.arrived, strict=True)]
        return max(delays) - min(delays) if delays else 0.0


def examine_proxy(url: str, idle_seconds: float | None = None) -> list[Finding]:
    """Opens two echo streams at `url` (the site's public address), the second one silent for `idle_seconds`.

    By default that is a heartbeat and a third more: a line that bears it is never idle for too long.
    """
    idle = idle_seconds if idle_seconds is not None else default_idle_seconds()
    try:
        first = _listen(url, beats=BEATS, silence=0)
        if not is_prompt(first):
            return judge(url, first)
        return judge(url, first, _listen(url, beats=1, silence=idle), idle)
    except httpx.HTTPError as error:
        return [Finding(CHECK, Level.PROBLEM, f"{url} does not answer: {error}", _advice_on_silence(error))]


def default_idle_seconds() -> float:
    return round(settings.EVENTS_HEARTBEAT_SECONDS * 4 / 3, 1)


def is_prompt(result: Echo) -> bool:
    """Whether the beats arrived one by one. Of a line that holds them back, a silence would tell nothing."""
    return result.status == 200 and result.spread < _limit()


def judge(url: str, first: Echo, silent: Echo | None = None, idle: float = 0) -> list[Finding]:
    """What two echoes tell: one of even beats, and one with a silence of `idle` seconds after its first beat."""
    if first.status != 200:
        return [_wrong_status(url, first)]
    findings = [*_judge_headers(url, first), _judge_buffering(first)]
    if silent is not None:
        findings.append(_judge_idle(silent, idle))
    return findings


def _listen(url: str, beats: int, silence: float) -> Echo:
    query: dict[str, str | float] = {
        "beats": beats,
        "interval": INTERVAL,
        "silence": silence,
        "key": echo.make_key(),
    }
    headers = {
        "Accept": "text/event-stream",
        "Accept-Encoding": "gzip, deflate",
        "Last-Event-ID": "echo.doctor",
    }
    patience = httpx.Timeout(CONNECT_SECONDS, read=silence + BEATS * INTERVAL + CONNECT_SECONDS)
    with httpx.stream(
        "GET", url.rstrip("/") + ADDRESS, params=query, headers=headers, timeout=patience
    ) as answer:
        result = Echo(answer.status_code, answer.headers)
        if answer.status_code == 200:
            _collect(answer, result)
    return result


def _collect(answer: httpx.Response, result: Echo) -> None:
    started = time.monotonic()
    try:
        for event, data in _events(answer.iter_bytes()):
            if event == "end":
                result.ended = True
            else:
                result.sent.append(data["sent"])
                result.arrived.append(time.time())
                result.seen = data.get("seen", result.seen)
    except (httpx.RemoteProtocolError, httpx.ReadError, httpx.ReadTimeout):
        result.ended = False
    result.seconds = time.monotonic() - started


def _events(chunks: Iterator[bytes]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The events of the echo, which are one line of JSON each."""
    buffer = b""
    for chunk in chunks:
        buffer += chunk
        while b"\n\n" in buffer:
            block, buffer = buffer.split(b"\n\n", 1)
            fields = dict(line.split(b": ", 1) for line in block.split(b"\n") if b": " in line)
            if b"data" in fields:
                yield fields.get(b"event", b"").decode(), json.loads(fields[b"data"])


def _limit() -> float:
    """Half of the time over which the beats were sent: a heap at the end is all of it, a busy machine far less."""
    return (BEATS - 1) * INTERVAL / 2


def _judge_buffering(result: Echo) -> Finding:
    if result.spread < _limit():
        return Finding(
            CHECK,
            Level.OK,
            f"Messages pass through at once (within {result.spread * 1000:.0f} ms of each other).",
        )
    return Finding(
        CHECK,
        Level.PROBLEM,
        f"Something buffers the stream: messages were held back for up to {result.spread:.1f} s.",
        f"Turn buffering off for /api/events/: in nginx `proxy_buffering off;`. {DOCS}",
    )


def _judge_headers(url: str, result: Echo) -> Iterator[Finding]:
    encoding = result.headers.get("content-encoding", "identity")
    if encoding != "identity":
        yield Finding(
            CHECK,
            Level.PROBLEM,
            f"Something compresses the stream ({encoding}), which holds messages back until a block is full.",
            f"Leave text/event-stream out of what is compressed: nginx `gzip off;` in that location. {DOCS}",
        )
    kind = result.headers.get("content-type", "")
    if not kind.startswith("text/event-stream"):
        yield Finding(
            CHECK, Level.PROBLEM, f"The stream arrives as {kind!r}, not as text/event-stream.", DOCS
        )
    if result.seen.get("scheme") != urlsplit(url).scheme:
        yield Finding(
            CHECK,
            Level.WARNING,
            f"The server takes the site's address to begin with {result.seen.get('scheme')}://.",
            "Let the proxy set X-Forwarded-Proto, and set PUBLIC_URL to the address that people type.",
        )
    if result.seen.get("host") != urlsplit(url).netloc:
        yield Finding(
            CHECK,
            Level.WARNING,
            f"The server takes its name to be {result.seen.get('host')!r}: signing in and forms may be refused.",
            "Let the proxy pass the Host header on: nginx `proxy_set_header Host $http_host;`.",
        )
    if result.seen.get("last_event_id") != "echo.doctor":
        yield Finding(
            CHECK,
            Level.PROBLEM,
            "Something drops the header Last-Event-ID, so a browser cannot go on where it was.",
            "Let the proxy pass all request headers on.",
        )


def _judge_idle(result: Echo, idle: float) -> Finding:
    if result.status == 200 and result.ended:
        beat = settings.EVENTS_HEARTBEAT_SECONDS
        message = f"A line that is silent for {idle:g} s lives on; heartbeats come every {beat:g} s."
        return Finding(CHECK, Level.OK, message)
    return Finding(
        CHECK,
        Level.PROBLEM,
        f"Something cuts a silent line after {result.seconds:.1f} s.",
        "Let the proxy wait longer (nginx `proxy_read_timeout 1h;`), or set EVENTS_HEARTBEAT_SECONDS below"
        f" {max(result.seconds * 2 / 3, 0.1):.1g}.",
    )


def _wrong_status(url: str, result: Echo) -> Finding:
    where = result.headers.get("location", "").partition("?")[0]
    if where:
        return Finding(
            CHECK,
            Level.PROBLEM,
            f"{url} sends us on to {where}.",
            "Give the final address. If that is the same one: the proxy must set X-Forwarded-Proto to https.",
        )
    advice = {
        400: "Add the site's name to ALLOWED_HOSTS.",
        401: "The server behind that address has another SECRET_KEY: run this with the server's environment.",
        404: "Something else answers there, or the proxy does not pass /api/ on.",
        502: "The proxy does not reach the server: is it running, on the address the proxy knows?",
    }
    return Finding(
        CHECK, Level.PROBLEM, f"{url}{ADDRESS} answers {result.status}.", advice.get(result.status, DOCS)
    )


def _advice_on_silence(error: httpx.HTTPError) -> str:
    if "CERTIFICATE" in str(error).upper():
        return "The certificate is not trusted here: renew it, or point SSL_CERT_FILE to your authority's."
    return "Is the server running there? Start it, or give its address with --url."
