"""What all pages share: places, storage, the line, words, cards and colours."""

from typing import Any

import pytest
from playwright.sync_api import Page

from tests.browser.modules.conftest import call
from tests.needs import needs_chromium

pytestmark = needs_chromium


class TestPlaces:
    @pytest.mark.parametrize(
        ("hash_", "lines"),
        [
            ("#L12", [11, 11]),
            ("#L9-L3", [2, 8]),
            ("#L99", [49, 49]),
            ("#L0", [0, 0]),
            ("#x", None),
            ("", None),
        ],
    )
    def test_line_numbers_of_an_address(self, page: Page, hash_: str, lines: Any) -> None:
        assert call(page, "tasks/js/places.js", "m.lineRange(x, 50)", hash_) == lines

    def test_file_names_survive_the_address(self, page: Page) -> None:
        for name in ("a b/ü#?.py", "100%.txt"):
            assert call(page, "tasks/js/places.js", "m.fileOfHash(m.fileHash(x))", name) == name
        assert call(page, "tasks/js/places.js", "m.fileOfHash('#file=%E0%A4')") is None


class TestStorage:
    FULL = """(() => {
      localStorage.clear();
      localStorage.setItem("old", "o");
      for (let size = 2 ** 22; size >= 1; size /= 2) {
        try {
          localStorage.setItem(`filler ${size}`, "x".repeat(size));
        } catch { /* half of it, then */ }
      }
      const { storage } = m;
      const values = () => ["old", "new"].map((key) => [storage.getItem(key), localStorage.getItem(key)]);
      storage.setItem("old", "longer");
      storage.setItem("new", "words");
      const full = values();
      localStorage.removeItem(`filler ${2 ** 22}`);
      storage.setItem("old", "longest");
      storage.removeItem("new");
      const room = values();
      localStorage.clear();
      return [full, room];
    })()"""

    def test_what_does_not_fit_lasts_as_long_as_the_page(self, page: Page) -> None:
        full, room = call(page, "tasks/js/storage.js", self.FULL)
        assert full == [["longer", "o"], ["words", None]]
        assert room == [["longest", "longest"], [None, None]]


class TestConfirmOn:
    CODE = """(async () => {
      document.body.innerHTML = "<div id=announcer></div><button>Copy</button><button>one</button>";
      const [copy, branch] = document.querySelectorAll("button");
      const shown = [m.confirmOn(copy, "Copied"), m.confirmOn(copy, "Copied 3 lines"), m.confirmOn(branch, "Copied")];
      branch.textContent = "another";
      await Promise.all(shown);
      return [copy.textContent, branch.textContent];
    })()"""

    def test_the_label_comes_back_once_and_no_other_is_undone(self, page: Page) -> None:
        assert call(page, "tasks/js/controls.js", self.CODE) == ["Copy", "another"]


class TestLine:
    SAYS = """(() => {
      document.body.innerHTML = "<div id=announcer></div><button id=line><span class=line-text></span></button>";
      const line = Object.assign(new EventTarget(), { retryAt: null });
      const unwatch = m.watchLine(line);
      const { now } = Date;
      const words = x.map(([state, later]) => {
        Date.now = () => now() + later;
        line.state = state;
        line.dispatchEvent(new Event("state"));
        return document.querySelector(".line-text").textContent;
      });
      Date.now = now;
      unwatch();
      return words;
    })()"""

    def test_a_loss_is_as_long_as_itself(self, page: Page) -> None:
        states = [("live", 0), ("offline", 0), ("live", 500), ("offline", 60_000), ("offline", 80_000)]
        said = call(page, "tasks/js/line-status.js", self.SAYS, states)
        assert said == ["Live", "Offline", "Live", "Offline", "Offline · 20s"]


