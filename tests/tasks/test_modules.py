import re
from pathlib import Path

from django.conf import LazySettings
from django.contrib.staticfiles import finders
from httpx import ASGITransport, AsyncClient

from tasks.board.modules import imports_of
from vibe.static import StaticFiles, version

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


def test_scripts_go_through_one_door_to_what_the_browser_keeps() -> None:
    """The rest would break where it is full or forbidden; theme.js runs before any module."""
    direct = {
        path
        for path in OWN
        if re.search(r"(local|session)Storage[.\[]", Path(str(finders.find(path))).read_text())
    }
    assert direct == {"tasks/js/storage.js", "tasks/js/theme.js"}


def test_the_version_is_another_one_once_a_file_differs(settings: LazySettings, tmp_path: Path) -> None:
    settings.STATICFILES_DIRS = [tmp_path]
    found = set()
    for name, content in (("a.js", "1"), ("a.js", "2"), ("b.js", "2")):
        (tmp_path / name).write_text(content)
        found.add(version.__wrapped__())
    assert len(found) == 3


async def test_a_file_that_changes_under_a_running_server_is_sent_whole(
    settings: LazySettings, tmp_path: Path
) -> None:
    settings.STATICFILES_DIRS = [tmp_path]
    (tmp_path / "a.js").write_text("old")

    async def elsewhere(*_: object) -> None:
        raise AssertionError("the file is known")

    site = ASGITransport(app=StaticFiles(elsewhere))
    async with AsyncClient(transport=site, base_url="http://site") as client:
        for content in ("old", "a longer new one"):
            (tmp_path / "a.js").write_text(content)
            answer = await client.get(f"{settings.STATIC_URL}a.js")
            assert (answer.text, answer.headers["content-length"]) == (content, str(len(content)))
