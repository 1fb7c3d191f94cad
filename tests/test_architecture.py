"""Imports run one way: vibe -> tasks -> events; and what is pure in events imports no Django."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAY_IMPORT = {"events": {"events"}, "tasks": {"tasks", "events"}, "vibe": {"vibe", "tasks", "events"}}
PURE = ("messages", "sse", "store", "patches", "steps")


def imported(path: Path) -> Iterator[str]:
    """The modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the direction"
            yield node.module or ""


@pytest.mark.parametrize("app", MAY_IMPORT)
def test_imports_run_one_way(app):
    # Its commands may start what vibe has: they are its front door, and nothing imports them.
    for path in (ROOT / app).rglob("*.py"):
        if "management" in path.parts and app == "tasks":
            continue
        found = {name.split(".")[0] for name in imported(path)} & set(MAY_IMPORT)
        assert found <= MAY_IMPORT[app], f"{path.relative_to(ROOT)} imports {found - MAY_IMPORT[app]}"


@pytest.mark.parametrize("module", PURE)
def test_what_is_pure_imports_no_django(module):
    seen: set[str] = set()
    waiting = [f"events.{module}"]
    while waiting:
        name = waiting.pop()
        assert not name.startswith(("django", "asgiref")), f"events.{module} reaches {name}"
        if name.startswith("events.") and name not in seen:
            seen.add(name)
            path = ROOT / (name.replace(".", "/") + ".py")
            waiting += imported(path) if path.exists() else []


def test_nothing_in_the_engine_names_the_board():
    """Not even in passing: a project without tasks has no use for the word."""
    names = ("task_attempt", "execution_process", "tasks.")
    for path in (ROOT / "events").rglob("*.py"):
        code = ast.unparse(_without_docstrings(ast.parse(path.read_text())))
        assert not any(name in code for name in names), path


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [one for one in body if not _is_text(one)] or [ast.Pass()]  # type: ignore[attr-defined]
    return tree


def _is_text(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
