"""Real git repositories for tests."""

import atexit
import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

# The system refuses to look there, as it does where a disk is gone or a folder above is closed.
UNREACHABLE = "/" + "a" * 300


def git(folder: Path, *args: str) -> str:
    """Plain git, apart from the project's own door to it, so that tests check one against the other."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    env |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false"]
    # Or each commit starts another git, to look whether there is something to tidy up.
    identity += ["-c", "maintenance.auto=false"]
    done = subprocess.run(
        ["git", *identity, *args],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        errors="surrogateescape",
    )
    assert done.returncode == 0, f"git {args}: {done.stdout}{done.stderr}"
    return done.stdout


def make_repository(folder: Path, files: dict[str, str] | None = None) -> Path:
    """A repository with one commit on `main`; its folder."""
    if files is None:
        shutil.copytree(_usual(), folder, dirs_exist_ok=True)
        git(folder, "update-index", "-q", "--refresh")
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    git(folder, "init", "-q", "-b", "main")
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "Start")
    return folder


@functools.cache
def _usual() -> Path:
    """What most tests begin with, made once for all of a process."""
    folder = Path(tempfile.mkdtemp(prefix="vibe-repository-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    make_repository(folder, {"README.md": "# Test\n", "src/app.py": "print('hello')\n"})
    for sample in Path(folder, ".git", "hooks").glob("*.sample"):
        sample.unlink()  # half of all files to copy
    return folder
