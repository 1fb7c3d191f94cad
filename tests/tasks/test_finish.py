"""Merge, rebase and discard on real repositories: all or nothing, and nothing of anybody's lost."""

from collections.abc import Callable
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import User

from tasks import finish, git, journal, worktrees
from tasks.errors import Refused
from tasks.models import ExecutionProcess, Project, Task, TaskAttempt
from tests.repositories import git as plain

pytestmark = pytest.mark.django_db


def start(task: Task, target: str = "main") -> TaskAttempt:
    made = TaskAttempt.objects.create(task=task, executor="demo", target_branch=target, branch="")
    created = worktrees.create(task.project, made.pk, task.title, target)
    made.branch, made.base_commit, made.worktree = created.branch, created.base_commit, str(created.path)
    made.save()
    return made


@pytest.fixture
def attempt(task: Task) -> TaskAttempt:
    return start(task)


def folder(attempt: TaskAttempt) -> Path:
    return Path(attempt.worktree or "")


def commit(place: Path, name: str, content: str, message: str = "change") -> str:
    (place / name).write_text(content)
    plain(place, "add", "-A")
    plain(place, "commit", "-q", "-m", message)
    return plain(place, "rev-parse", "HEAD").strip()


def everything(repository: Path) -> dict[str, object]:
    """All that an operation could change: references, files, indexes."""
    state: dict[str, object] = {"refs": plain(repository, "for-each-ref"), "journal": len(journal.read_all())}
    for place in git.checkouts(repository):
        files = {
            str(path.relative_to(place)): path.read_bytes()
            for path in sorted(place.rglob("*"))
            if path.is_file() and ".git" not in path.parts
        }
        state[str(place)] = (
            files,
            plain(place, "status", "--porcelain"),
            plain(place, "symbolic-ref", "HEAD"),
        )
        assert not git.git_folder(place, "index.lock").exists()
    return state


def refused(repository: Path, act: Callable[[], object]) -> Refused:
    """The refusal, after which nothing has changed."""
    before = everything(repository)
    with pytest.raises(Refused) as caught:
        act()
    assert everything(repository) == before
    return caught.value


class TestStatus:
    def test_counts_commits_on_both_sides(self, attempt: TaskAttempt, repository: Path) -> None:
        commit(folder(attempt), "a", "1")
        commit(folder(attempt), "b", "1")
        commit(repository, "c", "1")
        assert finish.status(attempt) == {
            "target_branch": "main",
            "ahead": 2,
            "behind": 1,
            "dirty": False,
            "conflicts": (),
        }

    def test_conflicts_include_work_that_is_not_committed_and_leave_no_object(
        self, attempt: TaskAttempt, repository: Path
    ) -> None:
        commit(repository, "README.md", "theirs\n")
        (folder(attempt) / "README.md").write_text("ours\n")
        objects = plain(repository, "count-objects")
        found = finish.status(attempt)
        assert (found["dirty"], found["conflicts"]) == (True, ("README.md",))
        assert plain(repository, "count-objects") == objects

    def test_worktree_and_branch_gone(self, attempt: TaskAttempt, repository: Path) -> None:
        worktrees.remove(repository, folder(attempt))
        plain(repository, "branch", "-D", attempt.branch)
        assert finish.status(attempt)["ahead"] == 0


