"""What the tests of the task's page share: attempts that wait for the test, and a tab."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser.conftest import PATIENCE, RESTING, Api
from tests.live import LiveServer
from tests.repositories import git
from tests.runs import wait_for

expect.set_options(timeout=PATIENCE)

ENDED = ("completed", "failed", "killed", "interrupted")


class Runs:
    """Attempts of the `script` executor, whose scripts wait for the test at gates: `gate NAME`."""

    def __init__(self, api: Api, folder: Path) -> None:
        self.api = api
        self.folder = folder
        self.project = api.project()

    def task(self, title: str = "A task", **fields: Any) -> str:
        return self.api.task(self.project, title, **fields)

    def start(self, task: str, script: str) -> dict[str, Any]:
        body = {"task_id": task, "executor": "script", "prompt": self.gated(script)}
        return dict(self.api("POST", "/api/task-attempts", body))

    def gated(self, script: str) -> str:
        wait = f'while [ ! -e "{self.folder}/$1" ]; do sleep 0.1; done'
        return f"gate() {{ {wait}; }}\n{script}"

    def open_gate(self, name: str) -> None:
        (self.folder / name).touch()

    def of(self, attempt: dict[str, Any]) -> list[dict[str, Any]]:
        return list(self.api("GET", f"/api/processes?task_attempt_id={attempt['id']}"))

    def ended(self, attempt: dict[str, Any], number: int = 1) -> dict[str, Any]:
        """The given run (from 1), once it has ended."""

        def last() -> dict[str, Any] | None:
            runs = self.of(attempt)
            return runs[number - 1] if len(runs) >= number and runs[number - 1]["status"] in ENDED else None

        return dict(wait_for(last, "the end of the run", pause=0.2))

    def worktree(self, attempt: dict[str, Any]) -> Path:
        def folder() -> str | None:
            return self.api("GET", f"/api/task-attempts/{attempt['id']}")["worktree"]

        return Path(wait_for(folder, "the worktree"))

    def done(self, script: str, title: str = "A task") -> tuple[str, dict[str, Any]]:
        """A task and its attempt whose run has ended."""
        task = self.task(title)
        attempt = self.start(task, script)
        self.ended(attempt)
        return task, attempt

    def commit_to_main(self, name: str, text: str) -> None:
        repository = Path(self.api("GET", f"/api/projects/{self.project}")["repo_path"])
        (repository / name).write_text(text)
        git(repository, "add", name)
        git(repository, "commit", "-q", "-m", name)


@pytest.fixture(scope="module")
def profile(browser: Browser, server: LiveServer, signed_in: Any) -> Iterator[BrowserContext]:
    """One browser profile for the module: its cache spares each test the loading of all scripts.

    A script error on a page of it fails the last test.
    """
    context = browser.new_context(base_url=server.url, storage_state=signed_in, reduced_motion="reduce")
    context.set_default_timeout(PATIENCE)
    problems: list[str] = []
    context.on("weberror", lambda error: problems.append(f"{error.page and error.page.url}: {error.error}"))
    yield context
    context.close()
    assert not problems, "\n".join(problems)


@pytest.fixture
def page(profile: BrowserContext, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The one tab of the module. What a test that fails has done to it ends with it."""
    if not profile.pages:
        profile.new_page().goto(RESTING)
    (page,) = profile.pages
    failed = request.session.testsfailed
    yield page
    if request.session.testsfailed > failed:
        page.close()


@pytest.fixture(scope="module")
def runs(api: Api, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(api, tmp_path_factory.mktemp("gates"))


def open_task(page: Page, task: str, query: str = "") -> Page:
    """The page, as for the first time; as it is where the test before has left it there."""
    address = f"/tasks/{task}/{query}"
    if page.url.endswith(address):
        return page
    page.evaluate("localStorage.clear()")
    if page.url.partition("#")[0].endswith(address.partition("#")[0]):
        page.goto(RESTING)  # Another hash alone loads nothing.
    page.goto(address)
    page.locator("#line[data-state=live]").wait_for()
    return page


def line(page: Page, text: str) -> Any:
    return page.locator(
        ".log-line", has=page.locator(".log-text", has_text=re.compile(f"^{re.escape(text)}$"))
    )


def shown(page: Page) -> list[str]:
    return page.locator(".log-line .log-text").all_inner_texts()


@pytest.fixture(scope="module")
def printed(runs: Runs) -> str:
    script = r"""
    printf 'plain <b>text</b>\n'
    printf '\033[1;31mred\033[0m and \033[38;5;208morange\033[0m\n'
    echo careful >&2
    printf 'Working 10%%'; sleep 0.4; printf '\rWorking 60%%'; sleep 0.4; printf '\rWorking 100%%\n'
    printf 'Name? '; sleep 0.4; printf 'Ada\n'
    exit 3
    """
    return runs.done(script, "Prints all sorts")[0]


@pytest.fixture(scope="module")
def changed(runs: Runs) -> tuple[str, dict[str, Any]]:
    script = """
    echo "print('goodbye')" > src/app.py
    printf '# Test  \\n' > README.md
    i=0; while [ $i -lt 700 ]; do echo "return $i"; i=$((i+1)); done > big.py
    printf '\\000\\001' > data.bin
    """
    return runs.done(script, "Changed files")
