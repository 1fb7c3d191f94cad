"""The page's modules on data of their own, in a real browser but without a server."""

import mimetypes
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route

ROOT = Path(__file__).resolve().parents[3]
STATIC = [ROOT / "tasks" / "static", ROOT / "events" / "static"]
ORIGIN = "http://modules.test"


def serve(route: Route) -> None:
    """Files of the apps' static folders, and an empty page for any other address."""
    path = route.request.url.removeprefix(f"{ORIGIN}/static/")
    for folder in STATIC:
        file = folder / path
        if file.is_file():
            kind = mimetypes.guess_type(file.name)[0] or "text/plain"
            route.fulfill(body=file.read_bytes(), content_type=kind)
            return
    styles = "".join(
        f'<link rel="stylesheet" href="/static/tasks/css/{name}.css">'
        for name in ("tokens", "base", "components", "log", "diff")
    )
    route.fulfill(body=f"<!doctype html><head>{styles}</head><body></body>", content_type="text/html")


@pytest.fixture(scope="package")
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 900, "height": 700})
    context.route("**/*", serve)
    page = context.new_page()
    page.goto(f"{ORIGIN}/")
    yield page
    context.close()


def call(page: Page, module: str, code: str, argument: Any = None) -> Any:
    """`code` is an expression over the module `m` and `x`, the argument."""
    source = f"async (x) => {{ const m = await import('/static/{module}'); return {code}; }}"
    return page.evaluate(source, argument)
