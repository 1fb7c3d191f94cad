"""What is remembered of a diff stays what git says, however little is asked anew."""

import os
import random
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks.diffs import tracker as module
from tasks.diffs.parse import Parser
from tasks.diffs.tracker import Limits, Tracker, run_diff
from tasks.git import GitError
from tests.repositories import git, make_repository
from tests.scale import scaled
from tests.tasks.diffs.random_edits import IDENTITY
from tests.tasks.diffs.state import State, applied, git_says

SECONDS = 20.0


def test_a_worktree_that_goes_before_git_is_asked_is_an_error_of_git(tmp_path: Path) -> None:
    with pytest.raises(GitError, match="No such file"):
        list(run_diff(tmp_path / "gone", ["HEAD"], {}, Parser(9999)))


def text(chance: random.Random, kind: int) -> str:
    """Of two texts of a kind, some are alike enough to be one file that was renamed, and some just not."""
    lines = [f"kind {kind} line {number}\n" for number in range(12)]
    for _ in range(chance.randrange(10)):
        lines[chance.randrange(12)] = f"changed {chance.randrange(99)}\n"
    return "".join(lines)


SOMETIMES_GONE = ("dir0/old9", "dir1/old10", "dir2/old11", "dir0/new2")


def touched(chance: random.Random, before: str, olds: list[str]) -> str:
    """Mostly a little edit, which leaves a file that was renamed like the one it came from."""
    if chance.random() < 0.2:
        return chance.choice(olds)
    if chance.random() < 0.4:
        return text(chance, chance.randrange(20))
    lines = before.splitlines(keepends=True)
    lines[chance.randrange(len(lines))] = f"changed {chance.randrange(99)}\n"
    return "".join(lines)


def chosen(chance: random.Random) -> list[str]:
    """Files to be changed in one step."""
    if chance.random() < 0.3:
        return [chance.choice(SOMETIMES_GONE)]
    names = [f"dir{n % 2}/new{n}" for n in (chance.randrange(12) for _ in range(chance.choice([0, 1, 1, 3])))]
    if not names or chance.random() < 0.2:
        # Like a gone file in its name alone, or in nothing.
        names.append(chance.choice([f"dir3/old{chance.randrange(7)}", f"fresh{chance.randrange(99)}"]))
    return names


class Kept:
    """A worktree, a tracker of it, and what a client would know by now."""

    def __init__(self, worktree: Path, index_file: Path) -> None:
        self.worktree = worktree
        self.base = git(worktree, "rev-parse", "HEAD").strip()
        limits = Limits(1_000_000, 100_000_000)
        self.tracker = Tracker(worktree, self.base, limits, index_file=index_file)
        self.state: State = {}

    def update(self, *paths: str) -> None:
        for record in self.tracker.update(set(paths) or None):
            applied(self.state, record.as_dict())

    def is_true(self) -> bool:
        return self.state == git_says(self.worktree, self.base)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kept]:
    """Seven files are gone, a dozen are new, and questions are about four files or about all."""
    monkeypatch.setattr(module, "MANY_PATHS", 12)
    chance = random.Random(1)
    olds = {f"dir{n % 3}/old{n}": text(chance, n % 5) for n in range(12)}
    olds["dir1/old4"] = olds["dir0/old0"]
    worktree = make_repository(tmp_path / "repository", olds)
    for number in range(7):
        (worktree / f"dir{number % 3}/old{number}").unlink()
    for number in range(12):
        (worktree / f"dir{number % 2}/new{number}").write_text(text(chance, number % 5))
    (worktree / "dir3").mkdir()
    for number in range(3):
        # Moved as they were: git compares them with no others.
        (worktree / f"dir3/old{number}").write_text(olds[f"dir{number}/old{number}"])
    yield Kept(worktree, tmp_path / "index")


