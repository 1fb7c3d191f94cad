"""Worktrees on real repositories: made whole or not at all, removed without losing work."""

import ctypes
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest

from tasks import git, worktrees
from tasks.errors import Refused
from tasks.models import Project
from tests.repositories import git as plain


def project_on(repository: Path, **fields: str) -> Project:
    return Project(name="p", repo_path=str(repository), target_branch="main", **fields)


def traces(repository: Path) -> tuple[list[str], int]:
    return list(git.branches(repository)), len(git.checkouts(repository))


def fail_checkout_hook(repository: Path) -> None:
    hook = repository / ".git/hooks/post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)


def be_no_superuser() -> None:
    """From now on this thread, and what it starts, may do with files only what their owner may."""
    if os.geteuid() != 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, sets) == 0
    sets[0] &= ~0b110  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
    assert libc.capset(header, sets) == 0
    for capability in (1, 2):
        assert libc.prctl(24, capability, 0, 0, 0) == 0  # PR_CAPBSET_DROP


class TestCreate:
    def test_makes_branch_and_folder_at_the_target(self, repository: Path) -> None:
        attempt = uuid4()
        made = worktrees.create(project_on(repository), attempt, "Fix the  Bug: ünï!", "main")
        assert made.branch == f"vibe/{attempt.hex[:8]}-fix-the-bug-uni"
        assert made.base_commit == git.branch_commit(repository, "main")
        assert made.path.name == str(attempt)
        assert (made.path / "src/app.py").is_file()
        assert git.head_branch(made.path) == made.branch

    def test_none_is_the_repository_of_another_project(self, repository: Path) -> None:
        made = worktrees.create(project_on(repository), uuid4(), "t", "main")
        with pytest.raises(Refused, match="is the worktree of an attempt"):
            git.check_repository(str(made.path), [made.path.parent])

    def test_title_without_a_letter_git_could_use(self, repository: Path) -> None:
        assert worktrees.create(project_on(repository), uuid4(), "--日本語--", "main").branch.endswith(
            "-task"
        )

    def test_failing_hook_does_not_run(self, repository: Path) -> None:
        fail_checkout_hook(repository)
        assert worktrees.create(project_on(repository), uuid4(), "x", "main").path.is_dir()

    def test_unknown_target_leaves_nothing(self, repository: Path) -> None:
        with pytest.raises(Refused, match="no branch 'nope'"):
            worktrees.create(project_on(repository), uuid4(), "x", "nope")
        assert traces(repository) == (["main"], 1)

    def test_failure_in_the_middle_leaves_nothing(self, repository: Path) -> None:
        attempt = uuid4()
        worktrees.folder_of(attempt).parent.mkdir(parents=True, exist_ok=True)
        worktrees.folder_of(attempt).write_text("a file where the folder should be")
        with pytest.raises(Refused):
            worktrees.create(project_on(repository), attempt, "x", "main")
        assert traces(repository) == (["main"], 1)
        assert worktrees.folder_of(attempt).is_file()

    def test_branch_in_the_way_is_named(self, repository: Path) -> None:
        plain(repository, "branch", "vibe")
        with pytest.raises(Refused, match="called 'vibe'"):
            worktrees.create(project_on(repository), uuid4(), "x", "main")
        assert traces(repository) == (["main", "vibe"], 1)

    def test_leftovers_of_a_killed_call_are_replaced(self, repository: Path) -> None:
        attempt = uuid4()
        project = project_on(repository)
        first = worktrees.create(project, attempt, "x", "main")
        assert worktrees.create(project, attempt, "x", "main") == first

    def test_branch_with_commits_of_its_own_is_not_touched(self, repository: Path) -> None:
        attempt = uuid4()
        branch = worktrees.branch_of(attempt, "x")
        plain(repository, "checkout", "-q", "-b", branch)
        plain(repository, "commit", "-q", "--allow-empty", "-m", "mine")
        with pytest.raises(Refused, match="commits of its own"):
            worktrees.create(project_on(repository), attempt, "x", "main")
        assert branch in git.branches(repository)

    def test_from_a_worktree_of_the_repository(self, repository: Path, tmp_path: Path) -> None:
        plain(repository, "worktree", "add", "-q", "-b", "side", str(tmp_path / "side"))
        made = worktrees.create(project_on(tmp_path / "side"), uuid4(), "x", "side")
        assert git.head_branch(made.path) == made.branch

    def test_from_a_shallow_clone(self, repository: Path, tmp_path: Path) -> None:
        plain(repository, "commit", "-q", "--allow-empty", "-m", "second")
        plain(tmp_path, "clone", "-q", "--depth", "1", f"file://{repository}", "shallow")
        assert worktrees.create(project_on(tmp_path / "shallow"), uuid4(), "x", "main").path.is_dir()

    def test_target_that_looks_like_an_option(self, repository: Path) -> None:
        plain(repository, "update-ref", "refs/heads/--force", "HEAD")
        assert worktrees.create(project_on(repository), uuid4(), "x", "--force").path.is_dir()


