"""Git's edge: which repositories can be used, and what a person is told about those that cannot."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks import git
from tasks.errors import Refused
from tests.repositories import git as plain
from tests.repositories import make_repository

ROOTS = [Path(tempfile.gettempdir())]


def refusal(path: Path | str) -> str:
    with pytest.raises(Refused) as caught:
        git.check_repository(str(path), ROOTS)
    assert caught.value.status == 422
    return caught.value.message


class TestCheckRepository:
    def test_knows_branches_and_the_one_checked_out(self, repository: Path) -> None:
        plain(repository, "branch", "other")
        plain(repository, "checkout", "-q", "-b", "topic")
        info = git.check_repository(str(repository), ROOTS)
        assert (info.path, info.default_branch, info.branches) == (
            repository,
            "topic",
            ["main", "other", "topic"],
        )

    def test_resolves_symlinks_before_it_looks_where_the_repository_lies(
        self, repository: Path, tmp_path: Path
    ) -> None:
        link = tmp_path / "link"
        link.symlink_to(repository)
        assert git.check_repository(str(link), ROOTS).path == repository
        assert git.check_repository(str(repository), [link]).path == repository
        (tmp_path / "out").symlink_to("/etc")
        assert "outside" in refusal(tmp_path / "out")

    @pytest.mark.parametrize("path", ["", "relative/path", "~/x", "-C", "/tmp/a\0b"])
    def test_wants_an_absolute_path(self, path: str) -> None:
        assert "absolute" in refusal(path)

    def test_outside_of_the_roots(self) -> None:
        assert "VIBE_REPO_ROOTS" in refusal("/etc")

    @pytest.mark.parametrize("name", ["nowhere", "loop", "a" * 300])
    def test_no_such_folder(self, name: str, tmp_path: Path) -> None:
        (tmp_path / "loop").symlink_to("loop")
        assert "no folder" in refusal(tmp_path / name)

    def test_no_repository(self, tmp_path: Path) -> None:
        assert "git init" in refusal(tmp_path)

    def test_inside_a_repository(self, repository: Path) -> None:
        assert f"top folder: {repository}" in refusal(repository / "src")

    def test_bare_repository(self, tmp_path: Path) -> None:
        plain(tmp_path, "init", "-q", "--bare", "bare")
        assert "bare" in refusal(tmp_path / "bare")

    def test_no_commit(self, tmp_path: Path) -> None:
        plain(tmp_path, "init", "-q", "empty")
        assert "--allow-empty" in refusal(tmp_path / "empty")

    def test_safe_directory_refusal(self, repository: Path) -> None:
        if os.getuid() != 0:
            pytest.skip("only root can give a folder away")
        for folder in (repository, repository / ".git"):
            os.chown(folder, 12345, 12345)
        assert f"safe.directory {repository}" in refusal(repository)

    def test_detached_head_falls_back_to_a_branch(self, repository: Path) -> None:
        plain(repository, "branch", "zebra")
        plain(repository, "checkout", "-q", "--detach")
        assert git.check_repository(str(repository), ROOTS).default_branch == "main"

    def test_shallow_clone_can_be_used(self, repository: Path, tmp_path: Path) -> None:
        plain(repository, "commit", "-q", "--allow-empty", "-m", "second")
        plain(tmp_path, "clone", "-q", "--depth", "1", f"file://{repository}", "shallow")
        assert git.check_repository(str(tmp_path / "shallow"), ROOTS).branches == ["main"]

    def test_worktree_of_a_repository_can_be_used(self, repository: Path, tmp_path: Path) -> None:
        plain(repository, "worktree", "add", "-q", "-b", "side", str(tmp_path / "side"))
        assert git.check_repository(str(tmp_path / "side"), ROOTS).default_branch == "side"

    def test_branch_that_looks_like_an_option(self, repository: Path) -> None:
        plain(repository, "update-ref", "refs/heads/--upload-pack=x", "HEAD")
        assert "--upload-pack=x" in git.check_repository(str(repository), ROOTS).branches
        assert git.branch_commit(repository, "--upload-pack=x") == git.branch_commit(repository, "main")


class TestRun:
    def test_error_shows_command_code_and_both_outputs(self, repository: Path) -> None:
        with pytest.raises(git.GitError) as caught:
            git.run("cat-file", "-p", "nonsense", cwd=repository)
        said = str(caught.value)
        assert "git cat-file -p nonsense ended with 128" in said
        assert "stdout: \nstderr: fatal: Not a valid object name nonsense" in said

    def test_scrubs_git_variables(self, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GIT_DIR", "/nonexistent")
        monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
        assert git.head_branch(repository) == "main"

    def test_folder_that_is_gone(self, tmp_path: Path) -> None:
        with pytest.raises(git.GitError, match="No such file"):
            git.run("status", cwd=tmp_path / "gone")

    def test_stops_what_takes_too_long(self, repository: Path) -> None:
        with pytest.raises(git.TookTooLong, match="longer than"), git.at_most(0.2):
            git.run("-c", "alias.nap=!sleep 60", "nap", cwd=repository)

    def test_stops_what_takes_too_long_though_its_program_has_left_its_session(
        self, repository: Path
    ) -> None:
        with pytest.raises(git.TookTooLong), git.at_most(0.2):
            git.run("-c", "alias.nap=!setsid sleep 5; sleep 60", "nap", cwd=repository)


def test_no_filter_is_told_the_secrets_of_the_server(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SECRET_KEY", "DATABASE_URL", "VIBE_TOKEN", "OF_A_FILTER"):
        monkeypatch.setenv(name, "x")
    told = tmp_path / "told"
    plain(repository, "config", "filter.tell.clean", f"env > '{told}'; cat")
    (repository / ".gitattributes").write_text("new filter=tell\n")
    (repository / "new").write_text("x\n")
    git.run("add", "--all", cwd=repository)
    names = {line.partition("=")[0] for line in told.read_text().splitlines()}
    assert "OF_A_FILTER" in names
    assert names.isdisjoint({"SECRET_KEY", "DATABASE_URL", "VIBE_TOKEN"})


def test_checkouts_names_the_real_branch_of_each_worktree(repository: Path, tmp_path: Path) -> None:
    plain(repository, "worktree", "add", "-q", "-b", "side", str(tmp_path / "si de"))
    plain(repository, "worktree", "add", "-q", "--detach", str(tmp_path / "loose"))
    plain(repository, "worktree", "add", "-q", "--detach", str(tmp_path / "linked"))
    plain(repository, "symbolic-ref", "refs/heads/alias", "refs/heads/main")
    plain(repository, "symbolic-ref", "refs/heads/another", "refs/heads/alias")
    plain(tmp_path / "linked", "symbolic-ref", "HEAD", "refs/heads/another")
    assert git.checkouts(repository) == {
        repository: "refs/heads/main",
        tmp_path / "si de": "refs/heads/side",
        tmp_path / "loose": None,
        tmp_path / "linked": "refs/heads/main",
    }


class TestObjectsOf:
    def test_answers_in_the_order_of_the_names(self, repository: Path) -> None:
        plain(repository, "branch", "other")
        second = plain(repository, "commit-tree", "-m", "second", "-p", "HEAD", "HEAD^{tree}").strip()
        plain(repository, "update-ref", "refs/heads/main", second)
        plain(repository, "tag", "-a", "-m", "", "annotated", "other")
        first, tree = plain(repository, "rev-parse", "other", "HEAD^{tree}").split()
        names = ["refs/heads/main", "refs/heads/gone", "refs/tags/annotated", "HEAD", f"{second}^"]
        assert git.commits_of(repository, *names) == [second, None, first, second, first]
        assert git.objects_of(repository, "HEAD^{tree}", "gone^{tree}", tree) == [tree, None, tree]
        assert git.branch_commits(repository, "other", "main") == [first, second]

    @pytest.mark.parametrize(
        "name",
        [
            "", "HEAD missing", "main\nrefs/heads/main", "HEAD\0", "--all", "refs/heads/broken", "refs/tags/tree",
            "abcd" * 10, "\udcff",
        ],
    )  # fmt: skip
    def test_what_is_no_commit_moves_no_other_answer(self, repository: Path, name: str) -> None:
        repository.joinpath(".git/refs/heads/broken").write_text("1234" * 10 + "\n")
        plain(repository, "tag", "tree", "HEAD^{tree}")
        main = git.branch_commit(repository, "main")
        assert main is not None
        assert git.commits_of(repository, "HEAD", name, "HEAD") == [main, None, main]
        assert git.commit_of(repository, name) is None

    def test_trees_of_commits(self, repository: Path) -> None:
        tree = plain(repository, "rev-parse", "HEAD^{tree}").strip()
        empty = plain(repository, "commit-tree", "-m", "", git.EMPTY_TREE).strip()
        first = git.branch_commit(repository, "main") or ""
        assert git.trees_of(repository, empty, first) == [git.EMPTY_TREE, tree]
        with pytest.raises(git.GitError, match="Needed a single revision"):
            git.trees_of(repository, first, "1234" * 10)

    def test_a_branch_without_a_commit(self, tmp_path: Path) -> None:
        plain(tmp_path, "init", "-q", "empty")
        assert git.objects_of(tmp_path / "empty", "HEAD^{commit}", "HEAD^{tree}") == [None, None]

    def test_no_repository(self, tmp_path: Path) -> None:
        assert git.commits_of(tmp_path, "HEAD", "refs/heads/main") == [None, None]


@pytest.mark.parametrize("name", ["sha1", "sha256"])
def test_empty_blob_is_what_git_makes_of_nothing(name: str, tmp_path: Path) -> None:
    plain(tmp_path, "init", "-q", "--object-format", name, "repo")
    plain(tmp_path / "repo", "commit", "-q", "--allow-empty", "--allow-empty-message", "-m", "")
    head = git.commit_of(tmp_path / "repo", "HEAD") or ""
    made = plain(tmp_path / "repo", "hash-object", "-t", "blob", os.devnull)
    assert git.empty_blob(head) == made.strip()


def usual(repository: Path, place: Path) -> Path:
    return repository


def linked(repository: Path, place: Path) -> Path:
    worktree = place / "a wörk\ntree"
    plain(repository, "worktree", "add", "-q", "-b", "side", str(worktree))
    return worktree


def linked_by_a_relative_path(repository: Path, place: Path) -> Path:
    worktree = linked(repository, place)
    told = worktree / ".git"
    folder = told.read_text().removeprefix("gitdir: ").strip()
    told.write_text(f"gitdir: {os.path.relpath(folder, worktree)}\n")
    return worktree


def submodule(repository: Path, place: Path) -> Path:
    inner = make_repository(place / "inner")
    plain(repository, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(inner), "deep/sub")
    return repository / "deep/sub"


def submodule_of_a_linked_one(repository: Path, place: Path) -> Path:
    submodule(repository, place)
    plain(repository, "commit", "-q", "-m", "submodule")
    worktree = linked(repository, place)
    plain(worktree, "-c", "protocol.file.allow=always", "submodule", "update", "-q", "--init")
    return worktree / "deep/sub"


def linked_from_a_submodule(repository: Path, place: Path) -> Path:
    return linked(submodule(repository, place), place)


def separate(repository: Path, place: Path) -> Path:
    plain(repository, "init", "-q", "--separate-git-dir", str(place / "else where "))
    return repository


def folder_behind_a_link(repository: Path, place: Path) -> Path:
    repository.joinpath(".git").rename(place / "moved")
    repository.joinpath(".git").symlink_to(place / "moved")
    return repository


def file_behind_a_link(repository: Path, place: Path) -> Path:
    worktree = linked_by_a_relative_path(repository, place)
    (place / "far/away").mkdir(parents=True)
    (worktree / ".git").rename(place / "far/away/file")
    (worktree / ".git").symlink_to(place / "far/away/file")
    return worktree


def reached_by_a_link(repository: Path, place: Path) -> Path:
    (place / "link").symlink_to(linked_by_a_relative_path(repository, place))
    return place / "link"


def below_a_link(repository: Path, place: Path) -> Path:
    """Git writes real paths into its files, but others may write such."""
    worktree = linked(repository, place)
    (place / "link").symlink_to(repository)
    told = worktree / ".git"
    told.write_text(told.read_text().replace(str(repository), str(place / "link")))
    return worktree


def folder_of_a_repository(repository: Path, place: Path) -> Path:
    return repository / "src"


def no_git_of_its_own(repository: Path, place: Path) -> Path:
    repository.joinpath("src/.git").mkdir()
    return repository / "src"


class TestGitFolder:
    @pytest.mark.parametrize(
        "make",
        [
            usual, linked, linked_by_a_relative_path, submodule, submodule_of_a_linked_one,
            linked_from_a_submodule, separate, folder_behind_a_link, file_behind_a_link, reached_by_a_link,
            below_a_link,
        ],
    )  # fmt: skip
    def test_is_what_git_says_without_asking_it(
        self,
        make: Callable[[Path, Path], Path],
        repository: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        worktree = make(repository, tmp_path)
        places = [said(worktree, "--git-dir"), said(worktree, "--git-common-dir")]
        own = ["index", "index.lock", "HEAD", "HEAD.lock", "ORIG_HEAD.lock", "MERGE_HEAD", "rebase-merge"]
        own += ["rebase-apply/head-name", "BISECT_START", "modules"]
        paths = [said(worktree, "--git-path", name) for name in own]
        monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
        assert [git.git_folder(worktree), git.common_folder(worktree)] == places
        assert [git.git_folder(worktree) / name for name in own] == paths

    @pytest.mark.parametrize("make", [folder_of_a_repository, no_git_of_its_own])
    def test_of_another_place_is_what_git_says(
        self, make: Callable[[Path, Path], Path], repository: Path, tmp_path: Path
    ) -> None:
        folder = make(repository, tmp_path)
        assert git.git_folder(folder) == said(folder, "--git-dir")
        assert git.common_folder(folder).resolve() == said(folder, "--git-common-dir").resolve()

    @pytest.mark.parametrize(
        "content",
        ["", "gitdir: ", "gitdir: .\n", "gitdir: nowhere", "gitdir: a\0b", "{git}", "gitdir:{git}", "gitdir: \udcff\n"],
    )  # fmt: skip
    def test_file_that_names_none_is_refused_as_git_does(
        self, content: str, repository: Path, tmp_path: Path
    ) -> None:
        folder = tmp_path / "folder"
        folder.mkdir()
        told = content.replace("{git}", str(repository / ".git"))
        folder.joinpath(".git").write_bytes(os.fsencode(told))
        with pytest.raises(git.GitError) as plainly:
            git.run("rev-parse", "--git-dir", cwd=folder)
        for ask in (git.git_folder, git.common_folder):
            with pytest.raises(git.GitError) as caught:
                ask(folder)
            assert caught.value.reason == plainly.value.reason


def said(worktree: Path, *question: str) -> Path:
    return Path(worktree, plain(worktree, "rev-parse", *question).removesuffix("\n"))
