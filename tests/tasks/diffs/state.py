"""What differs in a worktree, computed in the simplest way: plain git with an index of its own.

Shares no code with the project, so that each can be checked against the other.
"""

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

State = dict[str, dict[str, object]]
"""File -> record, as a client of the diff stream holds it."""


@dataclass(frozen=True)
class _Git:
    worktree: Path
    env: dict[str, str]

    def __call__(self, *args: str) -> bytes:
        command = ["git", "-c", "core.quotePath=false", "-c", "advice.addEmbeddedRepo=false", *args]
        done = subprocess.run(command, cwd=self.worktree, env=self.env, capture_output=True)
        assert done.returncode == 0, done
        return done.stdout


def name_for_clients(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return '"' + "".join(chr(b) if b < 128 else f"\\{b:03o}" for b in raw) + '"'


def git_says(worktree: Path, base: str) -> State:
    """The expected records, by file; `diff` are the hunks alone."""
    with tempfile.TemporaryDirectory() as folder:
        env = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
        index = subprocess.run(
            ["git", "rev-parse", "--git-path", "index"], cwd=worktree, env=env, capture_output=True, text=True
        ).stdout.strip()
        shutil.copy(worktree / index, Path(folder, "index"))
        common = subprocess.run(
            ["git", "rev-parse", "--git-common-dir"], cwd=worktree, env=env, capture_output=True, text=True
        ).stdout.strip()
        env |= {
            "GIT_INDEX_FILE": str(Path(folder, "index")),
            "GIT_LITERAL_PATHSPECS": "1",
            "GIT_OBJECT_DIRECTORY": folder,
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": str((worktree / common / "objects").resolve()),
        }
        git = _Git(worktree, env)
        git("add", "--all", ".")
        fields = git("diff", "--name-status", "-z", "-M", base).split(b"\0")[:-1]
        changes = []
        while fields:
            status = fields.pop(0).decode()
            old = fields.pop(0) if status[0] == "R" else None
            changes.append((status[0], fields.pop(0), old))
        patches = (b"\n" + git("diff", "-M", base)).split(b"\ndiff --git ")[1:]
        counts = git("diff", "-M", "--numstat", base).split(b"\n")[:-1]
        state: State = {}
        for (status, path, old), count in zip(changes, counts, strict=True):
            # A change of type is a deletion and an addition.
            parts = [patches.pop(0) for _ in range(2 if status == "T" else 1)]
            record = _shown(status, path, old, [part.removesuffix(b"\n") + b"\n" for part in parts], count)
            state[str(record["file"])] = record
        assert not patches
        return state


def _shown(
    status: str, path: bytes, old: bytes | None, patches: list[bytes], count: bytes
) -> dict[str, object]:
    added, deleted = count.split(b"\t")[:2]
    hunks = b"".join(patch[patch.index(b"\n@@ ") + 1 :] for patch in patches if b"\n@@ " in patch)
    binary = any(b"\nBinary files " in patch for patch in patches)
    change = {"A": "added", "D": "deleted", "R": "renamed"}.get(status, "modified")
    if change == "modified" and not hunks and not binary:
        change = "mode"
    return {
        "file": name_for_clients(path),
        "diff": "" if binary else hunks.decode(errors="replace"),
        "change": change,
        "old_path": None if old is None else name_for_clients(old),
        "additions": 0 if added == b"-" else int(added),
        "deletions": 0 if deleted == b"-" else int(deleted),
        "omitted": "binary" if binary else None,
    }


def applied(state: State, record: dict[str, object]) -> None:
    """What a client does with a record."""
    if record["change"] == "reverted":
        assert record["diff"] == ""
        state.pop(str(record["file"]), None)
    else:
        state[str(record["file"])] = record
