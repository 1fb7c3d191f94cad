"""Many tabs of one browser: each is live, whatever number of connections the browser allows."""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Error, Page, expect

from tests.browser.conftest import PATIENCE, RESTING, Api, Watched, card, wait_live
from tests.browser.lines import FOLLOW, expect_held, expect_true, show, states, subscribers, wait_for
from tests.live import LiveServer
from tests.needs import needs_chromium
from tests.scale import scaled

pytestmark = needs_chromium
expect.set_options(timeout=PATIENCE)

TABS = scaled(12, 4)

FROM_ANOTHER_CURSOR = """
    const channel = new BroadcastChannel(`vibe.stream ${vibe.live.manager.url}`);
    const data = '{"op":"replace","path":"","value":{}}';
    channel.postMessage({before: "elsewhere", id: "later", type: "message", data, rank: 2, carries: false});
"""
THAT_DOES_NOT_FIT = """
    const channel = new BroadcastChannel(`vibe.stream ${vibe.live.manager.url}`);
    const data = '{"op":"replace","path":"/tasks/none/title","value":""}';
    const before = vibe.live.manager.cursor;
    channel.postMessage({before, id: "unfit", type: "message", data, rank: 2, carries: false});
"""


# Counts connections, and does away with the watch for silence, which would in time make good what goes wrong at once,
# or takes a loaded machine for a broken line.
BY_ITSELF = """
    globalThis.opened = 0;
    globalThis.bundles = 0;
    globalThis.EventSource = class extends EventSource {
        constructor(url) {
            super(url);
            opened += 1;
            if (url.includes("/bundle")) bundles += 1;
        }
    };
    const every = globalThis.setInterval;
    globalThis.setInterval = (act, delay) => (delay === 1_000 ? 0 : every(act, delay));
"""
# A page's copy of the records, on a page that has nothing else.
READ = """async (url) => {
    const { LiveDocument } = await import("/static/tasks/js/live.js");
    Object.defineProperty(document, "body", {value: {dataset: {}}}); // a picture has none
    globalThis.vibe = {live: new LiveDocument(url, {}, null).start()};
}"""


@pytest.fixture(scope="module")
def usual_context(watched: Watched) -> Iterator[BrowserContext]:
    context = watched.open()
    context.add_init_script(BY_ITSELF)
    yield context
    context.close()


@pytest.fixture
def new_page(
    usual_context: BrowserContext, open_context: Any, resting: list[Page]
) -> Iterator[Callable[[], Page]]:
    """Opens tabs, which each test leaves at rest for the next."""
    pages: list[Page] = []

    def open_one() -> Page:
        pages.append(resting.pop() if resting else usual_context.new_page())
        return pages[-1]

    yield open_one
    for page in pages:
        with suppress(Error):  # closed, or crashed
            page.goto(RESTING)
            resting.append(page)


def test_more_tabs_than_connections_are_all_live_by_one(
    api: Api, server: LiveServer, new_page: Callable[[], Page]
) -> None:
    """All count as visible here, as windows beside each other would be: the hardest case."""
    project = api.project("Before")
    pages = [new_page() for _ in range(7)]
    boards = pages[::6]
    for page in boards:
        page.goto(f"/projects/{project}/")
    for page in pages[1:-1]:
        rest(page)
        page.evaluate(READ, boards[0].evaluate("vibe.live.manager.url"))

    def all_true() -> None:
        for page in pages:
            (expect_true if page in boards else expect_held)(page, api, project)

    def all_are(state: str) -> None:
        wait_for(lambda: all(page.evaluate("vibe.live.manager.state") == state for page in pages))

    all_are("live")
    api.task(project, "For all")
    all_true()
    assert answer_of(pages[6], "/api/projects") == 200
    # They read the same, so one of them receives for all; whichever it was, the others go on without it.
    wait_for(lambda: subscribers(api) == 1)
    all_are("live")
    opened = [page.evaluate("opened") for page in pages]
    api.task(project, "For all again")
    all_true()
    assert [page.evaluate("opened") for page in pages] == opened, "somebody connected anew"
    pages[6].evaluate(
        "globalThis.got = []; vibe.live.manager.addEventListener('message', (event) => got.push(event.detail.id))"
    )
    pages[0].evaluate(FROM_ANOTHER_CURSOR)
    pages[0].evaluate(THAT_DOES_NOT_FIT)  # those that are not connected take it, and start over
    all_true()
    for _ in range(4):
        pages.pop(0).close()
    wait_for(lambda: subscribers(api) == 1)
    server.kill()
    all_are("reconnecting")
    server.start()
    all_are("live")
    for _ in range(2):
        pages.pop(0).close()
    api.task(project, "For the last")
    expect(card(pages[0], "For the last")).to_be_visible()
    all_true()
    wait_for(lambda: subscribers(api) == 1)
    got = pages[0].evaluate("got")
    assert got and "later" not in got, "it took a message that does not follow what it has"


