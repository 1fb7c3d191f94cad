"""The doctor's page in a browser that reaches the server directly, and through a proxy that holds streams back."""

from pathlib import Path
from typing import Any

from playwright.sync_api import Page, expect

from tests.browser.conftest import check
from tests.live import LiveServer
from tests.needs import needs_chromium, needs_nginx
from tests.proxies import Nginx
from tests.servers.test_proxies import BUFFERING, changed

pytestmark = needs_chromium
PATIENCE = 30_000


def test_it_tells_of_the_line_and_of_the_machine(page: Page) -> None:
    page.goto("/doctor/")
    line = page.locator("#line-findings")
    expect(line).to_contain_text("Messages pass through at once", timeout=PATIENCE)
    expect(line).to_contain_text("lives on; heartbeats come every 1 s", timeout=PATIENCE)
    expect(line).to_contain_text("This page came over HTTP/1.1")
    expect(line.locator(".badge-red")).to_have_count(0)
    expect(page.locator("main")).to_contain_text("git version")
    check(page, "doctor")


@needs_nginx
def test_it_sees_a_proxy_that_holds_streams_back(
    server: LiveServer, open_context: Any, tmp_path: Path
) -> None:
    # Over HTTP/2 nginx passes on even what it buffers: it holds back less than a packet over HTTP/1.1 only.
    with Nginx(tmp_path, server.port, changed(*BUFFERING), http2=False) as nginx:
        # The same name as the server's, for the cookies.
        url = nginx.url.replace("localhost", "127.0.0.1")
        page = open_context(base_url=url, ignore_https_errors=True).new_page()
        page.goto("/doctor/")
        line = page.locator("#line-findings")
        expect(line).to_contain_text("Something buffers the stream", timeout=PATIENCE)
        expect(line).to_contain_text("proxy_buffering off")
        expect(line).to_contain_text("to begin with http://")
        expect(line).to_contain_text("set PUBLIC_URL")