@pytest.mark.parametrize("seed", range(scaled(30, 1)))
def test_pairs_of_new_and_gone_files_stay_those_of_git(kept: Kept, seed: int) -> None:
    chance = random.Random(seed)
    git(kept.worktree, "config", "diff.renameLimit", chance.choice(["0", "7", "14", "50"]))
    kept.update()
    olds = [git(kept.worktree, "show", f"HEAD:dir{n % 3}/old{n}") for n in range(7)]
    narrow, names = 0, chosen(chance)
    for _ in range(scaled(60, 25)):
        names = chosen(chance) if chance.random() < 0.6 else names[:1]
        for name in names:
            path = kept.worktree / name
            path.parent.mkdir(exist_ok=True)
            if name in SOMETIMES_GONE and path.exists():
                path.unlink()
            else:
                path.write_text(touched(chance, path.read_text() if path.exists() else "new\n", olds))
            kept.tracker.foresee(set(names))
        kept.update(*names)
        assert kept.is_true(), (seed, names)
        narrow += kept.tracker.announced <= len(names)
    assert narrow


def test_edit_of_a_new_file_is_asked_alone_while_it_is_like_nothing_that_is_gone(kept: Kept) -> None:
    name = "dir0/new0"
    (kept.worktree / name).write_text("like nothing\n")
    kept.update()
    (kept.worktree / name).write_text("nor is this\n")
    kept.update(name)
    assert kept.tracker.announced == 1
    assert kept.is_true()
    (kept.worktree / "fresh").write_text("like nothing either\n")
    kept.update("fresh")
    assert kept.tracker.announced == 1
    gone = git(kept.worktree, "show", "HEAD:dir0/old0")
    (kept.worktree / name).write_text(gone)
    kept.update(name)
    assert kept.state[name]["old_path"] == "dir0/old0"
    assert kept.is_true()
    (kept.worktree / name).write_text("like nothing again\n")
    kept.update(name)
    assert kept.is_true()


def test_a_file_that_goes_is_asked_alone_with_those_that_it_pairs(kept: Kept, tmp_path: Path) -> None:
    (kept.worktree / "unique").write_text(lines("unique"))
    git(kept.worktree, "add", "unique")
    git(kept.worktree, "commit", "-q", "-m", "unique")
    kept = Kept(kept.worktree, tmp_path / "second")
    kept.update()
    (kept.worktree / "unique").unlink()
    kept.update("unique")
    assert (kept.tracker.announced, kept.is_true()) == (1, True)
    for changed in (3, 5):
        (kept.worktree / "renamed").write_text(lines("unique", changed))
        kept.update("renamed")
        assert kept.state["renamed"]["old_path"] == "unique"
        assert (kept.tracker.announced, kept.is_true()) == (1, True)
    (kept.worktree / "renamed").write_text("like nothing\n")
    kept.update("renamed")
    assert kept.state["unique"]["change"] == "deleted"
    assert (kept.tracker.announced, kept.is_true()) == (2, True)


def test_files_in_conflict_are_what_lies_there_and_new_ones_are_new(tmp_path: Path) -> None:
    names = ["bo\tth", "gone", "deleted", "stays"]
    worktree = make_repository(tmp_path / "repository", {name: lines(name) for name in names})
    kept = Kept(worktree, tmp_path / "index")
    for branch, changed in (("other", 1), ("main", 2)):
        git(worktree, "checkout", "-q", "-B", branch, "main")
        for name in ("bo\tth", "gone", "deleted"):
            (worktree / name).write_text(lines(name, changed))
        if branch == "main":
            (worktree / "deleted").unlink()
        git(worktree, "commit", "-q", "-a", "-m", branch)
    subprocess.run(["git", *IDENTITY, "merge", "-q", "other"], cwd=worktree, capture_output=True)
    assert git(worktree, "ls-files", "--unmerged").count("\n") == 8
    (worktree / "gone").unlink()
    (worktree / "?\tnew").write_text("new\n")
    make_repository(worktree / "inner", {"a": "a\n"})
    kept.update()
    assert set(kept.state) == {"bo\tth", "gone", "deleted", "?\tnew", "inner"}
    assert kept.is_true()


