"""The line between page and server: lost, found again, shared by many tabs; and never a page that lies."""

import json
import re
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Error, Page, Route, expect

from tests.browser.conftest import PATIENCE, RESTING, Api, card, lift, open_board, wait_live
from tests.live import LiveServer
from tests.needs import needs_chromium
from tests.scale import scaled

pytestmark = needs_chromium
expect.set_options(timeout=PATIENCE)


def expect_true(page: Page, api: Api, project: str) -> None:
    """The page holds, and shows, exactly what the server has."""
    wanted = {task["id"]: task for task in api("GET", f"/api/tasks?project_id={project}")}
    deadline = time.monotonic() + PATIENCE / 1000
    while (found := _held_and_shown(page)) != (wanted, sorted(task["title"] for task in wanted.values())):
        assert time.monotonic() < deadline, (found, wanted)
        page.wait_for_timeout(50)


def _held_and_shown(page: Page) -> tuple[Any, list[str]]:
    titles = page.locator(".columns .card-title").all_inner_texts()
    return page.evaluate("vibe.live.document.tasks"), sorted(titles)


def rendered(page: Page, project: str) -> Any:
    """What the server would render now."""
    text = page.request.get(f"/projects/{project}/").text()
    found = re.search(r'<template id="board-data">(.*?)</template>', text)
    assert found
    return json.loads(found[1])["document"]


def test_a_killed_server_comes_back_to_a_true_page(api: Api, server: LiveServer, page: Page) -> None:
    """Round after round, while somebody types, a card is in hand and a run prints: nothing is lost, no reload."""
    project = api.project("Before", "Carried")
    busy = api.task(project, "Busy")
    script = "i=0; while [ $i -lt 100000 ]; do echo line $i; i=$((i+1)); sleep 0.05; done"
    api("POST", "/api/task-attempts", {"task_id": busy, "executor": "script", "prompt": script})
    open_board(page, project)
    page.evaluate("window.sameDocument = true")
    page.keyboard.press("c")
    for number in range(scaled(20, 2)):
        page.locator("#create-name").press_sequentially(f"{number} ")
        server.kill() if number % 2 == 0 else server.stop()
        expect(page.locator("#line")).to_have_attribute("data-state", "reconnecting")
        server.start()
        api.task(project, f"Made after restart {number}")
        wait_live(page)
        expect_true(page, api, project)
        expect(page.locator("#column-inprogress .run-state")).to_have_text("Running")
    typed = "".join(f"{number} " for number in range(scaled(20, 2)))
    expect(page.locator("#create-name")).to_be_focused()
    expect(page.locator("#create-name")).to_have_value(typed)
    page.keyboard.press("Escape")
    for number in range(scaled(10, 1)):
        status = ("done", "todo")[number % 2]
        lift(page, "Carried", page.locator(f"#column-{status}"))
        server.kill()
        expect(page.locator("#line")).to_have_attribute("data-state", "reconnecting")
        server.start()
        wait_live(page)
        page.mouse.up()
        expect(page.locator(f"#column-{status} .card", has_text="Carried")).to_be_visible()
        page.locator(".is-pending").wait_for(state="detached")
        expect_true(page, api, project)
    api.stop(project)
    expect(page.locator("#column-inreview .run-state")).to_have_text("Stopped")
    wait_for(lambda: page.evaluate("vibe.live.document") == rendered(page, project))
    assert page.evaluate("window.sameDocument"), "the page was reloaded"


def test_a_move_while_the_server_is_away_is_refused_plainly(api: Api, server: LiveServer, page: Page) -> None:
    project = api.project("Stay")
    open_board(page, project)
    server.kill()
    card(page, "Stay").get_by_role("link").focus()
    page.keyboard.press("4")
    expect(page.locator(".toast-error")).to_contain_text("Not moved")
    expect(page.locator("#column-todo .card-title")).to_have_text("Stay")
    page.keyboard.press("c")
    page.fill("#create-name", "Written while offline")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#create-dialog .field-error")).to_contain_text("kept")
    server.start()
    wait_live(page)
    page.keyboard.press("Control+Enter")
    expect(card(page, "Written while offline")).to_be_visible()
    expect_true(page, api, project)