class TestMerge:
    def test_merge_commit_into_a_clean_working_copy(
        self, attempt: TaskAttempt, repository: Path, admin: User
    ) -> None:
        tip = commit(folder(attempt), "new", "1")
        old = commit(repository, "other", "1")
        merged = finish.merge(attempt, "merge", admin)
        assert plain(repository, "rev-list", "--parents", "-1", "main").split() == [
            merged.merge_commit,
            old,
            tip,
        ]
        assert (repository / "new").read_text() == "1"
        assert plain(repository, "status", "--porcelain") == ""
        assert (merged.outcome, merged.task.status) == ("merged", "done")

    def test_squash_is_one_commit_with_the_title(
        self, attempt: TaskAttempt, repository: Path, admin: User
    ) -> None:
        commit(folder(attempt), "a", "1")
        commit(folder(attempt), "b", "1")
        finish.merge(attempt, "squash", admin)
        assert plain(repository, "log", "--format=%s").split("\n")[:2] == [attempt.task.title, "Start"]

    def test_fast_forward(self, attempt: TaskAttempt, repository: Path, admin: User) -> None:
        tip = commit(folder(attempt), "a", "1")
        assert finish.merge(attempt, "ff", admin).merge_commit == tip
        assert plain(repository, "rev-parse", "main").strip() == tip

    def test_fast_forward_needs_a_rebase_first(
        self, attempt: TaskAttempt, repository: Path, admin: User
    ) -> None:
        commit(folder(attempt), "a", "1")
        commit(repository, "b", "1")
        assert "rebase" in refused(repository, lambda: finish.merge(attempt, "ff", admin)).message
        finish.rebase(attempt, admin)
        finish.merge(attempt, "ff", admin)

    def test_what_is_not_committed_is_merged_too(
        self, attempt: TaskAttempt, repository: Path, admin: User
    ) -> None:
        (folder(attempt) / "untracked").write_text("1")
        (folder(attempt) / "README.md").unlink()
        finish.merge(attempt, "merge", admin)
        assert (repository / "untracked").exists()
        assert not (repository / "README.md").exists()
        assert plain(folder(attempt), "status", "--porcelain") == ""

    def test_target_that_is_checked_out_nowhere(
        self, attempt: TaskAttempt, repository: Path, admin: User
    ) -> None:
        plain(repository, "checkout", "-q", "-b", "elsewhere")
        commit(folder(attempt), "a", "1")
        finish.merge(attempt, "merge", admin)
        assert not (repository / "a").exists()
        assert plain(repository, "show", "main:a") == "1"

    def test_untracked_files_of_the_working_copy_that_are_not_in_the_way(
        self, attempt: TaskAttempt, repository: Path, admin: User
    ) -> None:
        (repository / "mine").write_text("mine")
        commit(folder(attempt), "a", "1")
        finish.merge(attempt, "merge", admin)
        assert (repository / "mine").read_text() == "mine"

    def test_merged_behind_our_back_is_recorded(
        self, attempt: TaskAttempt, repository: Path, admin: User
    ) -> None:
        tip = commit(folder(attempt), "a", "1")
        plain(repository, "merge", "-q", attempt.branch)
        assert finish.merge(attempt, "merge", admin).merge_commit == tip

    def test_failing_hooks_do_not_run(self, attempt: TaskAttempt, repository: Path, admin: User) -> None:
        for name in ("pre-commit", "pre-merge-commit", "commit-msg", "post-merge", "reference-transaction"):
            hook = repository / ".git/hooks" / name
            hook.parent.mkdir(exist_ok=True)
            hook.write_text("#!/bin/sh\nexit 1\n")
            hook.chmod(0o755)
        (folder(attempt) / "a").write_text("1")
        finish.merge(attempt, "merge", admin)
        assert (repository / "a").exists()

    def test_account_without_a_git_identity_commits_in_the_persons_name(
        self,
        attempt: TaskAttempt,
        repository: Path,
        admin: User,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
    ) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
        (folder(attempt) / "a").write_text("1")
        finish.merge(attempt, "merge", admin)
        for commit_made in ("main", "main^2"):
            assert (
                plain(repository, "show", "-s", "--format=%an <%ae>", commit_made)
                == "admin <admin@localhost>\n"
            )

    def test_branch_and_file_that_look_like_options(
        self, attempt: TaskAttempt, repository: Path, admin: User
    ) -> None:
        plain(repository, "update-ref", "refs/heads/--force", "main")
        attempt.target_branch = "--force"
        attempt.save()
        commit(folder(attempt), "--exec=x", "1")
        finish.rebase(attempt, admin)
        finish.merge(attempt, "merge", admin)
        assert plain(repository, "show", "refs/heads/--force:--exec=x") == "1"

    def test_shallow_clone(self, repository: Path, tmp_path: Path, admin: User) -> None:
        commit(repository, "second", "1")
        plain(tmp_path, "clone", "-q", "--depth", "1", f"file://{repository}", "shallow")
        project = Project.objects.create(name="s", repo_path=str(tmp_path / "shallow"), target_branch="main")
        attempt = start(Task.objects.create(project=project, title="t"))
        commit(folder(attempt), "a", "1")
        assert finish.status(attempt)["ahead"] == 1
        finish.merge(attempt, "merge", admin)
        assert (tmp_path / "shallow/a").exists()

    def test_repository_that_is_itself_a_worktree(
        self, repository: Path, tmp_path: Path, admin: User
    ) -> None:
        plain(repository, "worktree", "add", "-q", "-b", "side", str(tmp_path / "side"))
        project = Project.objects.create(name="s", repo_path=str(tmp_path / "side"), target_branch="side")
        attempt = start(Task.objects.create(project=project, title="t"), "side")
        commit(folder(attempt), "a", "1")
        finish.rebase(attempt, admin)
        finish.merge(attempt, "squash", admin)
        assert (tmp_path / "side/a").exists()
        assert not (repository / "a").exists()