def test_what_git_and_its_filters_say_holds_nothing_up(tmp_path: Path) -> None:
    worktree = make_repository(tmp_path / "repository", {"a.txt": "a\n"})
    git(worktree, "config", "filter.loud.clean", "head -c 200000 /dev/zero >&2; cat")
    (worktree / ".gitattributes").write_text("*.txt filter=loud\n")
    (worktree / "a.txt").write_text("changed\n")
    found: list[str] = []

    def look() -> None:
        found.extend(
            record.file for _, record in run_diff(worktree, ["HEAD"], dict(os.environ), Parser(9999))
        )

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    looking.join(SECONDS)
    assert found == ["a.txt"]


def lines(name: str, changed: int = 0) -> str:
    """Forty lines, the first of them changed."""
    return "".join(
        f"{name} {'changed' if number < changed else 'as ever'} {number}\n" for number in range(40)
    )


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kept:
    """Two files are gone; no more than three can be asked about without asking about all."""
    monkeypatch.setattr(module, "MANY_PATHS", 3)
    files = {"a/same": lines("same"), "b": lines("b"), "stays": lines("stays")}
    worktree = make_repository(tmp_path / "repository", files)
    for name in ("a/same", "b"):
        (worktree / name).unlink()
    return Kept(worktree, tmp_path / "index")


def test_a_name_that_is_no_longer_the_only_one(small: Kept) -> None:
    for name, content in {
        "c/same": lines("same", 5),
        "more-alike": lines("same", 1),
        "d": lines("d"),
    }.items():
        (small.worktree / name).parent.mkdir(exist_ok=True)
        (small.worktree / name).write_text(content)
    small.update()
    assert small.state["c/same"]["old_path"] == "a/same"
    (small.worktree / "same").write_text("like nothing\n")
    small.update("same")
    assert small.state["more-alike"]["old_path"] == "a/same"
    assert small.is_true()


def test_a_limit_that_all_files_keep_and_a_few_would_not(small: Kept) -> None:
    git(small.worktree, "config", "diff.renameLimit", "1")
    for name, content in {"c": lines("same"), "d": "like nothing\n"}.items():
        (small.worktree / name).write_text(content)
    small.update()
    (small.worktree / "d").write_text(lines("b", 4))
    small.update("d")
    assert small.state["d"]["old_path"] == "b"
    assert small.is_true()


@pytest.mark.parametrize("looked", ["rival", ""])
def test_renamed_file_is_asked_alone_until_another_is_like_where_it_came_from(
    small: Kept, looked: str
) -> None:
    for name, content in {"c": lines("b", 4), "d": "like nothing\n"}.items():
        (small.worktree / name).write_text(content)
    small.update()
    for changed in (6, 8):
        (small.worktree / "c").write_text(lines("b", changed))
        small.update("c")
        assert (small.tracker.announced, small.is_true()) == (1, True)
    (small.worktree / "rival").write_text(lines("b", 10))
    small.update(*filter(None, [looked]))
    for changed in (9, 12):
        (small.worktree / "c").write_text(lines("b", changed))
        small.update("c")
        assert small.is_true()
    assert small.state["rival"]["old_path"] == "b"


def test_renamed_file_is_edited_while_another_goes(small: Kept) -> None:
    git(small.worktree, "config", "diff.renames", "false")  # of its user, who may like other diffs
    for name, content in {"c": lines("b", 4), "d": lines("stays", 4)}.items():
        (small.worktree / name).write_text(content)
    small.update()
    (small.worktree / "c").write_text(lines("b", 6))
    (small.worktree / "stays").unlink()
    small.update("c", "stays")
    assert small.state["d"]["old_path"] == "stays"
    assert small.is_true()


