"""The one door to the git program, and one function a question.

Every call is an argument list with its own `cwd`; names that come from people stand behind `--` or as full
references, so that none is taken for an option. No hook of the repository runs: what the board does with git is
done by plumbing, and a failing hook must not leave it half done.
"""

import atexit
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from django.conf import settings

from tasks.errors import Refused

TIMEOUT_SECONDS: Final = 600.0
LAST_SECONDS: Final = 5.0
"""How long a process that ends waits for what its threads still do."""
_LONGEST_NAME: Final = 64 * 1024
_SECRETS: Final = {"SECRET_KEY", "DATABASE_URL", "EVENTS_URL", "VIBE_TOKEN"}
"""What opens something of the server's. Git runs filters and merge drivers, and any agent can configure one."""
EMPTY_TREE: Final = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
_EMPTY_BLOB: Final = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
_EMPTY_BLOB_SHA256: Final = "473a0f4c3be8a93681a267e3b1e9a7dcda1185436fe141f7749120a303721813"

_CONFIG: Final = (
    ("core.hooksPath", os.devnull),
    ("core.fsmonitor", "false"),
    ("core.quotePath", "false"),
    ("core.splitIndex", "false"),
    ("core.safecrlf", "false"),
    # Git (2.39) ruins a submodule that is not checked out here: it points to a git folder that is not there.
    ("submodule.recurse", "false"),
    ("commit.gpgSign", "false"),
    ("i18n.commitEncoding", "utf-8"),
    ("i18n.logOutputEncoding", "utf-8"),
    ("log.showSignature", "false"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("advice.addEmbeddedRepo", "false"),
    ("advice.detachedHead", "false"),
)


patience: Final[ContextVar[float]] = ContextVar("patience", default=TIMEOUT_SECONDS)
"""Seconds after which git is killed, with all that it started."""
kept_open: Final[ContextVar[tuple[int, ...]]] = ContextVar("kept_open", default=())
"""Descriptors that git's processes inherit: a lock on one of them lasts until they, too, have ended."""


class GitError(Exception):
    """Git said no. Shows the command, its exit code and both outputs."""

    def __init__(self, command: Sequence[str], code: int, stdout: bytes, stderr: bytes) -> None:
        self.command = tuple(command)
        self.code = code
        self.stdout = stdout.decode(errors="replace").strip()
        self.stderr = stderr.decode(errors="replace").strip()
        super().__init__(
            f"{' '.join(self.command)} ended with {code}\nstdout: {self.stdout}\nstderr: {self.stderr}"
        )

    @property
    def reason(self) -> str:
        """What git itself said, in short, for a person."""
        text = self.stderr or self.stdout or f"git ended with code {self.code}"
        return text.removeprefix("fatal: ").removeprefix("error: ")


class TookTooLong(GitError):
    """Git did not end in time and was killed, or a program that it ran: a filter, a merge driver, git-lfs."""

    def __init__(self, command: Sequence[str], stdout: bytes = b"", stderr: bytes = b"") -> None:
        stderr += b"\nstopped: it took longer than %g s" % patience.get()
        super().__init__(command, -signal.SIGKILL, stdout, stderr)


@dataclass(frozen=True, slots=True)
class Result:
    code: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        return os.fsdecode(self.stdout).removesuffix("\n")


@dataclass(frozen=True, slots=True)
class RepoInfo:
    path: Path
    """The top folder of its work tree, symlinks resolved."""
    default_branch: str
    branches: list[str]


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """In this block every git has to end within `seconds`, or raises TookTooLong."""
    token = patience.set(seconds)
    try:
        yield
    finally:
        patience.reset(token)


def ceiling() -> dict[str, str]:
    """A variable that keeps git, in a worktree whose `.git` is gone, out of the repository around the data folder."""
    return {"GIT_CEILING_DIRECTORIES": str(Path(settings.VIBE_DATA).absolute())}


def configured(*more: tuple[str, str]) -> dict[str, str]:
    """Variables that add these to what the board always configures."""
    variables = {"GIT_CONFIG_COUNT": str(len(_CONFIG) + len(more))}
    for number, (name, value) in enumerate((*_CONFIG, *more)):
        variables[f"GIT_CONFIG_KEY_{number}"] = name
        variables[f"GIT_CONFIG_VALUE_{number}"] = value
    return variables


def without_filters(repo: str | Path) -> dict[str, str]:
    """Variables that make git take contents as they are: no filter that is configured here runs."""
    wanted = r"^filter\..*\.(clean|smudge|process|required)$"
    found = run("config", "--null", "--name-only", "--get-regexp", wanted, cwd=repo, accept=(0, 1)).stdout
    names = {os.fsdecode(name) for name in found.split(b"\0") if name}
    return configured(*((name, "false" if name.endswith(".required") else "") for name in sorted(names)))


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The server's, but for GIT_* and secrets: git speaks English, asks nobody and takes no needless lock."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if name not in _SECRETS and not name.startswith("GIT_")
    }
    clean |= {
        "LC_ALL": "C",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_LITERAL_PATHSPECS": "1",
    }
    return clean | ceiling() | configured() | dict(extra or {})