def test_a_line_on_which_nothing_arrives_counts_as_broken(api: Api, server: LiveServer, page: Page) -> None:
    project = api.project("Before")
    open_board(page, project)
    assert server.process is not None
    server.process.send_signal(signal.SIGSTOP)
    try:
        expect(page.locator("#line")).to_have_attribute("data-state", "reconnecting")
        expect(page.locator("#line")).to_contain_text("Reconnecting")
    finally:
        server.process.send_signal(signal.SIGCONT)
    wait_live(page)
    api.task(project, "After")
    expect(card(page, "After")).to_be_visible()


def test_offline_and_online(api: Api, open_context: Any) -> None:
    page = open_context().new_page()
    project = api.project("Before")
    open_board(page, project)
    page.context.set_offline(True)
    expect(page.locator("#line")).to_have_attribute("data-state", "offline")
    api.task(project, "Meanwhile")
    page.context.set_offline(False)
    wait_live(page)
    expect(card(page, "Meanwhile")).to_be_visible()
    expect_true(page, api, project)


def test_signing_out_in_another_tab_is_said(api: Api, server: LiveServer, open_context: Any) -> None:
    project = api.project("Before")
    context = open_context(signed=False)
    page, other = context.new_page(), context.new_page()
    page.goto(f"/sign-in/{api.spare_link}")
    open_board(page, project)
    page.evaluate(FOLLOW, [f"/api/events/?project_id={project}", 5])  # some of them in a bundle
    wait_for(lambda: states(page) == ["live"] * 5)
    other.goto("/")
    other.locator("#user-menu summary").click()
    other.get_by_role("button", name="Sign out").click()
    expect(other).to_have_url(f"{server.url}/sign-in/")
    expect(page.locator("#line")).to_have_attribute("data-state", "signedout")
    wait_for(lambda: states(page) == ["signedout"] * 5)
    page.locator("#line").click()
    expect(page).to_have_url(f"{server.url}/sign-in/?next=%2Fprojects%2F{project}%2F")


def test_a_hidden_tab_costs_no_connection_and_is_exact_when_shown(api: Api, page: Page) -> None:
    project = api.project("Before")
    open_board(page, project)
    wait_for(lambda: subscribers(api) == 1)
    show(page, "hidden")
    wait_for(lambda: subscribers(api) == 0)
    api.task(project, "Meanwhile")
    waited = page.evaluate(
        """async () => {
            const from = performance.now();
            Object.defineProperty(document, "visibilityState", {value: "visible", configurable: true});
            document.dispatchEvent(new Event("visibilitychange"));
            const titles = () => [...document.querySelectorAll(".card-title")].map((a) => a.textContent);
            const there = () => titles().includes("Meanwhile");
            while (!there() && performance.now() - from < 20000) await new Promise((r) => setTimeout(r, 5));
            return performance.now() - from;
        }"""
    )
    assert waited < scaled(300, 3_000), f"{waited:.0f} ms"
    expect_true(page, api, project)
    # So does a page that one leaves, and that the browser keeps for the way back.
    page.evaluate("dispatchEvent(new PageTransitionEvent('pagehide', {persisted: true}))")
    wait_for(lambda: subscribers(api) == 0)
    page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', {persisted: true}))")
    wait_live(page)


def subscribers(api: Api) -> int:
    return sum(one["subscribers"] for one in api("GET", "/api/events/streams"))