def test_renamed_file_that_is_compared_with_none_for_their_number(small: Kept) -> None:
    git(small.worktree, "config", "diff.renameLimit", "1")
    for name, content in {"c": lines("b"), "d": "like nothing\n"}.items():
        (small.worktree / name).write_text(content)
    small.update()
    assert small.state["c"]["old_path"] == "b"
    (small.worktree / "c").write_text(lines("b", 1))
    small.update("c")
    assert small.state["c"]["change"] == "added"
    assert small.is_true()


def between(one: str, other: str, count: int) -> str:
    """The text of one, with the first lines of another."""
    return "".join(other.splitlines(True)[:count] + one.splitlines(True)[count:])


P, Q, R, S = lines("p"), lines("q"), lines("r"), lines("s")


@pytest.mark.parametrize(
    ("gone", "new", "edited", "edit", "pairs"),
    [
        # Another new file has the name of the one that is edited: it is as if neither had that of the one that is gone.
        (
            {"a/x": P, "q": between(P, Q, 8)},
            {"b/x": between(P, Q, 1), "c/x": "like nothing\n"},
            "b/x",
            between(P, Q, 7),
            {"b/x": "q"},
        ),
        # No name is the same, and another that is gone is more like it now.
        (
            {"p": P, "q": between(P, Q, 8)},
            {"x": between(P, Q, 1), "y": "like nothing\n"},
            "x",
            between(P, Q, 7),
            {"x": "q"},
        ),
        # One of two that are gone is taken as it was, so that the other is the only one of its name.
        (
            {"p": P, "1/x": between(P, Q, 16), "2/x": R},
            {"x": between(P, Q, 1), "same": R},
            "x",
            between(P, Q, 7),
            {"x": "1/x", "same": "2/x"},
        ),
        # The one that is edited takes one of two that are gone as it was: the other is the only one of its name.
        (
            {"a/x": R, "b/x": between(P, Q, 8), "p": P},
            {"c/x": between(P, Q, 1), "r": between(R, Q, 3)},
            "r",
            R,
            {"r": "a/x", "c/x": "b/x"},
        ),
        # It becomes what another is as it was, and comes before that.
        (
            {"p": P, "q": between(P, Q, 8)},
            {"x": between(P, Q, 1), "y": between(P, Q, 8)},
            "x",
            between(P, Q, 8),
            {"x": "q", "y": "p"},
        ),
    ],
    ids=[
        "name of another",
        "no name",
        "name of two gone, one taken",
        "name of where it came from",
        "same as another",
    ],
)
def test_edit_after_which_git_pairs_otherwise(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    gone: dict[str, str],
    new: dict[str, str],
    edited: str,
    edit: str,
    pairs: dict[str, str],
) -> None:
    monkeypatch.setattr(module, "MANY_PATHS", len(gone) + 1)
    kept = Kept(make_repository(tmp_path / "repository", gone), tmp_path / "index")
    for name in gone:
        (kept.worktree / name).unlink()
    for name, content in new.items():
        (kept.worktree / name).parent.mkdir(exist_ok=True)
        (kept.worktree / name).write_text(content)
    kept.update()
    before = kept.state[edited]["old_path"]
    (kept.worktree / edited).write_text(edit)
    kept.update(edited)
    found = {name: record["old_path"] for name, record in kept.state.items() if record["old_path"]}
    assert (before in gone, found) == (True, pairs)
    assert kept.is_true()


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """What git was called with since the last call; with `--name-status` it is asked about all files."""
    calls, program = tmp_path / "calls", tmp_path / "bin/git"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >>{calls}\nexec {shutil.which("git")} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")

    def since() -> str:
        said = calls.read_text()
        calls.unlink()
        return said

    return since


