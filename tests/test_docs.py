"""The documents say what there is, and nothing that is not there."""

import re
from pathlib import Path

import pytest

from tests.documents import DOCUMENTS, ROOT, anchor, headings

APPS = ("vibe", "events", "tasks")
# Variables of the system and of Django that the project passes on or reads, but that are no settings of its own.
NOT_OURS = {
    "PATH",
    "HOME",
    "USER",
    "SHELL",
    "LANG",
    "TERM",
    "TMPDIR",
    "DJANGO_SETTINGS_MODULE",
    "DJANGO_AUTORELOAD_ENV",
}
READS = re.compile(
    r"""(?:\benv\.\w+|\btext|\benviron(?:\.get|\.pop|\.setdefault)?)[\[(]\s*"([A-Z][A-Z0-9_]+)\""""
)
CONSTANT = re.compile(r'^([A-Z]+) = "(VIBE_[A-Z_]+)"', re.MULTILINE)


def sources() -> list[Path]:
    return [path for app in APPS for path in (ROOT / app).rglob("*.py") if "migrations" not in path.parts]


def settings_read() -> set[str]:
    found: set[str] = set()
    for path in sources():
        text = path.read_text()
        found |= set(READS.findall(text)) | {name for _, name in CONSTANT.findall(text)}
    return found - NOT_OURS


def test_each_setting_has_a_heading_and_each_heading_a_setting() -> None:
    documented = {
        heading.strip("`") for heading in headings(ROOT / "docs/settings.md") if heading.startswith("`")
    }
    assert documented == settings_read()


def test_each_command_has_a_heading_and_each_heading_a_command() -> None:
    files = [path for app in APPS for path in (ROOT / app / "management/commands").glob("*.py")]
    commands = {path.stem for path in files} - {"__init__"}
    documented = {
        heading.strip("`").split()[1]
        for heading in headings(ROOT / "docs/commands.md")
        if heading.startswith("`manage.py ")
    }
    assert documented == commands


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_each_link_leads_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, part = target.partition("#")
        there = (document.parent / name).resolve() if name else document
        assert there.exists(), f"{document.name} links to {target}, which is not there"
        if part:
            assert part in map(anchor, headings(there)), f"{document.name} links to {target}: no such heading"


def test_the_readme_leads_to_every_document() -> None:
    readme = (ROOT / "README.md").read_text()
    missing = [path.name for path in (ROOT / "docs").glob("*.md") if f"docs/{path.name}" not in readme]
    assert not missing