def show(page: Page, state: str) -> None:
    page.evaluate(
        """(state) => {
            Object.defineProperty(document, "visibilityState", {value: state, configurable: true});
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        state,
    )


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + PATIENCE / 1000
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


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


# Counts connections, and does away with the watch for silence, which would in time make good what goes wrong at once.
BY_ITSELF = """
    globalThis.opened = 0;
    globalThis.EventSource = class extends EventSource {
        constructor(...rest) {
            super(...rest);
            opened += 1;
        }
    };
    const every = globalThis.setInterval;
    globalThis.setInterval = (act, delay) => (delay === 1_000 ? 0 : every(act, delay));
"""


def test_more_tabs_than_connections_are_all_live_by_one(
    api: Api, server: LiveServer, open_context: Any
) -> None:
    """All count as visible here, as windows beside each other would be: the hardest case."""
    project = api.project("Before")
    context = open_context()
    context.add_init_script(BY_ITSELF)
    pages = [context.new_page() for _ in range(7)]
    for page in pages:
        page.goto(f"/projects/{project}/")
    for page in pages:
        wait_live(page)
    api.task(project, "For all")
    for page in pages:
        expect(card(page, "For all")).to_be_visible()
    assert answer_of(pages[6], "/api/projects") == 200
    # They read the same, so one of them receives for all; whichever it was, the others go on without it.
    wait_for(lambda: subscribers(api) == 1)
    for page in pages:
        wait_live(page)
    opened = [page.evaluate("opened") for page in pages]
    api.task(project, "For all again")
    for page in pages:
        expect(card(page, "For all again")).to_be_visible()
    assert [page.evaluate("opened") for page in pages] == opened, "somebody connected anew"
    pages[6].evaluate(
        "globalThis.got = []; vibe.live.manager.addEventListener('message', (event) => got.push(event.detail.id))"
    )
    pages[0].evaluate(FROM_ANOTHER_CURSOR)
    pages[0].evaluate(THAT_DOES_NOT_FIT)  # those that are not connected take it, and start over
    for page in pages:
        expect_true(page, api, project)
    for page in pages[:4]:
        page.close()
    wait_for(lambda: subscribers(api) == 1)
    server.kill()
    for page in pages[4:]:
        expect(page.locator("#line")).to_have_attribute("data-state", "reconnecting")
    server.start()
    for page in pages[4:6]:
        wait_live(page)
        page.close()
    api.task(project, "For the last")
    expect(card(pages[6], "For the last")).to_be_visible()
    expect_true(pages[6], api, project)
    wait_for(lambda: subscribers(api) == 1)
    got = pages[6].evaluate("got")
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


def test_twelve_tabs_with_logs_of_their_own_are_all_live_at_once(
    api: Api, open_context: Any, tmp_path: Path
) -> None:
    """Three pages of tasks, and nine that only read: each two streams, and more than a browser has connections."""
    project = api.project("One", "Two", "Three")
    script = (
        f"for n in 1 2 3; do until [ -e {tmp_path}/$n ]; do sleep 0.02; done; echo line $n; done; sleep 600"
    )
    runs = []
    for task in api.tasks(project).values():
        body = {"task_id": task["id"], "executor": "script", "prompt": script}
        runs.append(run_of(api, api("POST", "/api/task-attempts", body)["id"]))
    context = open_context()
    context.add_init_script(BY_ITSELF)
    pages = [context.new_page() for _ in range(12)]
    for page, task in zip(pages, api.tasks(project).values(), strict=False):
        page.goto(f"/tasks/{task['id']}/?view=log")
    for number, page in enumerate(pages[3:]):
        follow(page, f"/api/events/processes/{runs[number % 3]}/logs", 2)
    for page in pages[:3]:
        wait_live(page)
    wait_for(lambda: subscribers(api) == 12 * 2 + 1)
    opened: list[int] = []
    for number in range(1, 4):
        (tmp_path / str(number)).touch()
        for page in pages[:3]:
            expect(page.locator(".log-stdout .log-text").last).to_have_text(f"line {number}")
        for page in pages[3:]:
            wait_for(lambda page=page, number=number: page.evaluate("got.at(-1)") == f"line {number}")
            assert answer_of(page, "/api/projects") == 200
        opened = opened or [page.evaluate("opened") for page in pages]
    assert [page.evaluate("opened") for page in pages] == opened, "somebody connected anew"
    assert [last_number(page) for page in pages[:3]] == [3] * 3
    assert all(page.evaluate("got.length") == 3 for page in pages[3:])
    api.stop(project)


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


# Streams and what comes of the first, on a page that has nothing else. No watch for silence makes good in time what
# goes wrong at once, or takes a loaded machine for a broken line.
FOLLOW = """async ([url, count]) => {
    const { EventSourceManager } = await import("/static/events/event-source-manager.js");
    const one = () => new EventSourceManager(url, {heartbeatSeconds: 60});
    globalThis.managers = Array.from({length: count}, one);
    globalThis.got = [];
    managers[0].addEventListener("message", ({detail}) => {
        if (detail.type === "message") got.push(JSON.parse(detail.data).content);
    });
    for (const manager of managers) manager.start();
}"""
NOTE_BUNDLES = """
    globalThis.EventSource = class extends EventSource {
        constructor(url) {
            super(url);
            if (url.includes("/bundle")) bundles += 1;
        }
    };
    globalThis.bundles = 0;
"""


def follow(page: Page, url: str, count: int = 1) -> None:
    page.goto(RESTING)
    page.evaluate(FOLLOW, [url, count])


def states(page: Page) -> list[str]:
    return sorted(page.evaluate("managers.map((manager) => manager.state)"))


def test_nothing_is_lost_or_doubled_whoever_leads_the_bundle(
    api: Api, server: LiveServer, open_context: Any, tmp_path: Path
) -> None:
    """Four of these tabs share a connection, and one after the other of those that lead it goes."""
    task = api.task(api.project(), "Prints")
    script = f"n=0; while [ ! -e {tmp_path}/enough ]; do n=$((n+1)); echo $n; [ $((n%10)) != 0 ] || sleep 0.03; done"
    body = {"task_id": task, "executor": "script", "prompt": script}
    run = run_of(api, api("POST", "/api/task-attempts", body)["id"])
    context = open_context()
    context.add_init_script(NOTE_BUNDLES)
    pages = [context.new_page() for _ in range(7)]
    for page in pages:
        follow(page, f"/api/events/processes/{run}/logs")
    all_go_on(pages)
    hidden = leader(pages)
    show(hidden, "hidden")
    rest = [page for page in pages if page is not hidden]
    closed = leader(rest)
    all_go_on(rest)
    closed.close()
    rest.remove(closed)
    crashed = leader(rest)
    all_go_on(rest)
    crash(crashed)
    rest.remove(crashed)
    leader(rest)
    all_go_on(rest)
    show(hidden, "visible")
    all_go_on([*rest, hidden])
    server.kill()
    server.start()
    all_go_on([*rest, hidden])
    (tmp_path / "enough").touch()
    for page in [*rest, hidden]:
        wait_for(lambda page=page: states(page) == ["finished"])
        got = page.evaluate("got")
        assert got == [str(number) for number in range(1, len(got) + 1)]
    assert len({page.evaluate("got.length") for page in [*rest, hidden]}) == 1


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
    for page in pages:
        had = page.evaluate("got.length")
        page.wait_for_function("(had) => got.length > had + 50", arg=had)


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
@pytest.mark.parametrize(("padding", "fit"), [(0, 50), (515, 11)])
def test_who_does_not_fit_into_the_bundle_waits_and_no_request_hangs(
    api: Api, page: Page, padding: int, fit: int
) -> None:
    follow(page, f"/api/events/?project_id={api.project()}&padding={'x' * padding}", 3 + fit + 2)
    wait_for(lambda: states(page) == ["live"] * (3 + fit) + ["reconnecting"] * 2)
    assert answer_of(page, "/api/projects") == 200
    page.evaluate(NOTE_BUNDLES)
    page.evaluate(TRY_AGAIN)
    assert page.evaluate("bundles") == 0, "for nothing, all others were connected anew"
    page.evaluate("managers.slice(-9, -6).forEach((manager) => manager.close())")
    wait_for(lambda: subscribers(api) == fit)
    page.evaluate(TRY_AGAIN)
    wait_for(lambda: states(page) == ["idle"] * 3 + ["live"] * (2 + fit))


@pytest.fixture
def still(open_context: Any) -> Page:
    """A tab whose clock stands still but for `run_for`."""
    page = open_context().new_page()
    page.clock.install()
    page.goto(RESTING)
    page.clock.pause_at(page.evaluate("Date.now() + 60_000"))
    return page


MANAGE = """async (url) => {
    const { EventSourceManager } = await import("/static/events/event-source-manager.js");
    globalThis.one = new EventSourceManager(url, {heartbeatSeconds: 1, share: true}).start();
}"""


class Refusal:
    """Answers a page's requests for streams by a status, until `over` is called."""

    def __init__(self, page: Page, status: int) -> None:
        self.page = page
        self.status = status
        self._asked = 0
        page.route("**/api/events/", self._answer)

    @property
    def asked(self) -> int:
        self.page.evaluate("0")  # Requests are answered while the page is asked for something.
        return self._asked

    def _answer(self, route: Route) -> None:
        self._asked += 1
        route.fulfill(status=self.status)

    def over(self) -> None:
        self.page.unroute_all()


def state(page: Page) -> str:
    return str(page.evaluate("one.state"))


def test_after_too_many_streams_it_waits_five_seconds_and_a_closed_one_for_ever(still: Page) -> None:
    refusal = Refusal(still, 429)
    still.evaluate(MANAGE, "/api/events/")
    wait_for(lambda: still.evaluate("one.retryAt - Date.now()") == 5_000)
    asked = refusal.asked
    still.clock.run_for(4_900)
    assert (state(still), refusal.asked) == ("reconnecting", asked)
    still.clock.run_for(100)
    wait_for(lambda: refusal.asked == asked + 2)  # a stream, and why there is none
    wait_for(lambda: still.evaluate("one.retryAt - Date.now()") == 5_000)
    still.evaluate("one.close()")
    still.clock.run_for(60_000)
    assert (state(still), refusal.asked) == ("idle", asked + 2)


def test_who_is_signed_out_looks_every_fifteen_seconds(still: Page) -> None:
    refusal = Refusal(still, 401)
    still.evaluate(MANAGE, "/api/events/")
    wait_for(lambda: state(still) == "signedout")
    asked = refusal.asked
    still.clock.run_for(14_900)
    assert refusal.asked == asked
    still.clock.run_for(100)
    wait_for(lambda: refusal.asked == asked + 1)
    assert state(still) == "signedout"
    refusal.over()
    still.clock.run_for(15_000)
    wait_for(lambda: state(still) == "live")


def test_a_tab_that_is_hidden_for_a_moment_keeps_its_connection(still: Page) -> None:
    still.evaluate(MANAGE, "/api/events/")
    wait_for(lambda: state(still) == "live")
    still.evaluate(
        "globalThis.said = []; one.addEventListener('state', ({detail}) => said.push(detail.state))"
    )
    show(still, "hidden")
    still.clock.run_for(399)
    show(still, "visible")
    still.clock.run_for(399)
    assert still.evaluate("said") == []
    show(still, "hidden")
    still.clock.run_for(401)
    assert still.evaluate("said") == ["paused"]


CARRY = """
    globalThis.channel = new BroadcastChannel(`vibe.stream ${one.url}`);
    navigator.locks.request("vibe.carrier 2", () => new Promise(() => null));
    globalThis.carry = (said) => channel.postMessage({rank: 2, carries: true, ...said});
"""


def test_a_carrier_that_stands_elsewhere_or_falls_silent_is_left(api: Api, still: Page) -> None:
    still.evaluate(MANAGE, f"/api/events/?project_id={api.project()}")
    wait_for(lambda: still.evaluate("one.cursor !== null"))
    still.evaluate(CARRY)

    def follow_it() -> None:
        wait_for(lambda: (subscribers(api), state(still)) == (1, "live"))
        still.evaluate("carry({before: one.cursor, id: one.cursor})")
        wait_for(lambda: subscribers(api) == 0)
        assert state(still) == "live"

    follow_it()
    still.evaluate("carry({before: 'elsewhere', id: 'beyond', type: 'message', data: '{}'})")
    follow_it()
    still.clock.run_for(2_400)
    assert subscribers(api) == 0
    still.clock.run_for(1_200)
    wait_for(lambda: subscribers(api) == 1)


def test_a_page_that_is_opened_in_the_background_connects_when_it_is_shown(
    api: Api, open_context: Any
) -> None:
    page = open_context().new_page()
    page.add_init_script(
        "Object.defineProperty(document, 'visibilityState', {value: 'hidden', configurable: true})"
    )
    page.goto(f"/projects/{api.project()}/", wait_until="load")
    page.evaluate("new Promise((later) => setTimeout(later))")  # pageshow comes right after load
    state = page.evaluate("vibe.live.manager.state")
    show(page, "visible")
    wait_live(page)
    assert state == "paused"


ASK = """async () => {
    const { src } = document.querySelector("script[src$='/tasks/js/app.js']");
    const { api } = await import(src.replace("app.js", "api.js"));
    const { name, status, message } = await api.get("/api/events/", {timeout: 500}).catch((error) => error);
    return [status, message];
}"""


def test_an_answer_that_breaks_off_is_a_failure_in_words(api: Api, page: Page) -> None:
    open_board(page, api.project())
    status, words = page.evaluate(ASK)
    assert status == 0 and words.startswith("The line broke during the answer")