class TestCopyFiles:
    def test_copies_patterns_and_folders(self, repository: Path) -> None:
        (repository / ".env").write_text("A=1")
        (repository / "conf/deep").mkdir(parents=True)
        (repository / "conf/deep/a.ini").write_text("a")
        made = worktrees.create(
            project_on(repository, copy_files="# secrets\n.env*\nconf/\n"), uuid4(), "x", "main"
        )
        assert (made.path / ".env").read_text() == "A=1"
        assert (made.path / "conf/deep/a.ini").read_text() == "a"
        assert made.notes == ()

    def test_nothing_from_outside_and_nothing_of_git(self, repository: Path, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text("s")
        (repository / "link").symlink_to(tmp_path / "secret")
        patterns = f"../secret\n{tmp_path}/secret\nlink\n.git/config\n.git\nmissing\n"
        made = worktrees.create(project_on(repository, copy_files=patterns), uuid4(), "x", "main")
        assert len(made.notes) == 6
        assert not (made.path / "link").exists()
        assert (made.path / ".git").is_file()

    def test_does_not_overwrite(self, repository: Path) -> None:
        (repository / "README.md").write_text("changed, not committed")
        made = worktrees.create(project_on(repository, copy_files="README.md"), uuid4(), "x", "main")
        assert (made.path / "README.md").read_text() == "# Test\n"

    def test_what_is_no_pattern_is_noted(self, repository: Path) -> None:
        (repository / ".env").write_text("A=1")
        made = worktrees.create(project_on(repository, copy_files="./\n.env"), uuid4(), "x", "main")
        assert made.path.joinpath(".env").exists()
        assert made.notes[0].startswith("Not copied: ./ (it is no pattern")

    def test_what_the_branch_has_a_file_in_place_of_is_not_copied(self, repository: Path) -> None:
        (repository / "conf").write_text("a file")
        plain(repository, "add", "conf")
        plain(repository, "commit", "-q", "-m", "a file")
        (repository / "conf").unlink()
        (repository / "conf/deep").mkdir(parents=True)
        (repository / "conf/inside").write_text("secret")
        (repository / "conf/deep/inside").write_text("secret")
        made = worktrees.create(project_on(repository, copy_files="conf\n"), uuid4(), "x", "main")
        assert made.notes == (
            "Not copied: conf/inside (File exists)",
            "Not copied: conf/deep/inside (Not a directory)",
        )

    def test_no_link_of_the_worktree_leads_a_copy_out_of_it(self, repository: Path, tmp_path: Path) -> None:
        outside = tmp_path / "outside"
        outside.mkdir()
        (repository / "file").symlink_to(outside / "new")
        (repository / "folder").symlink_to(outside)
        plain(repository, "add", "-A")
        plain(repository, "commit", "-q", "-m", "links")
        (repository / "file").unlink()
        (repository / "file").write_text("secret")
        (repository / "folder").unlink()
        (repository / "folder").mkdir()
        (repository / "folder/inside").write_text("secret")
        made = worktrees.create(project_on(repository, copy_files="file\nfolder\n"), uuid4(), "x", "main")
        assert list(outside.iterdir()) == []
        assert made.notes == ("Not copied: folder/inside (a link leads it out of the worktree)",)


class TestRemove:
    def test_removes_folder_and_registration_but_not_the_branch(self, repository: Path) -> None:
        made = worktrees.create(project_on(repository), uuid4(), "x", "main")
        (made.path / "untracked").write_text("x")
        worktrees.remove(repository, made.path)
        assert traces(repository) == (["main", made.branch], 1)
        assert not made.path.exists()

    def test_folder_deleted_by_hand(self, repository: Path) -> None:
        made = worktrees.create(project_on(repository), uuid4(), "x", "main")
        worktrees.delete_folder(made.path)
        worktrees.remove(repository, made.path)
        assert "prunable" not in plain(repository, "worktree", "list", "--porcelain")

    def test_read_only_folders_but_nothing_that_links_in_them_lead_to(
        self, repository: Path, tmp_path: Path
    ) -> None:
        made = worktrees.create(project_on(repository), uuid4(), "x", "main")
        (tmp_path / "outside").mkdir(mode=0o500)
        for name in ("cache", "links"):
            (made.path / name).mkdir()
        (made.path / "cache/file").write_text("x")
        (made.path / "links/link").symlink_to(tmp_path / "outside")
        for name in ("cache", "links"):
            os.chmod(made.path / name, 0o500)
        with ThreadPoolExecutor(1, initializer=be_no_superuser) as thread:
            thread.submit(worktrees.remove, repository, made.path).result()
        assert not made.path.exists()
        assert traces(repository) == (["main", made.branch], 1)
        assert stat.S_IMODE((tmp_path / "outside").stat().st_mode) == 0o500

    def test_locked_and_deleted_by_hand(self, repository: Path) -> None:
        made = worktrees.create(project_on(repository), uuid4(), "x", "main")
        plain(repository, "worktree", "lock", str(made.path))
        worktrees.delete_folder(made.path)
        worktrees.remove(repository, made.path)
        assert str(made.path) not in plain(repository, "worktree", "list", "--porcelain")


class TestKeepWork:
    def test_keeps_uncommitted_and_untracked_work_but_not_ignored_files(self, repository: Path) -> None:
        attempt = uuid4()
        made = worktrees.create(project_on(repository), attempt, "x", "main")
        (made.path / "README.md").write_text("changed\n")
        (made.path / "new file").write_text("new\n")
        (made.path / ".gitignore").write_text("*.log\n")
        (made.path / "a.log").write_text("noise")
        before = plain(made.path, "status", "--porcelain")
        ref = worktrees.keep_work(repository, made.path, attempt)
        assert ref == f"refs/vibe/kept/{attempt}"
        assert plain(repository, "show", f"{ref}:new file") == "new\n"
        assert plain(repository, "show", f"{ref}:README.md") == "changed\n"
        assert "a.log" not in plain(repository, "ls-tree", "-r", "--name-only", ref)
        assert plain(made.path, "status", "--porcelain") == before

    def test_keeps_what_is_in_the_index_alone(self, repository: Path) -> None:
        attempt = uuid4()
        made = worktrees.create(project_on(repository), attempt, "x", "main")
        (made.path / "precious").write_text("staged\n")
        plain(made.path, "add", "precious")
        (made.path / "precious").unlink()
        ref = worktrees.keep_work(repository, made.path, attempt)
        assert plain(repository, "show", f"{ref}^2:precious") == "staged\n"
        assert plain(repository, "rev-parse", f"{ref}^1", f"{ref}^2^").split() == [made.base_commit] * 2

    def test_conflict_in_the_index(self, repository: Path) -> None:
        attempt = uuid4()
        made = worktrees.create(project_on(repository), attempt, "x", "main")
        for place in (repository, made.path):
            (place / "README.md").write_text(f"{place}\n")
            plain(place, "commit", "-q", "-a", "-m", "change")
        with pytest.raises(AssertionError, match="CONFLICT"):
            plain(made.path, "merge", "-q", "main")
        (made.path / "precious").write_text("staged\n")
        plain(made.path, "add", "precious")
        (made.path / "precious").write_text("changed\n")
        before = plain(made.path, "status", "--porcelain")
        ref = worktrees.keep_work(repository, made.path, attempt)
        assert "<<<<" in plain(repository, "show", f"{ref}:README.md")
        assert plain(repository, "show", f"{ref}^2:precious", f"{ref}:precious") == "staged\nchanged\n"
        assert plain(made.path, "status", "--porcelain") == before

    def test_nothing_to_keep(self, repository: Path) -> None:
        attempt = uuid4()
        made = worktrees.create(project_on(repository), attempt, "x", "main")
        assert worktrees.keep_work(repository, made.path, attempt) is None

    def test_repository_without_a_commit_inside(self, repository: Path) -> None:
        attempt = uuid4()
        made = worktrees.create(project_on(repository), attempt, "x", "main")
        plain(made.path, "init", "-q", "inner")
        (made.path / "kept").write_text("k")
        ref = worktrees.keep_work(repository, made.path, attempt)
        assert plain(repository, "show", f"{ref}:kept") == "k"
