from pathlib import Path

import pytest

from tasks.errors import Refused
from tasks.folders import list_folder
from tests.repositories import git, make_repository


def test_a_listing_tells_repositories_from_folders(tmp_path: Path) -> None:
    make_repository(tmp_path / "work" / "b-repository")
    (tmp_path / "work" / "A-folder").mkdir()
    (tmp_path / "work" / ".hidden").mkdir()
    (tmp_path / "work" / "file").write_text("")
    listing = list_folder(str(tmp_path / "work"), [tmp_path])
    assert [(folder.name, folder.repository) for folder in listing.folders] == [
        ("A-folder", False),
        ("b-repository", True),
    ]
    assert (listing.parent, listing.repository, listing.more) == (str(tmp_path), False, False)


def test_nothing_is_above_a_root(tmp_path: Path) -> None:
    assert list_folder("", [tmp_path]).parent is None


def test_a_linked_work_tree_counts_and_a_bare_repository_does_not(tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "repository")
    git(repository, "worktree", "add", "-q", str(tmp_path / "linked"))
    git(repository, "clone", "-q", "--bare", ".", str(tmp_path / "bare.git"))
    found = {folder.name: folder.repository for folder in list_folder("", [tmp_path]).folders}
    assert found == {"repository": True, "linked": True, "bare.git": False}


def test_links_that_lead_nowhere_or_to_themselves_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "gone").symlink_to("nothing")
    (tmp_path / "folder").mkdir()
    assert [folder.name for folder in list_folder("", [tmp_path]).folders] == ["folder"]


@pytest.mark.parametrize("path", ["/", "/etc", "{root}/../", "{root}/link"])
def test_what_lies_outside_of_the_roots_is_refused(path: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to("/etc")
    with pytest.raises(Refused) as refusal:
        list_folder(path.format(root=root), [root])
    assert refusal.value.status == 403


@pytest.mark.parametrize("name", ["nothing", "loop", "a" * 300])
def test_a_folder_that_is_not_there(name: str, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(Refused, match="can't be read"):
        list_folder(str(tmp_path / name), [tmp_path])


@pytest.mark.parametrize("path", ["~no-such-account", "a\0b"])
def test_what_is_no_path_at_all_is_refused(path: str, tmp_path: Path) -> None:
    with pytest.raises(Refused):
        list_folder(path, [tmp_path])