class TestMergeRefused:
    def test_conflict_names_the_files(self, attempt: TaskAttempt, repository: Path, admin: User) -> None:
        commit(folder(attempt), "README.md", "ours\n")
        commit(repository, "README.md", "theirs\n")
        assert refused(repository, lambda: finish.merge(attempt, "merge", admin)).files == ("README.md",)

    def test_local_changes_in_the_working_copy(
        self, attempt: TaskAttempt, repository: Path, admin: User
    ) -> None:
        commit(folder(attempt), "a", "1")
        (repository / "README.md").write_text("mine")
        error = refused(repository, lambda: finish.merge(attempt, "merge", admin))
        assert error.files == ("README.md",)
        assert str(repository) in error.message

    def test_untracked_file_in_the_way(self, attempt: TaskAttempt, repository: Path, admin: User) -> None:
        commit(folder(attempt), "a", "1")
        (repository / "a").write_text("mine")
        assert "overwritten" in refused(repository, lambda: finish.merge(attempt, "merge", admin)).message

    def test_locked_index(self, attempt: TaskAttempt, repository: Path, admin: User) -> None:
        commit(folder(attempt), "a", "1")
        lock = repository / ".git/index.lock"
        lock.write_text("")
        with pytest.raises(Refused, match="index is locked"):
            finish.merge(attempt, "merge", admin)
        lock.unlink()
        assert finish.merge(attempt, "merge", admin).outcome == "merged"

    def test_merge_under_way_in_the_working_copy(
        self, attempt: TaskAttempt, repository: Path, admin: User
    ) -> None:
        commit(folder(attempt), "a", "1")
        plain(repository, "checkout", "-q", "-b", "x")
        commit(repository, "b", "1")
        plain(repository, "checkout", "-q", "main")
        plain(repository, "merge", "-q", "--no-commit", "--no-ff", "x")
        assert (
            "merge is under way" in refused(repository, lambda: finish.merge(attempt, "merge", admin)).message
        )

    def test_nothing_was_done(self, attempt: TaskAttempt, repository: Path, admin: User) -> None:
        assert (
            "nothing to merge" in refused(repository, lambda: finish.merge(attempt, "merge", admin)).message
        )

    def test_run_goes_on(self, attempt: TaskAttempt, repository: Path, admin: User) -> None:
        commit(folder(attempt), "a", "1")
        ExecutionProcess.objects.create(task_attempt=attempt, run_reason="codingagent", status="running")
        assert "still goes on" in refused(repository, lambda: finish.merge(attempt, "merge", admin)).message

    def test_worktree_on_another_branch(self, attempt: TaskAttempt, repository: Path, admin: User) -> None:
        plain(folder(attempt), "checkout", "-q", "-b", "agent-idea")
        commit(folder(attempt), "a", "1")
        assert "'agent-idea'" in refused(repository, lambda: finish.merge(attempt, "merge", admin)).message

    def test_target_is_gone(self, attempt: TaskAttempt, repository: Path, admin: User) -> None:
        commit(folder(attempt), "a", "1")
        plain(repository, "branch", "-m", "main", "trunk")
        assert (
            "no branch 'main'" in refused(repository, lambda: finish.merge(attempt, "merge", admin)).message
        )

    def test_twice(self, attempt: TaskAttempt, repository: Path, admin: User) -> None:
        commit(folder(attempt), "a", "1")
        finish.merge(attempt, "merge", admin)
        assert "merged already" in refused(repository, lambda: finish.merge(attempt, "merge", admin)).message

    def test_unknown_strategy(self, attempt: TaskAttempt, admin: User) -> None:
        with pytest.raises(Refused) as caught:
            finish.merge(attempt, "octopus", admin)
        assert caught.value.status == 422

    def test_repository_is_gone(self, attempt: TaskAttempt, project: Project, admin: User) -> None:
        project.repo_path = "/nonexistent"
        project.save()
        with pytest.raises(Refused, match="is gone"):
            finish.merge(TaskAttempt.objects.get(pk=attempt.pk), "merge", admin)


