"""Status, rebase and discard on real repositories: all or nothing, and nothing of anybody's lost."""

import errno
import os
import shutil
import signal
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.test import Client

from tasks import diffs, git, projects, snapshots, worktrees
from tasks.errors import Refused
from tasks.finishing import finish, journal, merging, operations, standing
from tasks.models import Project, Task, TaskAttempt
from tests.repositories import UNREACHABLE, make_repository
from tests.repositories import git as plain
from tests.runs import goes_on, wait_for
from tests.tasks.attempts import commit, folder, refused, start

pytestmark = pytest.mark.django_db


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
            "problem": "",
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

    def test_folder_with_a_colon_in_its_name(self, tmp_path: Path) -> None:
        repository = make_repository(tmp_path / "a:b")
        with merging.throwaway_objects(repository) as env:
            tree = git.tree_of(repository, "HEAD")
            assert merging.merge(repository, "HEAD", "HEAD", env) == merging.Merged(tree, ())

    def test_repository_that_cannot_be_reached_is_gone(self, attempt: TaskAttempt, admin: User) -> None:
        Project.objects.update(repo_path=UNREACHABLE)
        attempt = TaskAttempt.objects.get(pk=attempt.pk)
        assert finish.status(attempt)["ahead"] == 0
        for act in (finish.discard, finish.rebase):
            with pytest.raises(Refused, match="is gone"):
                act(attempt, admin)
        projects.delete(attempt.task.project, task__project=attempt.task.project)
        assert not Project.objects.exists()

    def test_worktree_that_git_cannot_read_is_a_refusal(self, attempt: TaskAttempt) -> None:
        (folder(attempt) / ".git").write_text("gitdir: /nowhere\n")
        with pytest.raises(Refused, match="not a git repository"):
            finish.status(attempt)

    def test_merge_driver_that_never_ends(
        self,
        attempt: TaskAttempt,
        repository: Path,
        admin: User,
        client: Client,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(standing, "PATIENCE", 1.0)
        started = tmp_path / "started"
        plain(repository, "config", "merge.stuck.driver", f"echo $$ >>{started}; exec sleep 600")
        (repository / ".git/info").mkdir(exist_ok=True)
        (repository / ".git/info/attributes").write_text("* merge=stuck\n")
        commit(folder(attempt), "README.md", "ours\n")
        commit(repository, "README.md", "theirs\n")
        client.force_login(admin)
        found = client.get(f"/api/task-attempts/{attempt.pk}/status").json()
        assert (found["ahead"], found["behind"], found["conflicts"]) == (1, 1, [])
        assert "would conflict is not known" in found["problem"]
        assert "took longer than 1 s" in found["problem"]
        pid = int(started.read_text())
        wait_for(lambda: not goes_on(pid), "the end of the merge driver")

    def test_worktree_and_branch_gone(self, attempt: TaskAttempt, repository: Path) -> None:
        worktrees.remove(repository, folder(attempt))
        plain(repository, "branch", "-D", attempt.branch)
        assert finish.status(attempt)["ahead"] == 0

    def test_worktree_gone_but_its_branch_is_there(self, attempt: TaskAttempt) -> None:
        commit(folder(attempt), "a", "1")
        worktrees.delete_folder(folder(attempt))
        found = finish.status(attempt)
        assert found["ahead"] == 1
        assert "is gone: somebody deleted it" in found["problem"]

    def test_worktree_that_goes_as_its_attempt_is_discarded(
        self, attempt: TaskAttempt, repository: Path
    ) -> None:
        journal.write(journal.Operation(str(attempt.pk), str(repository), "discard", ()))
        worktrees.delete_folder(folder(attempt))
        with journal.only_one(repository):
            assert finish.status(attempt)["problem"] == ""
        assert "is gone" in finish.status(attempt)["problem"]

    def test_attempt_that_has_ended(self, attempt: TaskAttempt, repository: Path, admin: User) -> None:
        commit(folder(attempt), "a", "1")
        ended = finish.merge(attempt, "squash", admin)
        assert finish.status(ended)["ahead"] == finish.status(ended)["behind"] == 0


class TestObjectThatIsMissing:
    """Git would take a commit without its tree for one that deleted everything."""

    @pytest.mark.parametrize("whose", ["main^{tree}", "topic^{tree}", "main~1^{tree}", "topic", "main~1"])
    def test_is_no_merge(self, repository: Path, whose: str) -> None:
        plain(repository, "checkout", "-q", "-b", "topic")
        commit(repository, "topic", "1")
        plain(repository, "checkout", "-q", "main")
        commit(repository, "main", "1")
        ours, theirs = (plain(repository, "rev-parse", name).strip() for name in ("main", "topic"))
        lose(repository, whose)
        with pytest.raises(git.GitError, match=r"Could not read|not something we can merge"):
            merging.merge(repository, ours, theirs)

    def test_is_no_dirty_worktree(self, repository: Path) -> None:
        lose(repository, "HEAD^{tree}")
        (repository / "new").touch()
        with pytest.raises(git.GitError, match="Needed a single revision"):
            snapshots.take(repository)

    def test_refuses_a_merge_and_the_status(
        self, attempt: TaskAttempt, repository: Path, admin: User
    ) -> None:
        commit(folder(attempt), "a", "1")
        commit(repository, "b", "1")
        lose(repository, "main^{tree}")
        heads = plain(repository, "for-each-ref")
        with pytest.raises(Refused, match="git fsck"):
            finish.status(attempt)
        with pytest.raises(Refused, match=r"Could not read[^$]*git fsck[^$]*Nothing was changed"):
            finish.merge(attempt, "merge", admin)
        assert plain(repository, "for-each-ref") == heads
        assert (repository / "b").exists()


def lose(repository: Path, name: str) -> None:
    """Removes the object from the repository."""
    found = plain(repository, "rev-parse", name).strip()
    (repository / ".git/objects" / found[:2] / found[2:]).unlink()


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

    def test_uncommitted_work_that_the_target_has_by_now(
        self, attempt: TaskAttempt, repository: Path, admin: User
    ) -> None:
        (folder(attempt) / "README.md").write_text("same\n")
        target = commit(repository, "README.md", "same\n")
        assert finish.rebase(attempt, admin).base_commit == target
        assert plain(folder(attempt), "status", "--porcelain") == ""

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
        plain(place, "-c", "i18n.commitEncoding=ISO-8859-1", "commit", "-q", "--amend", "-m", "Tïtle")
        commit(repository, "a", "1")
        plain(place, "merge", "-q", "--no-edit", "main")
        commit(place, "after", "1", "after the merge")
        commit(repository, "b", "1")
        plain(place, "branch", "copy")
        finish.rebase(attempt, admin)
        ours = plain(place, "log", "--format=%T %s %an", "main..HEAD")
        plain(place, "checkout", "-q", "copy")
        plain(place, "rebase", "-q", "main")
        assert plain(place, "log", "--format=%T %s %an", "main..HEAD") == ours

    def test_worktree_on_another_branch_that_would_stay_behind(
        self, attempt: TaskAttempt, repository: Path, admin: User
    ) -> None:
        commit(folder(attempt), "a", "1")
        commit(repository, "b", "1")
        plain(folder(attempt), "checkout", "-q", "-b", "agent-idea")
        error = refused(repository, lambda: finish.rebase(attempt, admin))
        assert "'agent-idea'" in error.message

    def test_submodule_that_would_stay_behind(
        self, task: Task, repository: Path, with_submodule: Path, admin: User
    ) -> None:
        attempt = start(task)
        place = folder(attempt)
        plain(place, "-c", "protocol.file.allow=always", "submodule", "-q", "update", "--init")
        commit(place, "a", "1")
        newer = commit(with_submodule, "newer", "1")
        plain(repository, "commit", "-q", "-a", "-m", "newer sub")
        error = refused(repository, lambda: finish.rebase(attempt, admin))
        assert f"git checkout {newer}" in error.message
        plain(place / "sub", "fetch", "-q", str(with_submodule))
        plain(place / "sub", "checkout", "-q", newer)
        finish.rebase(attempt, admin)
        assert plain(place, "status", "--porcelain") == ""
        plain(repository, "rm", "-q", "sub")
        plain(repository, "commit", "-q", "-m", "no sub")
        assert "delete" in refused(repository, lambda: finish.rebase(attempt, admin)).message
        shutil.rmtree(place / "sub")
        finish.rebase(attempt, admin)
        assert plain(place, "status", "--porcelain") == ""

    def test_submodule_that_is_not_checked_out_moves_though_git_is_to_recurse(
        self, task: Task, repository: Path, with_submodule: Path, admin: User
    ) -> None:
        plain(repository, "config", "submodule.recurse", "true")
        attempt = start(task)
        commit(folder(attempt), "a", "1")
        commit(with_submodule, "newer", "1")
        plain(repository, "commit", "-q", "-a", "-m", "newer sub")
        finish.rebase(attempt, admin)
        assert plain(folder(attempt), "status", "--porcelain") == ""

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
        assert list(git.branches(repository)) == ["main"]

    def test_keeps_what_is_in_the_index_alone(
        self, attempt: TaskAttempt, repository: Path, admin: User
    ) -> None:
        (folder(attempt) / "precious").write_text("staged")
        plain(folder(attempt), "add", "precious")
        (folder(attempt) / "precious").unlink()
        ref = finish.discard(attempt, admin).kept_ref
        assert plain(repository, "show", f"{ref}^2:precious") == "staged"

    def test_work_on_another_branch_and_detached(
        self, attempt: TaskAttempt, repository: Path, admin: User
    ) -> None:
        tip = commit(folder(attempt), "on-branch", "1")
        plain(folder(attempt), "checkout", "-q", "--detach", "main")
        loose = commit(folder(attempt), "loose", "1")
        ref = finish.discard(attempt, admin).kept_ref
        assert git.is_ancestor(repository, tip, ref)
        assert git.is_ancestor(repository, loose, ref)

    def test_branch_deleted_behind_our_back(
        self, attempt: TaskAttempt, repository: Path, admin: User
    ) -> None:
        commit(folder(attempt), "committed", "1")
        (folder(attempt) / "untracked").write_text("2")
        plain(repository, "update-ref", "-d", f"refs/heads/{attempt.branch}")
        ref = finish.discard(attempt, admin).kept_ref
        assert plain(repository, "show", f"{ref}:committed", f"{ref}:untracked") == "12"
        assert git.is_ancestor(repository, attempt.base_commit, ref)

    def test_nothing_done_leaves_nothing(self, attempt: TaskAttempt, repository: Path, admin: User) -> None:
        assert finish.discard(attempt, admin).kept_ref == ""
        assert plain(repository, "for-each-ref", "--format=%(refname)") == "refs/heads/main\n"

    def test_attempt_that_could_not_begin(self, task: Task, repository: Path, admin: User) -> None:
        attempt = TaskAttempt.objects.create(
            task=task, executor="script", branch="taken", target_branch="main"
        )
        plain(repository, "branch", "taken")
        for act in (finish.rebase, lambda *who: finish.merge(who[0], "merge", who[1])):
            with pytest.raises(Refused, match="has not begun"):
                act(attempt, admin)
        ended = finish.discard(attempt, admin)
        assert (ended.outcome, diffs.of_attempt(ended)) == ("discarded", [])
        assert list(git.branches(repository)) == ["main", "taken"]

    def test_worktree_deleted_by_hand(self, attempt: TaskAttempt, repository: Path, admin: User) -> None:
        commit(folder(attempt), "a", "1")
        worktrees.delete_folder(folder(attempt))
        assert finish.discard(attempt, admin).kept_ref
        assert len(git.checkouts(repository)) == 1

    @pytest.mark.parametrize("replaced", [False, True])
    def test_worktree_without_its_git_is_moved_away_whole(
        self, attempt: TaskAttempt, repository: Path, admin: User, replaced: bool
    ) -> None:
        place = folder(attempt)
        (place / "untracked").write_text("precious")
        (place / ".git").unlink()
        if replaced:
            plain(place, "init", "-q")
        assert "moved to VIBE_DATA/kept" in finish.status(attempt)["problem"]
        finish.discard(attempt, admin)
        kept = Path(django_settings.VIBE_DATA) / "kept" / str(attempt.pk) / "worktree"
        assert (kept / "untracked").read_text() == "precious"
        assert (place.exists(), len(git.checkouts(repository))) == (False, 1)

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

    def test_work_inside_a_submodule_is_kept_and_its_place_said(
        self, attempt: TaskAttempt, repository: Path, admin: User, tmp_path: Path
    ) -> None:
        place, inner = folder(attempt), make_repository(tmp_path / "inner")
        for name in ("pure", "work", "ahead"):
            plain(place, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(inner), name)
        plain(place, "commit", "-q", "-m", "submodules")
        commit(place / "ahead", "committed", "1")
        plain(place / "ahead", "checkout", "-q", "HEAD~1")
        commit(place / "work", "committed", "1")
        (place / "work/loose").write_text("2")
        ref = finish.discard(attempt, admin).kept_ref
        kept = Path(django_settings.VIBE_DATA) / "kept" / str(attempt.pk)
        assert f"{kept}:\nahead\nwork\n" in plain(repository, "show", "-s", "--format=%B", ref)
        assert sorted(path.name for path in kept.iterdir()) == ["ahead", "work"]
        assert plain(kept / "ahead", "show", "main:committed") == "1"
        assert plain(kept / "work", "show", "HEAD:committed") == "1"
        assert plain(kept / "work", "status", "--porcelain") == "?? loose\n"

    @pytest.mark.parametrize("cut_off_before", ["unlink", "rename"])
    @pytest.mark.parametrize("another_disk", [False, True])
    def test_work_inside_a_submodule_outlives_a_kill(
        self,
        attempt: TaskAttempt,
        admin: User,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        cut_off_before: str,
        another_disk: bool,
    ) -> None:
        place, inner = folder(attempt), make_repository(tmp_path / "inner")
        plain(place, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(inner), "sub")
        plain(place, "commit", "-q", "-m", "sub")
        commit(place / "sub", "committed", "1")
        rename, unlink = Path.rename, Path.unlink

        def renamed(path: Path, goal: Path) -> Path:
            if another_disk and path.parent.name == "modules":
                raise OSError(errno.EXDEV, "another disk")
            if path.name == snapshots.WHOLE:
                raise SystemExit
            return rename(path, goal)

        def unlinked(path: Path, missing_ok: bool = False) -> None:
            if path.name == ".git" and cut_off_before == "unlink":
                raise SystemExit
            unlink(path, missing_ok)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", renamed)
            patch.setattr(Path, "unlink", unlinked)
            with pytest.raises(SystemExit):
                finish.discard(attempt, admin)
        finish.recover()
        kept = Path(django_settings.VIBE_DATA) / "kept" / str(attempt.pk)
        assert plain(kept / "sub", "show", "HEAD:committed") == "1"
        assert plain(kept / "sub", "status", "--porcelain") == ""


class TestJournal:
    def test_one_operation_at_a_time_until_its_last_git_has_ended(
        self, repository: Path, tmp_path: Path
    ) -> None:
        link = tmp_path / "link"
        link.symlink_to(repository)
        operation = journal.Operation("some attempt", str(link), "reason", ())
        journal.write(operation)
        assert not journal.under_way("some attempt")
        with journal.only_one(repository):
            assert journal.under_way("some attempt")
            stay = "alias.stay=!sleep 60 >/dev/null 2>&1 & echo $!"
            pid = int(git.run("-c", stay, "stay", cwd=repository).text)
        assert journal.under_way("some attempt")
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not journal.under_way("some attempt"), "the end of the lock")
        journal.erase("some attempt")

    def test_names_that_are_not_utf8(self) -> None:
        operation = journal.Operation("some attempt", "/repository", "reason", (), remove="/\udcff")
        journal.write(operation)
        assert journal.read("some attempt") == operation
        journal.erase("some attempt")