def test_name_that_several_that_are_gone_have_does_not_matter_to_a_file_that_was_edited_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: Callable[[], str]
) -> None:
    monkeypatch.setattr(module, "MANY_PATHS", 3)
    worktree = make_repository(tmp_path / "repository", {"a/same": P, "b/same": Q, "r": R})
    (worktree / "a").rename(worktree / "c")
    for name in ("b/same", "r"):
        (worktree / name).unlink()
    kept = Kept(worktree, tmp_path / "index")
    kept.update()
    assert kept.state["c/same"]["old_path"] == "a/same"
    about_all = []
    for edit in range(1, 5):
        (worktree / "c/same").write_text(between(P, R, edit))
        asked()
        kept.update("c/same")
        about_all.append("--name-status" in asked())
        assert kept.is_true()
    # After its first edit another new file is looked for that is like the one it came from.
    assert about_all == [True, True, False, False]


@pytest.fixture
def moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kept:
    """Two files were moved as they were; three are new, and like nothing."""
    monkeypatch.setattr(module, "MANY_PATHS", 2)
    worktree = make_repository(tmp_path / "repository", {"p": P, "r": R, "stays": Q})
    for name in ("p", "r"):
        (worktree / name).unlink()
    for name, content in {"x": P, "z": R, "a": "like nothing\n", "b": "nor this\n", "c": "or this\n"}.items():
        (worktree / name).write_text(content)
    kept = Kept(worktree, tmp_path / "index")
    kept.update()
    assert kept.state["x"]["old_path"] == "p"
    return kept


@pytest.mark.parametrize("first", ["x", "z"])
@pytest.mark.parametrize("gone", ["", "stays"], ids=["alone", "while another goes"])
def test_new_file_that_is_like_one_that_was_moved_is_a_rival_once_that_is_edited(
    moved: Kept, first: str, gone: str
) -> None:
    moved.tracker.foresee({first})
    (moved.worktree / "a").write_text(between(P, S, 3))
    if gone:
        (moved.worktree / gone).unlink()
    moved.update("a", *filter(None, [gone]))
    assert moved.state["a"]["change"] == "added"
    assert gone or moved.tracker.announced == 1
    (moved.worktree / "x").write_text(between(P, S, 9))
    moved.update("x")
    assert moved.state["a"]["old_path"] == "p"
    assert moved.is_true()


def test_new_file_that_becomes_what_was_moved_takes_its_place(moved: Kept) -> None:
    (moved.worktree / "a").write_text(P)
    moved.update("a")
    assert moved.state["a"]["old_path"] == "p"
    assert moved.is_true()


def test_what_an_edit_needs_to_know_of_others_is_asked_once_and_while_its_changes_gather(
    moved: Kept, asked: Callable[[], str]
) -> None:
    def questions() -> int:
        return sum(line.startswith("diff ") for line in asked().splitlines())

    moved.tracker.foresee({"x", "a"})
    assert questions() == 1
    for name, content in {"x": P, "z": R}.items():
        (moved.worktree / name).write_text(between(content, Q, 2))
        moved.update(name)
        assert questions() == 1
        assert (moved.tracker.announced, moved.is_true()) == (1, True)


def test_rival_that_is_one_only_while_another_file_with_a_name_is_moved_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MANY_PATHS", 2)
    p, q, r = (content.splitlines(True) for content in (P, Q, R))
    old, other = "".join(r[:28] + p[28:]), lines("other")
    gone = {"1/same": P, "2/same": other, "old": old, "liked": "".join(p[:30] + q[30:])}
    # Were the name not the only one, the first would leave what the second wants to it, and that not want `old`.
    new = {"new/same": "".join(p[:30] + q[30:39] + p[39:]), "wants": "".join(r[:12] + p[12:])}
    kept = Kept(make_repository(tmp_path / "repository", gone), tmp_path / "index")
    for name in gone:
        (kept.worktree / name).unlink()
    for name, content in {**new, "x": old, "moved": other}.items():
        (kept.worktree / name).parent.mkdir(exist_ok=True)
        (kept.worktree / name).write_text(content)
    kept.update()
    assert kept.state["x"]["old_path"] == "old"
    (kept.worktree / "x").write_text(between(old, lines("z"), 18))
    kept.update("x")
    assert kept.state["wants"]["old_path"] == "old"
    assert kept.is_true()