class TestRebase:
    def test_commits_keep_author_date_and_message(
        self, attempt: TaskAttempt, repository: Path, admin: User
    ) -> None:
        place = folder(attempt)
        (place / "a").write_text("1")
        plain(place, "add", "-A")
        author = "Ünï Q. Author <u@example.com>"
        plain(
            place, "commit", "-q", "-m", "Tïtle\n\nBody\n", f"--author={author}", "--date=@1000000000 +0530"
        )
        before = plain(place, "log", "-1", "--format=%an %ae %ad %B")
        target = commit(repository, "b", "1")
        rebased = finish.rebase(attempt, admin)
        assert plain(place, "log", "-1", "--format=%an %ae %ad %B") == before
        assert plain(place, "rev-parse", "HEAD~1").strip() == rebased.base_commit == target
        assert (place / "b").exists()
        assert plain(place, "status", "--porcelain") == ""

    def test_uncommitted_work_is_carried_along(
        self, attempt: TaskAttempt, repository: Path, admin: User
    ) -> None:
        place = folder(attempt)
        commit(place, "a", "1")
        (place / "README.md").write_text("# Test\nmine\n")
        (place / "untracked").write_text("u")
        commit(repository, "src/app.py", "print('theirs')\n")
        finish.rebase(attempt, admin)
        assert plain(place, "status", "--porcelain") == " M README.md\n?? untracked\n"
        assert (place / "src/app.py").read_text() == "print('theirs')\n"

    def test_conflict_of_a_commit(self, attempt: TaskAttempt, repository: Path, admin: User) -> None:
        commit(folder(attempt), "README.md", "ours\n", "My idea")
        commit(repository, "README.md", "theirs\n")
        error = refused(repository, lambda: finish.rebase(attempt, admin))
        assert error.files == ("README.md",)
        assert "My idea" in error.message

    def test_conflict_of_uncommitted_work(self, attempt: TaskAttempt, repository: Path, admin: User) -> None:
        (folder(attempt) / "README.md").write_text("ours\n")
        commit(repository, "README.md", "theirs\n")
        assert "not committed" in refused(repository, lambda: finish.rebase(attempt, admin)).message

    def test_commit_that_the_target_has_already_is_dropped(
        self, attempt: TaskAttempt, repository: Path, admin: User
    ) -> None:
        commit(folder(attempt), "a", "1")
        commit(folder(attempt), "b", "1", "second")
        commit(repository, "z", "1")
        plain(repository, "cherry-pick", f"{attempt.branch}~1")
        finish.rebase(attempt, admin)
        assert plain(repository, "log", "--format=%s", f"main..{attempt.branch}") == "second\n"

    def test_equals_what_git_rebase_makes(self, attempt: TaskAttempt, repository: Path, admin: User) -> None:
        place = folder(attempt)
        for number in range(5):
            commit(place, f"file{number % 2}", f"{number}\n" * 5, f"commit {number}")
        commit(repository, "b", "1")
        plain(place, "branch", "copy")
        finish.rebase(attempt, admin)
        ours = plain(place, "log", "--format=%T %s %an", "main..HEAD")
        plain(place, "checkout", "-q", "copy")
        plain(place, "rebase", "-q", "main")
        assert plain(place, "log", "--format=%T %s %an", "main..HEAD") == ours

    def test_nothing_to_do(self, attempt: TaskAttempt, repository: Path, admin: User) -> None:
        tip = commit(folder(attempt), "a", "1")
        finish.rebase(attempt, admin)
        assert git.branch_commit(repository, attempt.branch) == tip


