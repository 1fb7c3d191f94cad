"""Folders of this machine that a person may choose a repository from: those under the allowed roots."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tasks.errors import Refused

MOST = 1_000


@dataclass(frozen=True)
class Folder:
    name: str
    path: str
    repository: bool


@dataclass(frozen=True)
class Listing:
    """`parent` is None at a root; `more` says that there are folders beyond the first thousand."""

    path: str
    parent: str | None
    repository: bool
    folders: list[Folder]
    more: bool

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def list_folder(path: str, roots: Sequence[Path]) -> Listing:
    """The folders in `path` (a root itself where it is empty), without hidden ones.

    Raises Refused: 403 outside of the roots (links are followed first), 404 where there is no such folder.
    """
    allowed = [root.resolve() for root in roots]
    if "\0" in path:
        raise Refused("A path has no NUL character in it.", 404)
    folder = Path(os.path.realpath(os.path.expanduser(path))) if path else allowed[0]
    if not any(folder.is_relative_to(root) for root in allowed):
        shown = ", ".join(str(root) for root in allowed)
        raise Refused(f"{folder} is not under the folders that repositories may lie in ({shown}).", 403)
    names = _folder_names(folder)
    return Listing(
        path=str(folder),
        parent=None if folder in allowed else str(folder.parent),
        repository=_is_repository(folder),
        folders=[_describe(folder / name) for name in names[:MOST]],
        more=len(names) > MOST,
    )


def _folder_names(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise Refused(f"{folder} can't be read: {error.strerror}.", 404) from error
    # Not the entry's own is_dir(), which raises for a link that leads to itself.
    return sorted((name for name in names if os.path.isdir(folder / name)), key=str.casefold)


def _describe(folder: Path) -> Folder:
    return Folder(folder.name, str(folder), _is_repository(folder))


def _is_repository(folder: Path) -> bool:
    """A work tree, with a folder .git or, in linked ones, a file of that name; cheap, git itself judges later."""
    return os.path.exists(folder / ".git")  # Path.exists() raises where the folder may not be entered