def answer_of(page: Page, path: str) -> int:
    status: int = page.evaluate(
        """async (path) => {
            const signal = AbortSignal.timeout(20_000);
            return (await fetch(path, {cache: "no-store", signal})).status;
        }""",
        path,
    )
    return status


def test_many_tabs_with_logs_of_their_own_are_all_live_at_once(
    api: Api, new_page: Callable[[], Page], tmp_path: Path
) -> None:
    """Two pages of tasks, each two streams, and some that only read: more streams than a browser has connections."""
    tasks = api.tasks(api.project("One", "Two"))
    pipes, runs = [], []
    for title, task in tasks.items():
        os.mkfifo(tmp_path / title)
        pipes.append(os.open(tmp_path / title, os.O_RDWR))
        body = {"task_id": task["id"], "executor": "script", "prompt": f"cat {tmp_path / title}"}
        runs.append(run_of(api, api("POST", "/api/task-attempts", body)["id"]))
    pages = [new_page() for _ in range(TABS)]
    # The first and the last, who finds no place of its own any more.
    shown, others = pages[:: TABS - 1], pages[1:-1]
    shown[0].goto(f"/tasks/{tasks['One']['id']}/?view=log")
    for number, page in enumerate(others):
        follow(page, f"/api/events/processes/{runs[number % 2]}/logs", 3)
    shown[1].goto(f"/tasks/{tasks['Two']['id']}/?view=log")
    for page in shown:
        wait_live(page)
    wait_for(lambda: subscribers(api) == 2 * 2 + 3 * len(others) + 1)
    opened: list[int] = []
    for number in range(1, 4):
        for pipe in pipes:
            os.write(pipe, f"line {number}\n".encode())
        for page in shown:
            expect(page.locator(".log-stdout .log-text").last).to_have_text(f"line {number}")
            assert answer_of(page, "/api/projects") == 200
        for page in others:
            wait_for(lambda page=page, number=number: page.evaluate("got.at(-1)") == f"line {number}")
        opened = opened or [page.evaluate("opened") for page in pages]
    assert [page.evaluate("opened") for page in pages] == opened, "somebody connected anew"
    assert [last_number(page) for page in shown] == [3] * 2
    assert all(page.evaluate("got.length") == 3 for page in others)
    for pipe in pipes:
        os.close(pipe)


def run_of(api: Api, attempt: str) -> str:
    """The id of the attempt's first run."""
    runs = lambda: api("GET", f"/api/processes?task_attempt_id={attempt}")  # noqa: E731
    wait_for(runs)
    return str(runs()[0]["id"])


def last_number(page: Page) -> int:
    """The number of the last line in sight of `line 1`, `line 2`, …; all before it are there, too."""
    shown = page.locator(".log-stdout .log-text").all_inner_texts()
    numbers = [int(text.split()[1]) for text in shown]
    assert numbers == list(range(1, 1 + len(numbers)))
    return len(numbers)


def rest(page: Page) -> None:
    if not page.url.endswith(RESTING):
        page.goto(RESTING)


def follow(page: Page, url: str, count: int = 1) -> None:
    rest(page)
    page.evaluate(FOLLOW, [url, count])


