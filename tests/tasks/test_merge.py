"""Merges on real repositories: all or nothing, and nothing of anybody's lost."""

import os
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User

from tasks import diffs, git, projects, worktrees
from tasks.errors import Refused
from tasks.finishing import checkouts, finish, journal, operations
from tasks.finishing.journal import FileUpdate, Operation
from tasks.models import ExecutionProcess, Project, Task, TaskAttempt
from tasks.runs import runner
from tests.repositories import git as plain
from tests.repositories import make_repository
from tests.tasks.attempts import commit, everything, folder, refused, start

pytestmark = pytest.mark.django_db


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

    def test_target_that_is_another_name_of_the_branch_checked_out(
        self, attempt: TaskAttempt, repository: Path, admin: User
    ) -> None:
        plain(repository, "symbolic-ref", "refs/heads/master", "refs/heads/main")
        attempt.target_branch = "master"
        attempt.save()
        commit(folder(attempt), "a", "1")
        finish.merge(attempt, "merge", admin)
        assert (repository / "a").exists()
        assert plain(repository, "status", "--porcelain") == ""
        assert plain(repository, "symbolic-ref", "refs/heads/master") == "refs/heads/main\n"

    def test_submodule_of_the_working_copy_with_changes_of_its_own(
        self, task: Task, repository: Path, with_submodule: Path, admin: User
    ) -> None:
        attempt = start(task)
        (with_submodule / "README.md").write_text("changed")
        commit(folder(attempt), "a", "1")
        finish.merge(attempt, "merge", admin)
        assert (repository / "a").exists()
        assert (with_submodule / "README.md").read_text() == "changed"

    def test_submodule_that_a_merge_left_behind(
        self, task: Task, repository: Path, with_submodule: Path, admin: User
    ) -> None:
        first, second = start(task), start(task)
        plain(folder(first), "-c", "protocol.file.allow=always", "submodule", "-q", "update", "--init")
        tip = commit(folder(first) / "sub", "a", "1")
        finish.merge(first, "merge", admin)
        commit(folder(second), "b", "1")
        finish.merge(second, "merge", admin)
        assert plain(repository, "status", "--porcelain") == " M sub\n"
        assert plain(repository, "rev-parse", "main:sub").strip() == tip

    def test_submodule_that_git_is_configured_not_to_show(
        self, task: Task, repository: Path, with_submodule: Path, admin: User
    ) -> None:
        plain(repository, "config", "diff.ignoreSubmodules", "all")
        attempt = start(task)
        plain(folder(attempt), "-c", "protocol.file.allow=always", "submodule", "-q", "update", "--init")
        tip = commit(folder(attempt) / "sub", "a", "1")
        assert [record["file"] for record in diffs.of_attempt(attempt)] == ["sub"]
        finish.merge(attempt, "merge", admin)
        assert plain(repository, "rev-parse", "main:sub").strip() == tip

    def test_sparse_working_copies(self, attempt: TaskAttempt, repository: Path, admin: User) -> None:
        plain(repository, "sparse-checkout", "set", "src")
        plain(folder(attempt), "sparse-checkout", "set", "docs")
        (folder(attempt) / "docs").mkdir()
        (folder(attempt) / "docs/new").write_text("1")
        finish.merge(attempt, "merge", admin)
        assert plain(repository, "show", "main:docs/new", "main:src/app.py") == "1print('hello')\n"
        assert plain(repository, "status", "--porcelain") == ""
        assert not (repository / "docs").exists()

    def test_file_outside_of_the_part_that_is_checked_out(
        self, attempt: TaskAttempt, repository: Path, admin: User
    ) -> None:
        plain(folder(attempt), "sparse-checkout", "set", "docs")
        (folder(attempt) / "lib").mkdir()
        (folder(attempt) / "lib/new").write_text("1")
        finish.merge(attempt, "merge", admin)
        assert plain(repository, "show", "main:lib/new", "main:src/app.py") == "1print('hello')\n"

    def test_title_where_commits_are_configured_to_have_another_encoding(
        self, attempt: TaskAttempt, repository: Path, admin: User
    ) -> None:
        plain(repository, "config", "i18n.commitEncoding", "ISO-8859-1")
        attempt.task.title = "Käse"
        attempt.task.save()
        commit(folder(attempt), "a", "1")
        finish.merge(attempt, "squash", admin)
        assert plain(repository, "log", "-1", "--encoding=UTF-8", "--format=%s", "main") == "Käse\n"

    def test_repository_that_was_moved(
        self, attempt: TaskAttempt, repository: Path, admin: User, tmp_path: Path
    ) -> None:
        (folder(attempt) / "a").write_text("1")
        moved = repository.rename(tmp_path / "moved")
        with pytest.raises(Refused, match="is gone"):
            finish.merge(attempt, "merge", admin)
        projects.change_project(admin, attempt.task.project, {"repo_path": str(moved)})
        finish.merge(TaskAttempt.objects.get(pk=attempt.pk), "merge", admin)
        assert (moved / "a").exists()

    def test_line_ends_that_git_is_told_to_refuse(
        self, attempt: TaskAttempt, repository: Path, admin: User
    ) -> None:
        for name, value in {"core.safecrlf": "true", "core.autocrlf": "true"}.items():
            plain(repository, "config", name, value)
        (folder(attempt) / "a").write_bytes(b"1\n2\r\n")
        finish.merge(attempt, "merge", admin)
        assert (repository / "a").read_bytes() == b"1\r\n2\r\n"

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
        error = refused(repository, lambda: finish.merge(attempt, "merge", admin))
        assert "overwritten" in error.message
        assert error.files == ("a",)

    @pytest.mark.parametrize(("mine", "theirs"), [("a", "a"), ("a/b", "a"), ("a", "a/b")])
    def test_ignored_file_in_the_way(
        self, attempt: TaskAttempt, repository: Path, admin: User, mine: str, theirs: str
    ) -> None:
        (repository / ".git/info/exclude").write_text("/a\n")
        for place, name in ((repository, mine), (folder(attempt), theirs)):
            (place / name).parent.mkdir(exist_ok=True)
            (place / name).write_text(str(place))
        plain(folder(attempt), "add", "--force", "a")
        error = refused(repository, lambda: finish.merge(attempt, "merge", admin))
        assert error.files == (mine,)

    def test_submodule_of_the_working_copy_in_the_way(
        self, task: Task, repository: Path, with_submodule: Path, admin: User
    ) -> None:
        attempt = start(task)
        plain(folder(attempt), "rm", "-q", "sub")
        commit(folder(attempt), "sub", "a file")
        (with_submodule / "README.md").write_text("mine")
        error = refused(repository, lambda: finish.merge(attempt, "merge", admin))
        assert "overwritten" in error.message
        assert error.files == ("sub",)

    @pytest.mark.parametrize("ignored", ["", "/a"])
    def test_repository_inside_the_working_copy_in_the_way(
        self, attempt: TaskAttempt, repository: Path, admin: User, ignored: str
    ) -> None:
        commit(folder(attempt), "a", "a file")
        make_repository(repository / "a")
        (repository / ".git/info/exclude").write_text(ignored)
        refused(repository, lambda: finish.merge(attempt, "merge", admin))

    def test_changed_file_whose_name_is_not_utf8(
        self, attempt: TaskAttempt, repository: Path, admin: User
    ) -> None:
        name = os.fsdecode(b"\xff")
        commit(repository, name, "1")
        commit(folder(attempt), "a", "1")
        (repository / name).write_text("2")
        error = refused(repository, lambda: finish.merge(attempt, "merge", admin))
        assert error.files == (r'"\377"',)

    def test_repository_that_was_configured_to_be_bare(
        self, attempt: TaskAttempt, repository: Path, admin: User
    ) -> None:
        commit(folder(attempt), "a", "1")
        plain(folder(attempt), "config", "core.bare", "true")
        assert "core.bare false" in refused(repository, lambda: finish.merge(attempt, "merge", admin)).message

    def test_its_branch_is_checked_out_elsewhere(
        self, attempt: TaskAttempt, repository: Path, admin: User
    ) -> None:
        commit(folder(attempt), "a", "1")
        commit(repository, "b", "1")
        worktrees.remove(repository, folder(attempt))
        plain(repository, "checkout", "-q", attempt.branch)
        for act in (finish.rebase, finish.discard):
            error = refused(repository, lambda act=act: act(attempt, admin))  # type: ignore[misc]
            assert f"checked out in {repository}" in error.message
        finish.merge(attempt, "merge", admin)
        assert plain(repository, "status", "--porcelain") == ""

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

    def test_merge_under_way_in_the_worktree(
        self, attempt: TaskAttempt, repository: Path, admin: User
    ) -> None:
        commit(folder(attempt), "README.md", "ours\n")
        commit(repository, "README.md", "theirs\n")
        with pytest.raises(AssertionError, match="CONFLICT"):
            plain(folder(attempt), "merge", "main")
        error = refused(repository, lambda: finish.merge(attempt, "merge", admin))
        assert "merge is under way" in error.message
        assert str(folder(attempt)) in error.message

    def test_rebase_of_the_target_under_way(
        self, attempt: TaskAttempt, repository: Path, admin: User
    ) -> None:
        commit(folder(attempt), "a", "1")
        plain(repository, "checkout", "-q", "-b", "x")
        commit(repository, "README.md", "x\n")
        plain(repository, "checkout", "-q", "main")
        commit(repository, "README.md", "main\n")
        with pytest.raises(AssertionError, match="CONFLICT"):
            plain(repository, "rebase", "x")
        with pytest.raises(Refused, match="a rebase of the branch is under way"):
            finish.merge(attempt, "merge", admin)
        plain(repository, "rebase", "--abort")
        plain(repository, "bisect", "start", "main", "main~1")
        plain(repository, "checkout", "-q", "--detach")
        with pytest.raises(Refused, match="a bisection of the branch is under way"):
            finish.merge(attempt, "merge", admin)

    def test_target_checked_out_twice(
        self, attempt: TaskAttempt, repository: Path, admin: User, tmp_path: Path
    ) -> None:
        plain(repository, "worktree", "add", "-q", "--force", str(tmp_path / "again"), "main")
        commit(folder(attempt), "a", "1")
        error = refused(repository, lambda: finish.merge(attempt, "merge", admin))
        assert str(repository) in error.message
        assert str(tmp_path / "again") in error.message

    def test_nothing_was_done(self, attempt: TaskAttempt, repository: Path, admin: User) -> None:
        assert (
            "nothing to merge" in refused(repository, lambda: finish.merge(attempt, "merge", admin)).message
        )

    def test_what_was_done_is_lost(self, attempt: TaskAttempt, repository: Path, admin: User) -> None:
        folder(attempt).joinpath("lost").touch()
        worktrees.delete_folder(folder(attempt))
        message = refused(repository, lambda: finish.merge(attempt, "merge", admin)).message
        assert "nothing to merge" in message
        assert "is gone: somebody deleted it" in message

    def test_run_goes_on(self, attempt: TaskAttempt, repository: Path, admin: User) -> None:
        commit(folder(attempt), "a", "1")
        ExecutionProcess.objects.create(task_attempt=attempt, run_reason="codingagent", status="running")
        assert "still goes on" in refused(repository, lambda: finish.merge(attempt, "merge", admin)).message
        ExecutionProcess.objects.update(run_reason="devserver")
        assert finish.merge(attempt, "merge", admin).outcome == "merged"

    def test_follow_up_that_is_asked_for_meanwhile(
        self, attempt: TaskAttempt, repository: Path, admin: User, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        commit(folder(attempt), "a", "1")
        plan, move = finish._plan_merge, operations.move_references

        def planned(*args: Any) -> Operation:
            operation = plan(*args)
            runner.follow_up(attempt, "more", admin)
            return operation

        def moved(operation: Operation) -> None:
            move(operation)
            with pytest.raises(Refused, match="just being merged"):
                runner.follow_up(attempt, "more", admin)

        with monkeypatch.context() as patch:
            patch.setattr(finish, "_plan_merge", planned)
            assert (
                "still goes on" in refused(repository, lambda: finish.merge(attempt, "merge", admin)).message
            )
        attempt.processes.all().delete()
        monkeypatch.setattr(operations, "move_references", moved)
        assert not finish.merge(attempt, "merge", admin).processes.exists()

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


class TestUnfinished:
    def test_files_that_cannot_be_put_back_wait_under_the_lock(
        self, attempt: TaskAttempt, repository: Path, admin: User, tmp_path: Path
    ) -> None:
        for name in "ab":
            commit(folder(attempt), name, f"new {name}\n")
        before, broken = everything(repository), tmp_path / "broken"
        smudge = f"! grep b || touch {broken}; [ ! -e {broken} ] && echo new a"
        plain(repository, "config", "filter.f.smudge", smudge)
        plain(repository, "config", "filter.f.clean", "cat")
        plain(repository, "config", "filter.f.required", "true")
        (repository / ".git/info").mkdir(exist_ok=True)
        (repository / ".git/info/attributes").write_text("a filter=f\nb filter=f\n")
        with pytest.raises(Refused, match="cannot be put back"):
            finish.merge(attempt, "merge", admin)
        assert (repository / "a").exists()
        with pytest.raises(Refused, match="cannot be put back"):
            finish.merge(attempt, "merge", admin)
        assert (repository / ".git/index.lock").exists()
        broken.unlink()
        (repository / ".git/info/attributes").write_text("a filter=f\n")
        assert finish.recover() == 1
        assert everything(repository) == before

    def test_index_that_cannot_be_written_follows_later(
        self, attempt: TaskAttempt, repository: Path, admin: User, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        commit(folder(attempt), "new", "1")
        beside = repository / ".git/index.vibe"
        beside.mkdir()
        with pytest.raises(Refused, match="Half done"):
            finish.merge(attempt, "merge", admin)
        beside.rmdir()
        assert finish.recover() == 1
        assert plain(repository, "status", "--porcelain") == ""
        assert TaskAttempt.objects.get(pk=attempt.pk).outcome == "merged"

    def test_files_that_were_not_written_to_their_ends_are_put_back_and_other_edits_stay(
        self, repository: Path
    ) -> None:
        old = plain(repository, "rev-parse", "HEAD^{tree}").strip()
        commit(repository, "src/app.py", "new\n")
        commit(repository, "README.md", "new content\n")
        new = plain(repository, "rev-parse", "HEAD^{tree}").strip()
        (repository / "README.md").write_text("new con")
        (repository / "src/app.py").write_text("somebody's\n")
        checkouts.restore(repository, FileUpdate(str(repository), old, new, index_tree=new))
        assert (repository / "README.md").read_text() == "# Test\n"
        assert (repository / "src/app.py").read_text() == "somebody's\n"

    def test_submodule_is_not_put_back_but_stays_as_it_is(
        self, repository: Path, with_submodule: Path
    ) -> None:
        old = plain(repository, "rev-parse", "HEAD^{tree}").strip()
        head = commit(with_submodule, "next", "1")
        commit(repository, "README.md", "new\n")
        new = plain(repository, "rev-parse", "HEAD^{tree}").strip()
        checkouts.restore(repository, FileUpdate(str(repository), old, new, index_tree=new))
        assert (repository / "README.md").read_text() == "# Test\n"
        assert plain(with_submodule, "rev-parse", "HEAD").strip() == head

    def test_merge_of_which_one_reference_was_moved_is_carried_through_though_others_went_on(
        self, attempt: TaskAttempt, repository: Path, admin: User
    ) -> None:
        plain(repository, "checkout", "-q", "--detach")
        (folder(attempt) / "new").write_text("1")
        plan = finish._plan_merge(attempt, "merge", admin)
        journal.write(plan)
        tree = f"{plan.moves[0].new}^{{tree}}"
        later = plain(repository, "commit-tree", tree, "-p", plan.moves[0].new, "-m", "later").strip()
        plain(repository, "update-ref", "refs/heads/main", later)
        finish.recover()
        assert git.branch_commit(repository, "main") == later
        assert git.branch_commit(repository, attempt.branch) == plan.moves[1].new
        assert TaskAttempt.objects.get(pk=attempt.pk).outcome == "merged"
