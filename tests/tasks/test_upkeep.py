"""What is removed some time after an attempt has ended, and what never is."""

from io import StringIO
from pathlib import Path
from uuid import UUID

import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.core.management import call_command

from tasks import git, worktrees
from tasks.finishing import finish
from tasks.models import ExecutionProcess, Project, TaskAttempt
from tests.repositories import UNREACHABLE
from tests.repositories import git as plain
from tests.tasks.attempts import commit, folder

pytestmark = pytest.mark.django_db


class TestUpkeep:
    def test_kept_work_expires(self, attempt: TaskAttempt, repository: Path, admin: User) -> None:
        commit(folder(attempt), "a", "1")
        finish.discard(attempt, admin)
        assert finish.expire_kept_refs() == 0
        assert finish.expire_kept_refs(days=-1) == 1
        assert TaskAttempt.objects.get(pk=attempt.pk).kept_ref == ""
        assert "kept" not in plain(repository, "for-each-ref")

    def test_reference_of_somebodys_own_that_is_of_no_commit(
        self, project: Project, repository: Path
    ) -> None:
        ref = f"{worktrees.KEPT_REFS}somebody"
        plain(repository, "update-ref", ref, "main^{tree}")
        assert finish.expire_kept_refs(days=-1) == 0
        assert ref in plain(repository, "for-each-ref")

    def test_what_lies_in_folders_stays_for_its_time_too(self) -> None:
        data = Path(django_settings.VIBE_DATA)
        kept, state = data / "kept/some attempt/inner", data / "diffs/some attempt.json"
        kept.mkdir(parents=True)
        state.parent.mkdir(exist_ok=True)
        state.write_text("{}")
        finish.expire_kept_refs()
        assert kept.exists()
        assert state.exists()
        finish.expire_kept_refs(days=-1)
        assert not kept.parent.exists()
        assert not state.exists()

    def test_last_commit_of_a_merged_attempt_stays_as_long_as_its_record(
        self, attempt: TaskAttempt, repository: Path, admin: User
    ) -> None:
        tip, ref = commit(folder(attempt), "a", "1"), worktrees.merged_ref(attempt.pk)
        finish.merge(attempt, "squash", admin)
        plain(repository, "update-ref", f"{worktrees.MERGED_REFS}somebody", tip)
        assert finish.expire_kept_refs(days=-1) == 0
        assert git.commit_of(repository, ref) == tip
        attempt.delete()
        assert finish.expire_kept_refs(days=-1) == 1
        assert git.commit_of(repository, ref) is None
        assert git.commit_of(repository, f"{worktrees.MERGED_REFS}somebody") == tip

    def test_commit_with_a_date_that_is_none_holds_nothing_up(
        self, attempt: TaskAttempt, repository: Path, admin: User
    ) -> None:
        tree = plain(repository, "rev-parse", "HEAD^{tree}").strip()
        (repository / "odd").write_text(f"tree {tree}\nauthor A <a>\ncommitter A <a>\n\nodd\n")
        odd = plain(repository, "hash-object", "-t", "commit", "-w", "--literally", "odd").strip()
        plain(repository, "update-ref", f"{worktrees.MERGED_REFS}{UUID(int=0)}", odd)
        assert finish.expire_kept_refs() == 1

    def test_what_goes_as_it_is_looked_at_holds_nothing_up(self) -> None:
        folder = Path(django_settings.VIBE_DATA) / "diffs"
        folder.mkdir(exist_ok=True)
        gone = folder / "gone.json"
        gone.symlink_to("nowhere")  # As a file that goes between the two looks is to the second.
        finish.expire_kept_refs(days=-1)
        gone.unlink()

    def test_repository_that_cannot_be_reached_holds_nothing_up(
        self, attempt: TaskAttempt, repository: Path, admin: User
    ) -> None:
        commit(folder(attempt), "a", "1")
        finish.discard(attempt, admin)
        far = Project.objects.create(name=" First", repo_path=UNREACHABLE, target_branch="main")
        task = far.tasks.create(title="Far")
        task.attempts.create(executor="demo", branch="b", worktree=str(repository), outcome="merged")
        assert finish.remove_ended_worktrees(days=-1) == 0
        assert finish.expire_kept_refs(days=-1) == 1

    def test_ended_worktree_in_which_a_process_goes_on_stays(self, attempt: TaskAttempt, admin: User) -> None:
        commit(folder(attempt), "a", "1")
        finish.merge(attempt, "squash", admin)
        ExecutionProcess.objects.create(task_attempt=attempt, run_reason="devserver", status="running")
        assert finish.remove_ended_worktrees(days=-1) == 0
        assert folder(attempt).exists()

    def test_ended_worktree_goes_after_its_time(
        self, attempt: TaskAttempt, repository: Path, admin: User
    ) -> None:
        commit(folder(attempt), "a", "1")
        finish.merge(attempt, "squash", admin)
        assert finish.remove_ended_worktrees() == 0
        assert finish.remove_ended_worktrees(days=-1) == 1
        assert not folder(attempt).exists()
        assert list(git.branches(repository)) == ["main"]

    def test_merged_branch_that_has_gone_on_stays(
        self, attempt: TaskAttempt, repository: Path, admin: User
    ) -> None:
        commit(folder(attempt), "a", "1")
        finish.merge(attempt, "squash", admin)
        tip = commit(folder(attempt), "later", "1")
        assert finish.remove_ended_worktrees(days=-1) == 1
        assert git.branch_commit(repository, attempt.branch) == tip

    def test_ended_worktree_with_new_work_stays_unless_asked(self, attempt: TaskAttempt, admin: User) -> None:
        commit(folder(attempt), "a", "1")
        finish.merge(attempt, "merge", admin)
        later = folder(attempt) / "later"
        later.write_text("1")
        call_command("vacuum", "--now", stdout=StringIO())
        assert later.exists()
        call_command("vacuum", "--now", "--uncommitted", stdout=StringIO())
        assert not later.exists()
        ref = TaskAttempt.objects.get(pk=attempt.pk).kept_ref
        assert plain(Path(attempt.task.project.repo_path), "show", f"{ref}:later") == "1"

    def test_ended_worktree_with_work_that_git_does_not_show_stays(
        self, attempt: TaskAttempt, repository: Path, admin: User
    ) -> None:
        commit(folder(attempt), "a", "1")
        finish.merge(attempt, "merge", admin)
        plain(repository, "config", "status.showUntrackedFiles", "no")
        (folder(attempt) / "later").write_text("1")
        assert finish.remove_ended_worktrees(days=-1) == 0
        plain(folder(attempt), "checkout", "-q", "--detach")
        loose = commit(folder(attempt), "later", "1")
        assert finish.remove_ended_worktrees(days=-1) == 0
        assert finish.remove_ended_worktrees(days=-1, even_dirty=True) == 1
        assert git.is_held(repository, loose)

    def test_open_attempts_are_not_touched(self, attempt: TaskAttempt) -> None:
        assert finish.remove_ended_worktrees(days=-1) == 0

    def test_drop_worktree_keeps_uncommitted_work(self, attempt: TaskAttempt, repository: Path) -> None:
        (folder(attempt) / "a").write_text("1")
        place = folder(attempt)
        finish.drop_worktree(attempt)
        assert not place.exists()
        assert plain(repository, "show", f"{worktrees.kept_ref(attempt.pk)}:a") == "1"
        assert attempt.branch in git.branches(repository)

    def test_drop_worktree_keeps_commits_that_no_branch_has_for_thirty_days_from_now(
        self, attempt: TaskAttempt, repository: Path, tmp_path: Path
    ) -> None:
        plain(folder(attempt), "checkout", "-q", "--detach")
        (folder(attempt) / "a").write_text("1")
        plain(folder(attempt), "add", "-A")
        tree = plain(folder(attempt), "write-tree").strip()
        long_ago = "tree {}\nauthor A <a@b> 1000000000 +0000\ncommitter A <a@b> 1000000000 +0000\n\nloose\n"
        (tmp_path / "loose").write_text(long_ago.format(tree))
        made = plain(folder(attempt), "hash-object", "-t", "commit", "-w", str(tmp_path / "loose")).strip()
        plain(folder(attempt), "reset", "-q", "--hard", made)
        finish.drop_worktree(attempt)
        finish.expire_kept_refs()
        assert git.is_ancestor(repository, made, worktrees.kept_ref(attempt.pk))

    def test_drop_worktree_leaves_what_git_cannot_read(self, attempt: TaskAttempt) -> None:
        place = folder(attempt)
        (place / "a").write_text("1")
        (place / ".git").write_text("gitdir: /nowhere\n")
        finish.drop_worktree(attempt)
        assert (place / "a").exists()
        assert attempt.worktree is None

    def test_merged_branch_that_somebody_works_on_stays(
        self, attempt: TaskAttempt, repository: Path, admin: User
    ) -> None:
        commit(folder(attempt), "a", "1")
        finish.merge(attempt, "squash", admin)
        plain(repository, "worktree", "remove", str(folder(attempt)))
        plain(repository, "checkout", "-q", attempt.branch)
        assert finish.remove_ended_worktrees(days=-1) == 1
        assert plain(repository, "status", "--porcelain") == ""