@pytest.mark.parametrize(
    ("exit_code", "told"),
    [
        (3, "Agent was not started, because the setup script failed (exit code 3)."),
        (None, "Agent could not be started or did not finish. The last lines of its output may say more."),
    ],
)
def test_only_a_setup_script_that_ran_is_said_to_have_failed(
    page: Page, exit_code: int | None, told: str
) -> None:
    setup = {"run_reason": "setupscript", "status": "failed", "exit_code": exit_code, "created_at": "1"}
    run = {"run_reason": "codingagent", "status": "failed", "exit_code": None, "created_at": "1"}
    assert call(page, "tasks/js/task/words.js", "m.endNotice(x[1], x).text", [setup, run]) == told


class TestHistory:
    ATTEMPTS = [{"id": "kept", "branch": "vibe/kept", "executor": "demo"}]
    GONE = {"branch": "vibe/gone", "executor": "script"}
    RUN = {"run_reason": "codingagent", "prompt": "again", "status": "queued", "task_attempt_id": "kept"}
    SENTENCES = """(() => {
      const names = m.namesOf(x.entries, { attempts: x.attempts, runs: () => [] });
      return x.entries.map((entry) => m.sentence(entry, names));
    })()"""

    def test_what_is_gone_has_a_name_all_the_same(self, page: Page) -> None:
        ended = {**self.RUN, "status": "completed", "task_attempt_id": "gone"}
        told = [
            ("task_attempts", "gone", "remove", self.GONE),
            ("execution_processes", "ended", "remove", ended),
            ("execution_processes", "queued", "remove", self.RUN),
            ("task_attempts", "gone", "add", None),
            ("task_attempts", "kept", "add", None),
        ]
        entries = [
            {"table": table, "object_id": pk, "operation": operation, "field": "", "old": old, "value": None}
            for table, pk, operation, old in told
        ]
        given = {"entries": entries, "attempts": self.ATTEMPTS}
        assert call(page, "tasks/js/task/sentences.js", self.SENTENCES, given) == [
            "deleted the attempt on vibe/gone",
            "deleted the agent of the attempt on vibe/gone",
            "took back the agent of attempt #1: “again”",
            "started the attempt on vibe/gone with script",
            "started attempt #1 with demo",
        ]


class TestBoard:
    def test_a_card_shows_the_run_that_goes_on_rather_than_those_that_wait_behind_it(
        self, page: Page
    ) -> None:
        run = {"task_attempt_id": "a", "run_reason": "codingagent", "started_at": None, "completed_at": None}
        document = {
            "tasks": {"t": {"id": "t", "status": "inprogress", "position": 1, "created_at": "1"}},
            "task_attempts": {"a": {"id": "a", "task_id": "t", "created_at": "1"}},
            "execution_processes": {
                "first": {**run, "id": "first", "status": "running", "created_at": "1"},
                "next": {**run, "id": "next", "status": "queued", "created_at": "2"},
            },
        }
        found = call(page, "tasks/js/board/model.js", "m.columns(x).get('inprogress')", document)
        assert [(card["run"], card["state"]) for card in found] == [("first", "running")]


class TestForcedColors:
    """In the colours of the system, as with Windows' contrast themes."""

    SHOWN = """(html) => {
        document.body.innerHTML = html;
        const shown = [...document.body.children].map((one) => {
            const { backgroundColor, borderBottomColor, borderLeftColor, outlineStyle } = getComputedStyle(one);
            return [backgroundColor, borderBottomColor, borderLeftColor, outlineStyle].join();
        });
        document.body.replaceChildren();
        return shown;
    }"""

    def test_what_is_said_by_colour_is_still_told_apart(self, page: Page) -> None:
        kinds = {
            "status": [
                f'<i class="status-ring" data-status="{one}"></i>' for one in ("todo", "inprogress", "done")
            ],
            "tab": [f'<b class="tab" role="tab" aria-selected="{one}"></b>' for one in ("true", "false")],
            "switch": [f'<button class="button" aria-pressed="{one}"></button>' for one in ("true", "false")],
            "line": [f'<p class="log-line {one}"></p>' for one in ("log-stderr", "")],
        }
        page.emulate_media(forced_colors="active")
        for kind, all_of_it in kinds.items():
            shown = page.evaluate(self.SHOWN, "".join(all_of_it))
            assert len(set(shown)) == len(all_of_it), (kind, shown)
        page.emulate_media(forced_colors="none")
