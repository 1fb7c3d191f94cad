"""The demo agent on the demo repository: a real program that changes real files."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User

from tasks import demo, executors, projects
from tasks.demo import make_demo_project
from tasks.git import GitError
from tasks.models import Project
from tests.repositories import git


@pytest.fixture
def project(admin: User, settings: Any, tmp_path: Path) -> Project:
    settings.VIBE_DATA = tmp_path
    return make_demo_project(admin)


def work(folder: Path, prompt: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        executors.BUILTIN["demo"].argv,
        input=prompt.encode(),
        cwd=folder,
        env=executors.environment() | {"VIBE_DEMO_SECONDS": "0.2"},
        capture_output=True,
        timeout=60,
    )


def test_the_demo_project_is_a_small_real_repository_with_tasks(project: Project, admin: User) -> None:
    repository = Path(project.repo_path)
    assert git(repository, "status", "--porcelain") == ""
    assert {Path(name).suffix for name in git(repository, "ls-files").split()} >= {
        ".py",
        ".js",
        ".html",
        ".css",
    }
    assert project.tasks.count() >= 3
    assert list(project.members.all()) == [admin]
    assert make_demo_project(admin) == project, "made once"
    run = subprocess.run(
        [sys.executable, "src/count.py", "README.md"], cwd=repository, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr


def test_the_repository_is_there_whole_or_not_at_all(
    admin: User, settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.VIBE_DATA = tmp_path
    with monkeypatch.context() as patched, pytest.raises(GitError):
        patched.setattr(demo, "_FILES", Path(shutil.copytree(demo._FILES, tmp_path / "files")))
        (tmp_path / "files/.git").write_text("gitdir: /nowhere")
        make_demo_project(admin)
    assert git(Path(make_demo_project(admin).repo_path), "log", "--format=%s").split() == ["Start"]


def test_the_project_goes_also_where_its_repository_is_gone(project: Project) -> None:
    shutil.rmtree(demo.repository().parent)
    projects.delete(project, task__project=project)
    assert not Project.objects.exists()


def test_the_demo_agent_edits_creates_renames_deletes_and_commits(project: Project) -> None:
    repository = Path(project.repo_path)
    base = git(repository, "rev-parse", "HEAD").strip()
    done = work(repository, "Greet people\nby name")
    assert done.returncode == 0, done.stderr
    changed = git(repository, "diff", "--name-status", "-M", base, "HEAD").splitlines()
    kinds = {line.split("\t")[-1]: line[0] for line in changed}
    assert kinds == {
        "README.md": "M",
        "src/count.py": "M",
        "src/greeter.py": "A",
        "src/legacy.js": "D",
        "src/text.py": "R",
        "tests/test_greeter.py": "A",
    }
    assert git(repository, "rev-list", "--count", f"{base}..HEAD").strip() == "2"
    assert git(repository, "status", "--porcelain").strip() == "?? docs/agent-notes.md"
    for part in (b"\x1b[", b"\r", "█".encode(), b"Greet people"):
        assert part in done.stdout
    assert b"warning" in done.stderr


def test_a_follow_up_of_the_demo_agent_goes_on_from_there(project: Project) -> None:
    repository = Path(project.repo_path)
    for prompt in ("First", "Second"):
        done = work(repository, prompt)
        assert done.returncode == 0, done.stderr
    assert (repository / "src" / "greeter2.py").exists()
    assert "## Round 2" in (repository / "docs" / "agent-notes.md").read_text()
