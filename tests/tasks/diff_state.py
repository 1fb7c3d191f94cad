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
        env |= {"GIT_INDEX_FILE": str(Path(folder, "index")), "GIT_LITERAL_PATHSPECS": "1"}
        git = _Git(worktree, env)
        git("add", "--intent-to-add", "--all", ".")
        fields = git("diff", "--name-status", "-z", "-M", base).split(b"\0")[:-1]
        state: State = {}
        while fields:
            status = fields.pop(0).decode()
            old = fields.pop(0) if status[0] == "R" else None
            path = fields.pop(0)
            if status[0] != "U":
                record = _record(git, base, status[0], path, old)
                state[str(record["file"])] = record
        return state


def _record(git: _Git, base: str, status: str, path: bytes, old: bytes | None) -> dict[str, object]:
    names = [os.fsdecode(name) for name in (old, path) if name is not None]
    patch = git("diff", "-M", base, "--", *names)
    counts = git("diff", "-M", "--numstat", "-z", base, "--", *names).split(b"\t")
    sections = patch.split(b"\ndiff --git ")
    hunks = b"\n".join(section[section.index(b"\n@@ ") + 1 :] for section in sections if b"\n@@ " in section)
    binary = b"\nBinary files " in patch
    change = {"A": "added", "D": "deleted", "R": "renamed"}.get(status, "modified")
    if change == "modified" and not hunks and not binary:
        change = "mode"
    return {
        "file": name_for_clients(path),
        "diff": "" if binary else hunks.decode(errors="replace"),
        "change": change,
        "old_path": None if old is None else name_for_clients(old),
        "additions": 0 if counts[0] == b"-" else int(counts[0]),
        "deletions": 0 if counts[1] == b"-" else int(counts[1]),
        "omitted": "binary" if binary else None,
    }


def applied(state: State, record: dict[str, object]) -> None:
    """What a client does with a record."""
    if record["change"] == "reverted":
        assert record["diff"] == ""
        state.pop(str(record["file"]), None)
    else:
        state[str(record["file"])] = record
