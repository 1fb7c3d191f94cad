"""Operations from differences; and what applies them, here and in the page, does the same with the same cases."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonpatch
import pytest
from django.contrib.staticfiles import finders
from hypothesis import given
from hypothesis import strategies as st

from events.patches import diff, encode, escape

DATA = Path(__file__).parent.parent / "data"


def cases() -> list[dict[str, Any]]:
    """Our own, and the public ones: a document, operations, and what becomes of it or that it is an error."""
    files = ("patch_cases.json", "json-patch-tests/tests.json", "json-patch-tests/spec_tests.json")
    every = [case for name in files for case in json.loads((DATA / name).read_text())]
    return [case for case in every if not case.get("disabled")]


CASES = cases()
NODE = shutil.which("node")
FAILURES = (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException)
RUN = """
import { readFileSync } from "node:fs";
const source = readFileSync(process.argv[1], "utf8");
const address = `data:text/javascript,${encodeURIComponent(source)}`;
const { applyPatch, PatchError } = await import(address);
const answers = JSON.parse(readFileSync(0, "utf8")).map(({ doc, patch }) => {
    try {
        return { expected: patch.reduce(applyPatch, doc) };
    } catch (error) {
        if (!(error instanceof PatchError)) throw error;
        return { error: error.message };
    }
});
console.log(JSON.stringify(answers));
"""

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-5, 5) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)
DOCUMENTS = st.dictionaries(st.sampled_from(["a", "b/c", "~d", ""]), JSON)


@given(DOCUMENTS, DOCUMENTS)
def test_operations_turn_one_document_into_the_other(before: dict[str, Any], after: dict[str, Any]) -> None:
    document = json.loads(encode(before))
    for change, _ in diff(before, after):
        operation = json.loads(encode(change.as_dict()))
        assert operation["op"] in ("add", "replace", "remove")
        document = jsonpatch.apply_patch(document, [operation])
    assert encode(document) == encode({key: document[key] for key in document})
    assert json.dumps(document, sort_keys=True) == json.dumps(json.loads(encode(after)), sort_keys=True)


@given(DOCUMENTS)
def test_equal_documents_differ_by_nothing(document: dict[str, Any]) -> None:
    assert diff(document, json.loads(json.dumps(document))) == []


def test_true_is_not_one() -> None:
    (change, was) = diff({"a": True, "b": [True]}, {"a": 1, "b": [True]})[0]
    assert (change.path, change.value, was) == ("/a", 1, True)
    assert [change.path for change, _ in diff({"b": [True]}, {"b": [1]})] != []


def test_long_list_is_patched_within() -> None:
    labels = [f"label {number}" for number in range(50)]
    changes = [change.as_dict() for change, _ in diff({"l": labels}, {"l": [*labels, "new"]})]
    assert changes == [{"op": "add", "path": "/l/50", "value": "new"}]


def test_a_list_is_replaced_where_finer_operations_are_longer() -> None:
    ((change, was),) = diff({"l": [1]}, {"l": [2]})
    assert change.as_dict() == {"op": "replace", "path": "/l", "value": [2]}
    assert was == [1]


def test_what_moved_within_a_list_is_removed_and_added() -> None:
    long = "long " * 20
    changes = [change.as_dict() for change, _ in diff({"l": [long, "b", "c"]}, {"l": ["c", long, "b"]})]
    assert changes == [{"op": "add", "path": "/l/0", "value": "c"}, {"op": "remove", "path": "/l/3"}]


def test_integers_of_any_size() -> None:
    assert encode({"n": 2**80}) == b'{"n":%d}' % 2**80


def test_escapes() -> None:
    assert [escape(key) for key in ("a/b", "~", "~1", "")] == ["a~1b", "~0", "~01", ""]


def test_library_agrees_with_the_cases() -> None:
    assert len(CASES) > 150
    for case in CASES:
        if "error" in case:
            with pytest.raises(FAILURES):
                jsonpatch.apply_patch(case["doc"], case["patch"])
        else:
            result = jsonpatch.apply_patch(case["doc"], case["patch"])
            assert result == case.get("expected", result), case


@pytest.mark.skipif(NODE is None, reason="node is not installed")
def test_page_agrees_with_the_cases() -> None:
    module = finders.find("events/patch-document.js")
    run = subprocess.run(
        [str(NODE), "--input-type=module", "-e", RUN, str(module)],
        input=json.dumps(CASES),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    for case, answer in zip(CASES, json.loads(run.stdout), strict=True):
        assert ("error" in case) == ("error" in answer), case
        assert answer.get("expected") == case.get("expected", answer.get("expected")), case
