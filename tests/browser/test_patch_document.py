"""patch-document.js does to a document what the jsonpatch library does, and refuses what that refuses."""

import copy
import json
from pathlib import Path
from random import Random
from typing import Any

import jsonpatch
import pytest
from django.contrib.staticfiles import finders
from playwright.sync_api import Browser, Page

from tests.needs import needs_chromium

pytestmark = needs_chromium

KEYS = ["a", "b/c", "d~e", "", "0", "~1"]
RUN = """async ([source, cases]) => {
    const address = URL.createObjectURL(new Blob([source], {type: "text/javascript"}));
    const {applyPatch, PatchError} = await import(address);
    return cases.map(([document, patch]) => {
        try {
            return [true, patch.reduce(applyPatch, document)];
        } catch (error) {
            if (!(error instanceof PatchError)) throw error;
            return [false, null];
        }
    });
}"""


def value(random: Random, depth: int = 3) -> Any:
    kind = random.randrange(7 if depth else 4)
    if kind == 4:
        return [value(random, depth - 1) for _ in range(random.randrange(4))]
    if kind >= 5:
        return {key: value(random, depth - 1) for key in random.sample(KEYS, random.randrange(4))}
    return [None, True, random.randrange(9), random.choice(["", "text", "ünï", "</script>"])][kind]


@pytest.fixture(scope="module")
def page(browser: Browser) -> Page:
    return browser.new_page()


def run(page: Page, cases: list[Any]) -> list[Any]:
    found = finders.find("events/patch-document.js")
    assert isinstance(found, str)
    return list(page.evaluate(RUN, [Path(found).read_text(), cases]))


def test_any_difference_of_two_documents_is_applied(page: Page) -> None:
    random = Random(6902)
    pairs = [({"r": value(random)}, {"r": value(random)}) for _ in range(400)]
    cases = [[before, jsonpatch.make_patch(before, after).patch] for before, after in pairs]
    for case, (_, after), answer in zip(cases, pairs, run(page, cases), strict=True):
        assert answer == [True, after], case


@pytest.mark.parametrize(
    "patch",
    [
        [{"op": "remove", "path": "/nothing"}],
        [{"op": "replace", "path": "/nothing", "value": 1}],
        [{"op": "add", "path": "/nothing/below", "value": 1}],
        [{"op": "add", "path": "/list/4", "value": 1}],
        [{"op": "add", "path": "/list/01", "value": 1}],
        [{"op": "remove", "path": "/list/-"}],
        [{"op": "add", "path": "/text/0", "value": 1}],
        [{"op": "move", "from": "/map", "path": "/map/inner"}],
        [{"op": "test", "path": "/text", "value": "other"}],
        [{"op": "add", "path": "no-pointer", "value": 1}],
        [{"op": "invented", "path": "/text", "value": 1}],
        [{"op": "replace", "path": "/toString", "value": 1}],
    ],
    ids=lambda patch: f"{patch[0]['op']} {patch[0]['path']}",
)
def test_what_does_not_fit_is_refused(patch: list[Any], page: Page) -> None:
    document = {"list": [1, 2, 3], "map": {"inner": {}}, "text": "words"}
    with pytest.raises((jsonpatch.JsonPatchException, jsonpatch.JsonPointerException)):
        jsonpatch.apply_patch(copy.deepcopy(document), patch)
    assert run(page, [[document, patch]]) == [[False, None]]


def test_the_rfcs_other_operations(page: Page) -> None:
    document = {"a": [1, 2, 3], "b": {"c": 4}}
    patch = [
        {"op": "test", "path": "/b", "value": {"c": 4}},
        {"op": "move", "from": "/a/0", "path": "/a/2"},
        {"op": "copy", "from": "/b", "path": "/a/-"},
        {"op": "replace", "path": "/b/c", "value": 5},
        {"op": "add", "path": "/a/0", "value": 0},
    ]
    wanted = jsonpatch.apply_patch(document, patch)
    assert run(page, [[document, patch], [document, [{"op": "replace", "path": "", "value": {}}]]]) == [
        [True, wanted],
        [True, {}],
    ]


def test_the_cases_that_are_written_down(page: Page) -> None:
    cases = json.loads((Path(__file__).parent.parent / "data" / "patch_cases.json").read_text())
    answers = run(page, [[case["doc"], case["patch"]] for case in cases])
    for case, (applied, document) in zip(cases, answers, strict=True):
        assert (applied, document) == ("error" not in case, case.get("expected")), case
