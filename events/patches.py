"""Two documents -> the RFC 6902 operations that turn the first into the second. Pure."""

import json
from collections.abc import Mapping
from typing import Any

import jsonpatch
import orjson

from events.messages import MISSING, PatchOp

_OPERATIONS = frozenset({"add", "replace", "remove"})
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
    """The operations, in order, that turn the fields of one record into those of another.

    Only `add`, `replace` and `remove`; a field that holds a list or an object gets finer operations
    where these are the shorter way to say it.
    """
    changes: list[Change] = []
    for key, new in after.items():
        old = before.get(key, MISSING)
        if old is MISSING:
            changes.append((PatchOp("add", f"/{escape(key)}", new), MISSING))
        elif not _same(old, new):
            changes += _within(f"/{escape(key)}", old, new)
    for key in before.keys() - after.keys():
        changes.append((PatchOp("remove", f"/{escape(key)}"), before[key]))
    return changes


def _same(old: Any, new: Any) -> bool:
    if isinstance(old, (list, dict)) or isinstance(new, (list, dict)):
        return bool(encode(old) == encode(new))
    # In Python true equals 1; in JSON it does not.
    return bool(old == new) and isinstance(old, bool) == isinstance(new, bool)


def _within(path: str, old: Any, new: Any) -> list[Change]:
    whole: list[Change] = [(PatchOp("replace", path, new), old)]
    if type(old) is not type(new) or not isinstance(new, (list, dict)) or not old or not new:
        return whole
    patch = jsonpatch.make_patch(old, new).patch
    if not all(step["op"] in _OPERATIONS for step in patch) or len(encode(patch)) >= len(encode(new)):
        return whole
    if not _same(jsonpatch.apply_patch(old, patch), new):
        return whole
    return [(PatchOp(step["op"], path + step["path"], step.get("value", MISSING)), MISSING) for step in patch]
