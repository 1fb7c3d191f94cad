"""Random things that people, agents and git itself do to a worktree."""

import os
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.repositories import git

IDENTITY = ["-c", "user.name=Test", "-c", "user.email=test@example.com"]
NAMES = [
    "a.txt",
    "b c.txt",
    'q"uote.txt',
    "new\nline.txt",
    "tab\tname",
    "-option",
    "ünï.txt",
    b"caf\xe9.txt",
    "x.bin",
    "noise.log",
]
FOLDERS = ["", "src", "src/deep er", "out"]
BASE_LINES = [f"line {number}\n" for number in range(30)]


class Edits:
    def __init__(self, worktree: Path, seed: int) -> None:
        self.worktree = worktree
        self.random = random.Random(seed)
        self.done: list[str] = []

    def one(self) -> None:
        act = self.random.choice(ACTS)
        self.done.append(act.__name__)
        act(self)

    def place(self) -> bytes:
        name = self.random.choice(NAMES)
        raw = name if isinstance(name, bytes) else os.fsencode(name)
        return os.path.join(os.fsencode(self.worktree), os.fsencode(self.random.choice(FOLDERS)), raw)

    def existing(self) -> bytes | None:
        found = [
            os.path.join(folder, name)
            for folder, folders, names in os.walk(os.fsencode(self.worktree))
            if folders.sort() is None
            for name in sorted(names)
            if b"/.git" not in folder + b"/" + name
        ]
        return self.random.choice(found) if found else None

    def content(self) -> bytes:
        lines = list(BASE_LINES)
        for _ in range(self.random.randrange(4)):
            lines[self.random.randrange(len(lines))] = f"changed {self.random.randrange(9)}\n"
        return "".join(lines).encode()


def has_room(path: bytes) -> bool:
    """Makes the folder; False where something else stands in its way."""
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        return False
    return not os.path.isdir(path) or os.path.islink(path)


def write(e: Edits) -> None:
    path = e.place()
    if not has_room(path) or os.path.islink(path):
        return
    data = e.random.choice(
        [
            e.content(),
            e.content(),
            b"",
            b"no end",
            b"\0binary" + os.urandom(4),
            e.content().replace(b"\n", b"\r\n"),
            b"\xff\xfe latin\n",
        ]
    )
    with open(path, "wb") as file:
        file.write(data)


def append(e: Edits) -> None:
    path = e.existing()
    if path and not os.path.islink(path):
        with open(path, "ab") as file:
            file.write(b"more\n")


def delete(e: Edits) -> None:
    path = e.existing()
    if path:
        os.unlink(path)


def rename(e: Edits) -> None:
    path, goal = e.existing(), e.place()
    if path and has_room(goal):
        os.replace(path, goal)


def replace_by_rename(e: Edits) -> None:
    path = e.existing()
    if path and not os.path.islink(path):
        with open(path + b".tmp", "wb") as file:
            file.write(e.content())
        os.replace(path + b".tmp", path)


def change_mode(e: Edits) -> None:
    path = e.existing()
    if path and not os.path.islink(path):
        os.chmod(path, os.stat(path).st_mode ^ 0o111)


def link(e: Edits) -> None:
    path = e.place()
    if has_room(path) and not os.path.lexists(path):
        os.symlink(e.random.choice(["/etc/passwd", "..", "nowhere", "/"]), path)


def remove_folder(e: Edits) -> None:
    shutil.rmtree(e.worktree / e.random.choice(["src", "src/deep er", "out"]), ignore_errors=True)


def move_folder(e: Edits) -> None:
    source, goal = e.worktree / "src", e.worktree / "out" / "moved"
    if source.is_dir() and not goal.exists() and (goal.parent.is_dir() or not goal.parent.exists()):
        goal.parent.mkdir(exist_ok=True)
        source.rename(goal)


def file_for_folder(e: Edits) -> None:
    folder = e.worktree / "out"
    shutil.rmtree(folder, ignore_errors=True)
    if not os.path.lexists(folder):
        folder.write_text("a file now\n")
    elif folder.is_file():
        folder.unlink()


def ignore(e: Edits) -> None:
    rules = e.random.choice(["*.log\n", "out/\n", "*.bin\nsrc/deep er/\n", ""])
    (e.worktree / ".gitignore").write_text(rules)


def ignore_privately(e: Edits) -> None:
    exclude = Path(git(e.worktree, "rev-parse", "--git-path", "info/exclude").strip())
    file = exclude if exclude.is_absolute() else e.worktree / exclude
    file.parent.mkdir(exist_ok=True)
    file.write_text(e.random.choice(["tab*\n", "# nothing\n"]))


def attributes(e: Edits) -> None:
    (e.worktree / ".gitattributes").write_text(
        e.random.choice(["*.bin diff\n", "*.txt -diff\n", "* text=auto\n", ""])
    )


def stage(e: Edits) -> None:
    try_git(e, "add", "-A")


def stage_ignored(e: Edits) -> None:
    path = e.existing()
    if path and b"inner" not in path:
        try_git(e, "add", "-f", "--", os.fsdecode(path))


def unstage(e: Edits) -> None:
    try_git(e, "reset", "-q")


def commit(e: Edits) -> None:
    try_git(e, "add", "-A")
    try_git(e, "commit", "-q", "--allow-empty", "-m", "work")


def try_git(e: Edits, *args: str) -> None:
    """What may fail, and then leaves a conflict or a lock behind, as it does for people."""
    subprocess.run(["git", *IDENTITY, *args], cwd=e.worktree, capture_output=True)


def reset_hard(e: Edits) -> None:
    try_git(e, "reset", "-q", "--hard", e.random.choice(["HEAD", "HEAD~1", "main"]))


def check_out(e: Edits) -> None:
    try_git(e, "reset", "-q", "--hard")
    try_git(e, "checkout", "-q", "-f", e.random.choice(["topic", "side"]))


def detach(e: Edits) -> None:
    try_git(e, "checkout", "-q", "-f", "--detach")


def merge(e: Edits) -> None:
    try_git(e, "rebase", "--abort")
    try_git(e, "merge", "-q", *e.random.choice([["-X", "ours"], []]), "-m", "merged", "other")


def rebase(e: Edits) -> None:
    try_git(e, "merge", "--abort")
    try_git(e, "rebase", "-q", *e.random.choice([["-X", "theirs"], []]), "other")


def inner_repository(e: Edits) -> None:
    inner = e.worktree / "inner"
    if not inner.exists():
        inner.mkdir()
        git(inner, "init", "-q", "-b", "main")
        (inner / "file").write_text("inner\n")
        git(inner, "add", "-A")
        git(inner, "commit", "-q", "-m", "inner")
    else:
        e.random.choice(
            [lambda: shutil.rmtree(inner), lambda: git(inner, "commit", "-q", "--allow-empty", "-m", "next")]
        )()


def refresh_index(e: Edits) -> None:
    git(e.worktree, "status")


ACTS: list[Callable[[Edits], None]] = [
    *[write] * 6, *[append] * 4, *[delete] * 3, *[rename] * 4, *[replace_by_rename] * 2, *[change_mode] * 2, link,
    remove_folder, move_folder, file_for_folder, ignore, ignore_privately, attributes, stage, stage_ignored, unstage,
    commit, reset_hard, check_out, detach, merge, rebase, inner_repository, refresh_index,
]  # fmt: skip
