"""A changes log that is open, and records to change."""

import json
from collections.abc import AsyncIterator, Iterator

import jsonpatch
import pytest
import pytest_asyncio

from events.access import ALL
from events.changes import ChangesLog
from events.frames import ROW, Change
from events.models import ChangeLog, DatabaseChange
from tasks.models import Project, Task
from tests.events.captured import Written
from tests.events.clients import fresh_read


@pytest.fixture
def project(transactional_db: None) -> Project:
    return Project.objects.create(name="one", repo_path="/one", target_branch="main")


@pytest.fixture
def other_project(transactional_db: None) -> Project:
    return Project.objects.create(name="two", repo_path="/two", target_branch="main")


@pytest.fixture
def task(project: Project) -> Iterator[Task]:
    return Task.objects.create(project=project, title="first")


@pytest.fixture
def written(project: Project, other_project: Project) -> Iterator[Written]:
    """The rows since the test began. Each call, and its end, compares the three documents with the database."""
    scopes = [ALL, frozenset({project.pk}), frozenset({other_project.pk})]
    documents = {scope: fresh_read(scope) for scope in scopes}
    start, epoch = DatabaseChange.objects.latest("id").pk, ChangeLog.current().epoch
    applied = 0

    def read() -> list[DatabaseChange]:
        nonlocal applied
        rows = DatabaseChange.objects.filter(id__gt=start).order_by("id")
        values = list(rows.values_list(*ROW))
        for scope in scopes:
            for row in values[applied:]:
                data = Change("epoch", row).data(scope)
                if data:
                    documents[scope] = jsonpatch.apply_patch(documents[scope], [json.loads(data)])
            assert documents[scope] == fresh_read(scope)
        applied = len(values)
        return list(rows)

    yield read
    if ChangeLog.current().epoch == epoch:  # Else everybody starts over.
        read()


@pytest_asyncio.fixture
async def log(transactional_db: None) -> AsyncIterator[ChangesLog]:
    opened = ChangesLog()
    await opened.opened()
    yield opened
    await opened.closed()
