"""The configurations of docs/operating.md, each run in front of the real server."""

import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.conf import settings

from tasks.doctor import Finding, Level, examine_proxy
from tests.documents import code_blocks
from tests.live import LiveServer
from tests.needs import needs_caddy, needs_nginx
from tests.proxies import OPERATING, Caddy, Nginx, Proxy

# nginx as somebody has it who has read nothing: buffering, and deaf to the server's wish for none.
BUFFERING = ("proxy_buffering off;", "proxy_buffering on; proxy_ignore_headers X-Accel-Buffering;")
COMPRESSING = ("gzip off;", "gzip on; gzip_types text/event-stream; gzip_min_length 0; gzip_proxied any;")
IMPATIENT = ("proxy_read_timeout 1h;", "proxy_read_timeout 1s;")

Doctor = Callable[..., list[Finding]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    env = {
        "ALLOWED_HOSTS": "localhost,127.0.0.1",
        "PUBLIC_URL": "https://localhost",
        "EVENTS_HEARTBEAT_SECONDS": "1",
        "SECRET_KEY": settings.SECRET_KEY,  # that of the doctor who asks
    }
    with LiveServer(tmp_path_factory.mktemp("proxied"), env) as running:
        yield running


@pytest.fixture
def doctor(monkeypatch: pytest.MonkeyPatch) -> Doctor:
    """What the doctor finds of a proxy."""

    def examine(proxy: Proxy, idle: float = 2) -> list[Finding]:
        monkeypatch.setenv("SSL_CERT_FILE", str(proxy.certificate))
        monkeypatch.setenv("NO_PROXY", "*")
        return examine_proxy(proxy.url, idle)

    return examine


def changed(old: str, new: str) -> str:
    site = code_blocks(OPERATING, "nginx")[0]
    assert old in site
    return site.replace(old, new)


def check_stream(server: LiveServer, proxy: Proxy) -> None:
    """Reads the stream of changes through the proxy: headers, first bytes, a change at once, a long quiet."""
    token = server.token()
    context = ssl.create_default_context(cafile=str(proxy.certificate))
    headers = {"Authorization": f"Bearer {token}", "Accept-Encoding": "gzip, br, zstd"}
    with httpx.Client(
        base_url=proxy.url, headers=headers, verify=context, trust_env=False, timeout=30
    ) as client:
        project = client.get("/api/projects").json()[0]["id"]
        with client.stream("GET", "/api/events/") as answer:
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert "no-transform" in answer.headers["cache-control"]
            assert "content-encoding" not in answer.headers
            lines = answer.iter_lines()
            assert next(lines).startswith("retry:")
            next(line for line in lines if line.startswith("data: ") and '"path":""' in line)
            # Quiet for longer than a proxy's second, with a heartbeat each second, and then a change at once.
            beats = 0
            while beats < 2:
                beats += next(lines) == "event: heartbeat"
            made = threading.Thread(
                target=lambda: client.post(
                    "/api/tasks", json={"project_id": project, "title": "Through the proxy"}
                )
            )
            started = time.monotonic()
            made.start()
            found = next(line for line in lines if "Through the proxy" in line)
            made.join()
            assert time.monotonic() - started < 5, "the change was held back"
            change: Any = json.loads(found.removeprefix("data: "))
            assert change["op"] == "add" and change["path"].startswith("/tasks/")


@needs_nginx
def test_streams_pass_the_documented_nginx(server: LiveServer, tmp_path: Path) -> None:
    with Nginx(tmp_path, server.port) as nginx:
        check_stream(server, nginx)
        plain = httpx.get(f"http://localhost:{nginx.plain_port}/", trust_env=False)
        assert plain.status_code == 301 and plain.headers["location"].startswith("https://")


@needs_nginx
def test_the_doctor_finds_nothing_wrong_with_the_documented_nginx(
    server: LiveServer, doctor: Doctor, tmp_path: Path
) -> None:
    with Nginx(tmp_path, server.port) as nginx:
        assert [finding.level for finding in doctor(nginx)] == [Level.OK, Level.OK]


@needs_caddy
def test_streams_pass_the_documented_caddy(server: LiveServer, doctor: Doctor, tmp_path: Path) -> None:
    with Caddy(tmp_path, server.port) as caddy:
        check_stream(server, caddy)
        assert [finding.level for finding in doctor(caddy)] == [Level.OK, Level.OK]


@needs_nginx
@pytest.mark.parametrize(
    ("fault", "words", "advice"),
    [
        (BUFFERING, "buffers the stream", "proxy_buffering off"),
        (COMPRESSING, "compresses the stream (gzip)", "gzip off"),
        (IMPATIENT, "cuts a silent line after", "proxy_read_timeout"),
        (("X-Forwarded-Proto $scheme", "X-Nothing $scheme"), "sends us on", "X-Forwarded-Proto"),
        (("Host $http_host", "Host 127.0.0.1"), "takes its name to be '127.0.0.1'", "Host header"),
    ],
    ids=["buffering", "compressing", "impatient", "no forwarded scheme", "other host"],
)
def test_the_doctor_finds_what_is_wrong_with_a_proxy(
    server: LiveServer, doctor: Doctor, tmp_path: Path, fault: tuple[str, str], words: str, advice: str
) -> None:
    with Nginx(tmp_path, server.port, changed(*fault)) as nginx:
        found = [finding for finding in doctor(nginx) if finding.level != Level.OK]
    assert len(found) == 1 or fault is COMPRESSING, found
    assert words in found[0].message
    assert advice in found[0].advice


@needs_nginx
def test_the_doctor_says_that_nothing_answers(server: LiveServer, doctor: Doctor, tmp_path: Path) -> None:
    with Nginx(tmp_path, 1) as nginx:
        (found,) = doctor(nginx)
    assert "answers 502" in found.message and "running" in found.advice
    (found,) = doctor(nginx)
    assert "does not answer" in found.message and found.level == Level.PROBLEM
