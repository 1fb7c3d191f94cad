from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.test import Client

from tasks.models import Project, Task, TaskAttempt
from tasks.tokens import issue_token
from tests.repositories import git, make_repository
from tests.tasks.attempts import start


@pytest.fixture
def admin(db: None) -> User:
    return User.objects.create_superuser("admin")


@pytest.fixture
def member(db: None) -> User:
    """Somebody without any permission; a member of no project yet."""
    return User.objects.create_user("member")


@pytest.fixture
def project(admin: User, repository: Path) -> Project:
    project = Project.objects.create(name="Test", repo_path=str(repository), target_branch="main")
    project.members.add(admin)
    return project


@pytest.fixture
def task(project: Project) -> Task:
    return Task.objects.create(project=project, title="A task", position=1024)


def bearer_client(user: User) -> Client:
    return Client(headers={"Authorization": f"Bearer {issue_token(user)}"})


@pytest.fixture
def as_admin(admin: User) -> Client:
    return bearer_client(admin)


@pytest.fixture
def as_member(member: User) -> Client:
    return bearer_client(member)


@pytest.fixture
def attempt(task: Task) -> TaskAttempt:
    return start(task)


@pytest.fixture
def with_submodule(repository: Path, tmp_path: Path) -> Path:
    """The submodule in the working copy."""
    inner = make_repository(tmp_path / "inner")
    git(repository, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(inner), "sub")
    git(repository, "commit", "-q", "-m", "sub")
    return repository / "sub"