_running: Final[set[subprocess.Popen[bytes]]] = set()
_starting: Final = threading.Lock()


@contextmanager
def begun(command: Sequence[str], **how: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Git in a session of its own: a signal to the server's process group does not cut it off in its middle.

    Raises GitError where it cannot be run at all.
    """
    with _starting:
        try:
            process: subprocess.Popen[bytes] = subprocess.Popen(command, start_new_session=True, **how)
        except OSError as error:
            said = f"cannot run in {how['cwd']}: {error.strerror}"
            raise GitError(command, 127, b"", said.encode()) from error
        _running.add(process)
    try:
        with process:
            yield process
    finally:
        _running.discard(process)


def end_with_process() -> None:
    """Called where a process ends, by itself within LAST_SECONDS or else by force: Python waits for its threads, and
    these may wait for a git that hangs. No git outlives it; what one was killed in is found unfinished by the next
    start, as after a kill of the server.
    """
    atexit.register(_kill_all)
    threading.Thread(target=_end_by_force, name="git-end", daemon=True).start()


def _end_by_force() -> None:
    time.sleep(LAST_SECONDS)
    _kill_all()
    os._exit(0)


def _kill_all() -> None:
    # For good: no thread may begin another, or note as a failure that its own was killed.
    _starting.acquire(timeout=1)
    for process in list(_running):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def run(
    *args: str | Path,
    cwd: str | Path,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    accept: Sequence[int] = (0,),
) -> Result:
    """Runs `git args…` in `cwd`. Raises GitError for an exit code not in `accept`, TookTooLong after `patience`."""
    command = ["git", *(os.fspath(arg) for arg in args)]
    with begun(
        command,
        cwd=cwd,
        env=environment(env),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=kept_open.get(),
    ) as process:
        try:
            stdout, stderr = process.communicate(stdin, patience.get())
        except subprocess.TimeoutExpired as late:
            # Not read to their ends: a program that left git's session may hold them open.
            os.killpg(process.pid, signal.SIGKILL)
            raise TookTooLong(command, late.output or b"", late.stderr or b"") from None
    if process.returncode not in accept:
        raise GitError(command, process.returncode, stdout, stderr)
    return Result(process.returncode, stdout, stderr)


def objects_of(repo: str | Path, *names: str) -> list[str | None]:
    """The ids that full references or ids stand for, `^{commit}` or `^{tree}` behind them; None where there is none."""
    # No reference has these in its name, and in what git reads here they end one.
    given = ["" if {"\n", "\0"} & set(name) else name for name in names]
    asked = os.fsencode("".join(f"{name}\n" for name in given))
    found = run("cat-file", "--batch-check=%(objectname)", cwd=repo, stdin=asked, accept=(0, 128))
    answers = [None if " " in line else line for line in found.text.split("\n") if line]
    return answers + [None] * (len(names) - len(answers))


def commits_of(repo: str | Path, *names: str) -> list[str | None]:
    """The commits that full references or object ids stand for; None where there is none."""
    return objects_of(repo, *(f"{name}^{{commit}}" for name in names))


def commit_of(repo: str | Path, name: str) -> str | None:
    return commits_of(repo, name)[0]


def branch_commits(repo: str | Path, *branches: str) -> list[str | None]:
    return commits_of(repo, *(f"refs/heads/{branch}" for branch in branches))


def branch_commit(repo: str | Path, branch: str) -> str | None:
    return branch_commits(repo, branch)[0]


def real_ref(repo: str | Path, branch: str) -> str:
    """The full name of the reference that moves when the branch does: another one's, where it is a symbolic one."""
    ref = f"refs/heads/{branch}"
    found = run("symbolic-ref", "--quiet", ref, cwd=repo, accept=(0, 1, 128))
    return found.text if found.code == 0 else ref


def tree_of(repo: str | Path, commit: str) -> str:
    return run("rev-parse", "--verify", "--end-of-options", f"{commit}^{{tree}}", cwd=repo).text


def trees_of(repo: str | Path, *commits: str) -> list[str]:
    found = objects_of(repo, *(f"{commit}^{{tree}}" for commit in commits))
    # Of one that has none git says why.
    return [tree or tree_of(repo, commit) for commit, tree in zip(commits, found, strict=True)]


def empty_blob(commit: str) -> str:
    """The id of an empty file where `commit` is one of a commit: its length tells the repository's hash function."""
    return _EMPTY_BLOB_SHA256 if len(commit) == len(_EMPTY_BLOB_SHA256) else _EMPTY_BLOB


def head_branch(worktree: str | Path) -> str | None:
    """The branch that is checked out; None when HEAD is detached."""
    found = run("symbolic-ref", "--quiet", "HEAD", cwd=worktree, accept=(0, 1))
    return found.text.removeprefix("refs/heads/") if found.code == 0 else None


def branches(repo: str | Path) -> dict[str, bool]:
    """Local branches that have a commit, in alphabetical order; True for the one that is checked out in `repo`."""
    found = run("for-each-ref", "--format=%(HEAD)%(refname:lstrip=2)", "refs/heads", cwd=repo)
    return {line[1:]: line[0] == "*" for line in found.text.split("\n") if line}


def is_ancestor(repo: str | Path, old: str, new: str) -> bool:
    return run("merge-base", "--is-ancestor", old, new, cwd=repo, accept=(0, 1)).code == 0


def is_held(repo: str | Path, commit: str) -> bool:
    """Whether any branch, tag or other reference holds the commit."""
    return bool(run("for-each-ref", "--count=1", "--contains", commit, cwd=repo).stdout)


def git_folder(worktree: str | Path) -> Path:
    """The git folder of this worktree, absolute. In it lies what is this worktree's own: `HEAD`, `index`, `MERGE_HEAD`.

    It is `.git`, or, where that is a file, the folder named there: `gitdir: PATH` (gitrepository-layout(5)).
    """
    found = Path(worktree, ".git")
    found = _named_in(found, "gitdir: ") or found
    if os.path.lexists(found / "HEAD"):
        return found
    # Git knows of other places, or says what is wrong.
    return Path(worktree, run("rev-parse", "--git-dir", cwd=worktree).text)


def is_there(repo: str | Path) -> bool:
    """Whether there is such a folder. Path.is_dir raises where a disk is gone, or a folder above is closed."""
    return os.path.isdir(repo)


def is_bare(repo: str | Path) -> bool:
    """Whether git takes it to have no files. What runs in a worktree may turn that on for all of the repository."""
    return run("rev-parse", "--is-bare-repository", cwd=repo).text == "true"


def common_folder(worktree: str | Path) -> Path:
    """The git folder that all worktrees of the repository share: the one that `commondir` in this worktree's names."""
    folder = git_folder(worktree)
    return _named_in(folder / "commondir") or folder


def _named_in(file: Path, prefix: str = "") -> Path | None:
    """The folder that a file of git's names, as git resolves it: relative to the folder where it found the file."""
    try:
        if not file.is_file():
            return None
        with open(file, "rb") as opened:
            text = os.fsdecode(opened.read(_LONGEST_NAME)).rstrip("\r\n")
        name = text.removeprefix(prefix)
        return Path(os.path.realpath(file.parent / name)) if name and text.startswith(prefix) else None
    except (OSError, ValueError):  # gone meanwhile, unreadable, or no path at all
        return None


def checkouts(repo: str | Path) -> dict[Path, str | None]:
    """Every worktree of the repository that exists, with the reference that moves when somebody commits there: the
    branch, or what it stands for where it is a symbolic one; None where HEAD is detached."""
    found: dict[Path, str | None] = {}
    for block in run("worktree", "list", "--porcelain", "-z", cwd=repo).stdout.split(b"\0\0"):
        lines = {line.partition(b" ")[0]: line.partition(b" ")[2] for line in block.split(b"\0") if line}
        if b"worktree" not in lines or b"bare" in lines:
            continue
        path = Path(os.fsdecode(lines[b"worktree"]))
        if path.is_dir():
            found[path] = os.fsdecode(lines.get(b"branch", b"")) or None
    return found


def repair_worktrees(repo: str | Path) -> None:
    """Lets the worktrees of a repository that was moved find it again; those that cannot stay as they are."""
    run("worktree", "repair", cwd=repo, accept=(0, 1, 128))


def check_repository(path: str, roots: Sequence[Path]) -> RepoInfo:
    """What the board needs to know of a repository; raises Refused (422) with what to do where it cannot be used."""
    folder = check_folder(path, roots)
    found = branches(folder)
    if not found:
        raise Refused(
            f"{folder} has no branch with a commit yet. Make one: git commit --allow-empty -m 'First commit'",
            422,
        )
    return RepoInfo(folder, _default_branch(found), list(found))


def check_folder(path: str, roots: Sequence[Path]) -> Path:
    """The top folder of the repository, symlinks resolved; raises Refused (422) where there is none to be used."""
    if not path or "\0" in path or not os.path.isabs(path):
        raise Refused(f"{path!r} is not an absolute path: give one like {Path.home() / 'my-project'}.", 422)
    folder = Path(os.path.realpath(path))  # Path.resolve() raises for a link that leads to itself
    if not any(folder.is_relative_to(root.resolve()) for root in roots):
        shown = os.pathsep.join(str(root) for root in roots)
        raise Refused(
            f"{folder} lies outside the folders where repositories may lie ({shown}). "
            "VIBE_REPO_ROOTS in the server's environment says which these are.",
            422,
        )
    # It has branches of a project that others may not share, and goes with its attempt.
    if folder.is_relative_to(Path(settings.VIBE_DATA).resolve() / "worktrees"):
        raise Refused(f"{folder} is the worktree of an attempt: give the repository that it is of.", 422)
    if not os.path.isdir(folder):
        raise Refused(f"There is no folder {folder}.", 422)
    try:
        top = Path(run("rev-parse", "--show-toplevel", cwd=folder).text)
    except GitError as error:
        raise Refused(_why_unusable(folder, error), 422) from error
    if top != folder:
        raise Refused(f"{folder} lies inside a repository; give its top folder: {top}", 422)
    return folder


def _why_unusable(folder: Path, error: GitError) -> str:
    said = error.stderr
    if "dubious ownership" in said:
        return (
            f"{folder} belongs to another account, so git refuses to use it. If you trust it, run as the "
            f"server's account: git config --global --add safe.directory {folder}"
        )
    if "must be run in a work tree" in said:
        return f"{folder} is a bare repository, with no files to work on: give a clone of it that has a work tree."
    if "not a git repository" in said:
        return f"{folder} is not a git repository. Make it one with: git init"
    return f"git cannot use {folder}: {error.reason}"


def _default_branch(names: Mapping[str, bool]) -> str:
    preferred = [*(name for name, current in names.items() if current), "main", "master", *names]
    return next(name for name in preferred if name in names)