class TestDiscard:
    def test_keeps_commits_and_uncommitted_work_under_a_reference(
        self, attempt: TaskAttempt, repository: Path, admin: User
    ) -> None:
        tip = commit(folder(attempt), "committed", "1")
        (folder(attempt) / "untracked").write_text("2")
        place = folder(attempt)
        ended = finish.discard(attempt, admin)
        assert ended.kept_ref == f"refs/vibe/kept/{attempt.pk}"
        assert plain(repository, "show", f"{ended.kept_ref}:untracked") == "2"
        assert git.is_ancestor(repository, tip, ended.kept_ref)
        assert (ended.outcome, ended.worktree, place.exists()) == ("discarded", None, False)
        assert git.branches(repository) == ["main"]

    def test_work_on_another_branch_and_detached(
        self, attempt: TaskAttempt, repository: Path, admin: User
    ) -> None:
        tip = commit(folder(attempt), "on-branch", "1")
        plain(folder(attempt), "checkout", "-q", "--detach", "main")
        loose = commit(folder(attempt), "loose", "1")
        ref = finish.discard(attempt, admin).kept_ref
        assert git.is_ancestor(repository, tip, ref)
        assert git.is_ancestor(repository, loose, ref)

    def test_nothing_done_leaves_nothing(self, attempt: TaskAttempt, repository: Path, admin: User) -> None:
        assert finish.discard(attempt, admin).kept_ref == ""
        assert plain(repository, "for-each-ref", "--format=%(refname)") == "refs/heads/main\n"

    def test_worktree_deleted_by_hand(self, attempt: TaskAttempt, repository: Path, admin: User) -> None:
        commit(folder(attempt), "a", "1")
        worktrees.delete_folder(folder(attempt))
        assert finish.discard(attempt, admin).kept_ref
        assert len(git.checkouts(repository)) == 1

    def test_repository_inside_is_moved_away_whole(
        self, attempt: TaskAttempt, admin: User, settings: object
    ) -> None:
        inner = folder(attempt) / "inner"
        inner.mkdir()
        plain(inner, "init", "-q", "-b", "main")
        commit(inner, "file", "precious")
        finish.discard(attempt, admin)
        kept = Path(django_settings.VIBE_DATA) / "kept" / str(attempt.pk) / "inner"
        assert plain(kept, "show", "HEAD:file") == "precious"


class TestUpkeep:
    def test_kept_work_expires(self, attempt: TaskAttempt, repository: Path, admin: User) -> None:
        commit(folder(attempt), "a", "1")
        finish.discard(attempt, admin)
        assert finish.expire_kept_refs() == 0
        assert finish.expire_kept_refs(days=-1) == 1
        assert TaskAttempt.objects.get(pk=attempt.pk).kept_ref == ""
        assert "kept" not in plain(repository, "for-each-ref")

    def test_ended_worktree_goes_after_its_time(
        self, attempt: TaskAttempt, repository: Path, admin: User
    ) -> None:
        commit(folder(attempt), "a", "1")
        finish.merge(attempt, "squash", admin)
        assert finish.remove_ended_worktrees() == 0
        assert finish.remove_ended_worktrees(days=-1) == 1
        assert not folder(attempt).exists()
        assert git.branches(repository) == ["main"]

    def test_ended_worktree_with_new_work_stays_unless_asked(self, attempt: TaskAttempt, admin: User) -> None:
        commit(folder(attempt), "a", "1")
        finish.merge(attempt, "merge", admin)
        (folder(attempt) / "later").write_text("1")
        assert finish.remove_ended_worktrees(days=-1) == 0
        assert finish.remove_ended_worktrees(days=-1, even_dirty=True) == 1
        assert TaskAttempt.objects.get(pk=attempt.pk).kept_ref

    def test_open_attempts_are_not_touched(self, attempt: TaskAttempt) -> None:
        assert finish.remove_ended_worktrees(days=-1) == 0

    def test_drop_worktree_keeps_uncommitted_work(self, attempt: TaskAttempt, repository: Path) -> None:
        (folder(attempt) / "a").write_text("1")
        place = folder(attempt)
        finish.drop_worktree(attempt)
        assert not place.exists()
        assert plain(repository, "show", f"{worktrees.kept_ref(attempt.pk)}:a") == "1"
        assert attempt.branch in git.branches(repository)