@pytest.mark.parametrize(
    ("end", "whose"), [("merge", "target"), ("merge", "own"), ("rebase", "own"), ("discard", "own")]
)
def test_commit_that_comes_after_the_plan_was_made_is_not_lost(
    end: str,
    whose: str,
    attempt: TaskAttempt,
    repository: Path,
    admin: User,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    commit(folder(attempt), "a", "1")
    commit(repository, "b", "1")
    plain(repository, "checkout", "-q", "--detach")
    branch = attempt.branch if whose == "own" else "main"
    late: list[str] = []
    move = operations.move_references

    def move_too_late(operation: journal.Operation) -> None:
        if not late:
            late.append(
                plain(repository, "commit-tree", "-p", branch, "-m", "late", f"{branch}^{{tree}}").strip()
            )
            plain(repository, "update-ref", f"refs/heads/{branch}", late[0])
        move(operation)

    monkeypatch.setattr(operations, "move_references", move_too_late)
    acts = {
        "merge": lambda: finish.merge(attempt, "merge", admin).merge_commit,
        "rebase": lambda: finish.rebase(attempt, admin).branch,
        "discard": lambda: finish.discard(attempt, admin).kept_ref,
    }
    made = acts[end]()
    assert "late" in plain(repository, "log", "--format=%s", made, "main").split("\n")


def test_no_program_of_the_repositorys_configuration_runs_but_filters_and_merge_drivers(
    attempt: TaskAttempt, repository: Path, admin: User, tmp_path: Path
) -> None:
    place, ran = folder(attempt), tmp_path / "ran"
    program = tmp_path / "program"
    program.write_text(f'#!/bin/sh\necho "$1" >>{ran}\ncat\n')
    program.chmod(0o755)
    for repo in (repository, make_repository(place / "inner")):
        for name in (
            "core.fsmonitor", "core.pager", "core.editor", "core.sshCommand", "core.askPass", "gpg.program",
            "diff.external", "diff.x.command", "diff.x.textconv", "merge.x.driver", "filter.x.clean",
            "filter.x.smudge", "pager.diff", "pager.status", "credential.helper", "sequence.editor",
        ):  # fmt: skip
            plain(repo, "config", name, f"{program} {name}")
        hooks = Path(plain(repo, "rev-parse", "--path-format=absolute", "--git-path", "hooks").strip())
        for name in ("pre-commit", "post-index-change", "post-checkout", "reference-transaction"):
            hooks.joinpath(name).write_text(f"#!/bin/sh\necho hook {name} >>{ran}\n")
            hooks.joinpath(name).chmod(0o755)
    for name in ("commit.gpgSign", "log.showSignature"):
        plain(repository, "config", name, "true")
    (repository / ".git/info").mkdir(exist_ok=True)
    (repository / ".git/info/attributes").write_text("* filter=x diff=x merge=x\n")
    plain(place, "add", "inner")
    (place / "README.md").write_text("ours\n")
    (place / "inner/new").write_text("new\n")
    commit(repository, "README.md", "theirs\n")
    ran.unlink()
    assert len(diffs.of_attempt(attempt)) == 2
    assert finish.status(attempt)["behind"] == 1
    finish.rebase(attempt, admin)
    finish.merge(attempt, "merge", admin)
    assert set(ran.read_text().split()) == {"filter.x.clean", "filter.x.smudge", "merge.x.driver"}
