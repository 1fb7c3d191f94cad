"""Two documents -> the RFC 6902 operations that turn the first into the second. Pure."""

import json
from collections.abc import Mapping
from typing import Any

import jsonpatch
import orjson

from events.messages import MISSING, PatchOp

Change = tuple[PatchOp, Any]
"""An operation, and the value that was there before it (MISSING where there was none)."""


def encode(value: Any) -> bytes:
    """JSON as it is sent. Integers of any size and keys that are no strings are taken as Python's json takes them."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value, separators=(",", ":")).encode()


def escape(key: str) -> str:
    """One step of a JSON pointer (RFC 6901)."""
    return key.replace("~", "~0").replace("/", "~1")


def diff(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """The operations, in the order of the fields, that turn the fields of one record into those of another.

    Only `add`, `replace` and `remove`; a field that holds a list or an object gets finer operations
    where these are the shorter way to say it.
    """
    changes: list[Change] = []
    for key in [*after, *(before.keys() - after.keys())]:
        old, new = before.get(key, MISSING), after.get(key, MISSING)
        if not _same(old, new):
            changes += _of_field(key, old, new)
    return changes


def _same(old: Any, new: Any) -> bool:
    if isinstance(old, (list, dict)) and isinstance(new, (list, dict)):
        return bool(encode(old) == encode(new))
    # In Python true equals 1; in JSON it does not.
    return bool(old == new) and isinstance(old, bool) == isinstance(new, bool)


def _of_field(key: str, old: Any, new: Any) -> list[Change]:
    # Field by field, for the library tells those of a document in any order. Its optimization would move values.
    before, after = ({} if value is MISSING else {key: value} for value in (old, new))
    steps = jsonpatch.JsonPatch.from_diff(before, after, optimization=False).patch
    path = f"/{escape(key)}"
    if len(steps) == 1 and steps[0]["path"] == path:
        return [(_operation(steps[0]), old)]
    if len(encode(steps)) >= len(encode(new)):
        return [(PatchOp("replace", path, new), old)]
    return [(_operation(step), MISSING) for step in steps]


def _operation(step: Mapping[str, Any]) -> PatchOp:
    return PatchOp(step["op"], step["path"], step.get("value", MISSING))
