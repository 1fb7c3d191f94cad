"""A changes log that is open, and records to change."""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from events.changes import ChangesLog
from tasks.models import Project, Task


@pytest.fixture
def project(transactional_db: None) -> Project:
    return Project.objects.create(name="one", repo_path="/one", target_branch="main")


@pytest.fixture
def other_project(transactional_db: None) -> Project:
    return Project.objects.create(name="two", repo_path="/two", target_branch="main")


@pytest.fixture
def task(project: Project) -> Iterator[Task]:
    return Task.objects.create(project=project, title="first")


@pytest_asyncio.fixture
async def log(transactional_db: None) -> AsyncIterator[ChangesLog]:
    opened = ChangesLog()
    await opened.opened()
    yield opened
    await opened.closed()