def test_nothing_is_lost_or_doubled_whoever_leads_the_bundle(
    api: Api, server: LiveServer, new_page: Callable[[], Page], tmp_path: Path
) -> None:
    """One tab takes all places; four share a connection, and one after the other of those that lead it goes."""
    task = api.task(api.project(), "Prints")
    script = (
        f"n=0; while [ ! -e {tmp_path}/enough ]; do n=$((n+1)); echo $n; [ $((n%4)) != 0 ] || sleep 0.1; done"
    )
    body = {"task_id": task, "executor": "script", "prompt": script}
    run = run_of(api, api("POST", "/api/task-attempts", body)["id"])
    pages = [new_page() for _ in range(5)]
    follow(pages[0], f"/api/events/processes/{run}/logs", 3)
    wait_for(lambda: states(pages[0]) == ["live"] * 3)
    for page in pages[1:]:
        follow(page, f"/api/events/processes/{run}/logs")
    all_go_on(pages)
    hidden = leader(pages)
    show(hidden, "hidden")
    others = [page for page in pages if page is not hidden]
    closed = leader(others)
    all_go_on(others)
    closed.close()
    others.remove(closed)
    crashed = leader(others)
    all_go_on(others)
    crash(crashed)
    others.remove(crashed)
    leader(others)
    all_go_on(others)
    show(hidden, "visible")
    all_go_on([*others, hidden])
    server.kill()
    server.start()
    all_go_on([*others, hidden])
    (tmp_path / "enough").touch()
    for page in [*others, hidden]:
        wait_for(lambda page=page: set(states(page)) == {"finished"})
        got = page.evaluate("got")
        assert got == [str(number) for number in range(1, len(got) + 1)]
    assert len({page.evaluate("got.length") for page in [*others, hidden]}) == 1


TWO_LEADERS = """async () => {
    const common = new BroadcastChannel("vibe.bundle");
    const told = new Promise((known) => (common.onmessage = ({data}) => data.url && known(data.id)));
    common.postMessage({asks: "now"});
    const own = new BroadcastChannel(`vibe.bundle ${await told}`);
    const ids = [];
    for (const one of managers) one.addEventListener("message", ({detail}) => ids.push(detail.id));
    own.postMessage({leader: "before", type: "message", data: "{}", lastEventId: "stale"});
    own.postMessage({leader: "now", type: "message", data: "{}", lastEventId: "fresh"});
    while (!ids.includes("fresh")) await new Promise((later) => setTimeout(later, 10));
    return ids;
}"""


def test_only_who_asked_last_is_listened_to(api: Api, page: Page) -> None:
    follow(page, f"/api/events/?project_id={api.project()}", 5)
    wait_for(lambda: (states(page), subscribers(api)) == (["live"] * 5, 5))
    page.evaluate("managers[4].close()")
    wait_for(lambda: subscribers(api) == 4)  # What nobody wants any more is not sent on.
    assert page.evaluate(TWO_LEADERS) == ["fresh"]


def leader(pages: list[Page]) -> Page:
    wait_for(lambda: sum(page.evaluate("bundles") > 0 for page in pages) == 1)
    return next(page for page in pages if page.evaluate("bundles"))


def all_go_on(pages: list[Page]) -> None:
    had = max(page.evaluate("got.length") for page in pages)
    for page in pages:
        page.wait_for_function("(had) => got.length > had + 8", arg=had, polling=50)


def crash(page: Page) -> None:
    """As if its process had died."""
    with page.expect_event("crash"), suppress(Error):
        page.goto("chrome://crash")


# Until each has been told something.
TRY_AGAIN = """() => {
    const waiting = managers.filter(({state}) => state === "reconnecting");
    const told = (one) => new Promise((then) => one.addEventListener("state", then, {once: true}));
    const answers = waiting.map(told);
    for (const one of waiting) one.retryNow();
    return Promise.all(answers);
}"""


# As many addresses of this length fit into a request with their cursors as without.
@pytest.mark.parametrize(("padding", "fit"), [(0, 50), (566, 10)])
def test_who_does_not_fit_into_the_bundle_waits_and_no_request_hangs(
    api: Api, page: Page, padding: int, fit: int
) -> None:
    follow(page, f"/api/events/?project_id={api.project()}&padding={'x' * padding}", 3 + fit + 2)
    wait_for(lambda: states(page) == ["live"] * (3 + fit) + ["reconnecting"] * 2)
    assert answer_of(page, "/api/projects") == 200
    page.evaluate("bundles = 0")
    page.evaluate(TRY_AGAIN)
    assert page.evaluate("bundles") == 0, "for nothing, all others were connected anew"
    page.evaluate("managers.slice(-9, -6).forEach((manager) => manager.close())")
    # Those that wait may have tried again by themselves.
    wait_for(lambda: subscribers(api) in (fit, fit + 2))
    page.evaluate(TRY_AGAIN)
    wait_for(lambda: states(page) == ["idle"] * 3 + ["live"] * (2 + fit))
