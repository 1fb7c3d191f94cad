import re
from pathlib import Path

from django.contrib.staticfiles import finders

from tasks.modules import imports_of

SCRIPTS = [path for finder in finders.get_finders() for path, _ in finder.list(None) if path.endswith(".js")]
OWN = [path for path in SCRIPTS if path.startswith(("tasks/", "events/"))]


def test_the_board_needs_the_line_and_the_patches() -> None:
    needed = imports_of("tasks/js/board/index.js")
    assert "events/event-source-manager.js" in needed
    assert "events/connection-slots.js" in needed
    assert len(needed) == len(set(needed))


def test_every_import_of_every_module_is_a_file() -> None:
    for module in OWN:
        for path in imports_of(module):
            assert finders.find(path), f"{module} needs {path}"


def test_scripts_write_no_markup_from_data_and_load_nothing_from_elsewhere() -> None:
    forbidden = re.compile(
        r"\.(inner|outer)HTML\s*=|insertAdjacentHTML|document\.write|\beval\(|https?://(?!www\.w3\.org)"
    )
    for path in OWN:
        found = finders.find(path)
        assert found
        assert not forbidden.search(Path(found).read_text()), path
