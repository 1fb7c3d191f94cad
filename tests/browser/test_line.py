"""The line between page and server: lost and found again; and never a page that lies."""

import json
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import (
    PATIENCE,
    RESTING,
    Api,
    Watched,
    card,
    leave_dialog,
    lift,
    open_board,
    wait_live,
)
from tests.browser.lines import FOLLOW, expect_true, show, states, subscribers, wait_for
from tests.live import LiveServer
from tests.needs import needs_chromium
from tests.scale import scaled

pytestmark = needs_chromium
expect.set_options(timeout=PATIENCE)


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
    script = "i=0; while [ $i -lt 100000 ]; do echo line $i; i=$((i+1)); sleep 0.2; done"
    api("POST", "/api/task-attempts", {"task_id": busy, "executor": "script", "prompt": script})
    open_board(page, project)
    page.evaluate("window.sameDocument = true")
    page.keyboard.press("c")
    for number in range(scaled(20, 1)):
        page.locator("#create-name").press_sequentially(f"{number} ")
        server.stop() if number % 2 == 0 else server.kill()
        expect(page.locator("#line")).to_have_attribute("data-state", "reconnecting")
        server.start()
        api.task(project, f"Made after restart {number}")
        wait_live(page)
        expect_true(page, api, project)
        expect(page.locator("#column-inprogress .run-state")).to_have_text("Running")
    typed = "".join(f"{number} " for number in range(scaled(20, 1)))
    expect(page.locator("#create-name")).to_be_focused()
    expect(page.locator("#create-name")).to_have_value(typed)
    leave_dialog(page)
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


def test_offline_and_online(api: Api, page: Page) -> None:
    project = api.project("Before")
    open_board(page, project)
    page.context.set_offline(True)
    try:
        # Chromium may say so before requests fail, and one that still got through shows that the line holds.
        page.wait_for_function("fetch('/api/projects', {method: 'HEAD'}).then(() => false, () => true)")
        page.evaluate("dispatchEvent(new Event('offline'))")
        expect(page.locator("#line")).to_have_attribute("data-state", "offline")
        api.task(project, "Meanwhile")
    finally:
        page.context.set_offline(False)
    wait_live(page)
    expect(card(page, "Meanwhile")).to_be_visible()
    expect_true(page, api, project)


def test_signing_out_in_another_tab_is_said(api: Api, server: LiveServer, open_context: Any) -> None:
    project = api.project("Before")
    context = open_context(signed=False)
    page, other = context.new_page(), context.new_page()
    other.goto(f"/sign-in/{api.spare_link}")
    open_board(page, project)
    page.evaluate(FOLLOW, [f"/api/events/?project_id={project}", 5])  # some of them in a bundle
    wait_for(lambda: states(page) == ["live"] * 5)
    other.locator("#user-menu summary").click()
    other.get_by_role("button", name="Sign out").click()
    expect(other).to_have_url(f"{server.url}/sign-in/")
    expect(page.locator("#line")).to_have_attribute("data-state", "signedout")
    wait_for(lambda: states(page) == ["signedout"] * 5)
    page.keyboard.press("c")
    page.keyboard.type("Words")
    page.keyboard.press("Enter")
    expect(page.locator("#create-dialog .field-error")).to_contain_text("You are signed out.")
    leave_dialog(page)
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


ASK = """async (path) => {
    const { src } = document.querySelector("script[src$='/tasks/js/app.js']");
    const { api } = await import(src.replace("app.js", "api.js"));
    const { name, status, message } = await api.get(path, {timeout: 500}).catch((error) => error);
    return [status, message];
}"""


def test_an_answer_that_breaks_off_is_a_failure_in_words(api: Api, page: Page) -> None:
    open_board(page, api.project())
    status, words = page.evaluate(ASK, "/api/events/")
    assert status == 0 and words.startswith("The line broke during the answer")


def test_what_is_gone_is_said_to_be(api: Api, page: Page) -> None:
    open_board(page, api.project())
    gone = "/api/tasks/00000000-0000-4000-8000-000000000000"
    assert page.evaluate(ASK, gone) == [404, "It is no longer there."]


def test_who_cannot_know_is_not_told_that_nothing_was_saved(api: Api, page: Page) -> None:
    open_board(page, api.project())
    page.route("**/api/slow", lambda route: None)
    page.route("**/api/proxy", lambda route: route.fulfill(status=504))
    page.route("**/api/portal", lambda route: route.fulfill(body="<h1>Sign in to the network</h1>"))
    late = "The server did not answer in time: look whether it was saved."
    assert page.evaluate(ASK, "/api/slow") == [0, late]
    assert page.evaluate(ASK, "/api/proxy") == [504, late]
    status, words = page.evaluate(ASK, "/api/portal")
    assert status == 200 and words.startswith("Something else answered")


@pytest.fixture(scope="module")
def stopped(watched: Watched) -> Iterator[Page]:
    context = watched.open()
    page = context.new_page()
    page.clock.install()
    page.goto(RESTING)
    page.clock.pause_at(page.evaluate("Date.now() + 60_000"))
    yield page
    context.close()


@pytest.fixture
def still(stopped: Page, resting: list[Page], open_context: Any) -> Iterator[Page]:
    """A tab whose clock stands still but for `run_for`."""
    while resting:
        resting.pop().close()  # Or what it shows would go on beside the test.
    yield stopped
    stopped.unroute_all()
    stopped.goto(RESTING)


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


def test_each_wait_is_longer_than_the_last_and_no_two_tabs_wait_alike(still: Page) -> None:
    refusal = Refusal(still, 503)
    still.evaluate("globalThis.chance = 1; Math.random = () => chance")
    still.evaluate(MANAGE, "/api/events/")
    waits = []
    for number in range(8):
        wait_for(lambda number=number: refusal.asked == 2 * number + 2)  # a stream, and why there is none
        waits.append(still.evaluate("one.retryAt - Date.now()"))
        still.evaluate("(chance) => (globalThis.chance = chance)", 0 if number == 6 else 1)
        still.clock.run_for(waits[-1])
    assert waits == [400, 800, 1_600, 3_200, 6_400, 12_800, 15_000, 6_000]
    still.evaluate("one.close()")


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


def test_a_clock_that_is_put_back_hides_no_silence(still: Page) -> None:
    still.evaluate(MANAGE, "/api/events/")
    wait_for(lambda: state(still) == "live")
    still.evaluate("one.addEventListener('state', ({detail}) => (globalThis.said ??= detail.state))")
    still.clock.set_system_time(still.evaluate("Date.now() / 1_000") - 3_600)
    still.clock.run_for(10_000)
    assert still.evaluate("globalThis.said") == "reconnecting"


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
    api: Api, new_page: Callable[[], Page]
) -> None:
    with closing(new_page()) as page:
        page.add_init_script(
            "Object.defineProperty(document, 'visibilityState', {value: 'hidden', configurable: true})"
        )
        page.goto(f"/projects/{api.project()}/", wait_until="load")
        page.evaluate("new Promise((later) => setTimeout(later))")  # pageshow comes right after load
        state = page.evaluate("vibe.live.manager.state")
        show(page, "visible")
        wait_live(page)
        assert state == "paused"
