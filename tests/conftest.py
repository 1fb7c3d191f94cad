"""Shared fixtures. Nothing here is a mock: real git, real processes, a real database."""

import gc
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from django.apps import apps
from django.db import connection, connections
from django.db.models.signals import post_migrate
from django.test import TransactionTestCase
from hypothesis import HealthCheck, settings

from tests.live import LiveServer, migrated
from tests.repositories import make_repository
from tests.scale import scaled

TESTS = Path(__file__).parent

# A loaded machine is slow, and that says nothing about the code.
settings.register_profile(
    "any machine",
    deadline=None,
    max_examples=scaled(500, 25),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("any machine")


# Of several processes half begin with the first module and half with the last (tests/workers.py). The browser's come
# first, so that only half start one; those that wait much come last, and run beside the browser, which computes. The
# long ones are at both ends: where they meet nobody waits long for another.
FIRST = (
    "browser/task_page/test_task.py",
    "browser/test_pages.py",
    "browser/board/test_board.py",
    "browser/task_page/test_output.py",
    "browser/test_tabs.py",
    "browser/task_page/test_changes.py",
    "browser/test_line.py",
    "browser/board/test_dialogs.py",
    "browser/test_notifications.py",
    "browser/test_doctor_page.py",
    "browser/modules/test_log.py",
    "browser/modules/test_diff.py",
    "browser/modules/test_pages.py",
    "browser/test_patch_document.py",
    "tasks/test_merge.py",
    "tasks/test_finish.py",
    "tasks/test_api_schema.py",
    "faults/test_killed_operations.py",
    "tasks/diffs/test_tracker.py",
    "tasks/test_mcp.py",
    "faults/test_server_killed.py",
    "events/test_changes.py",
)
LAST = (
    "faults/test_no_watches.py",
    "servers/test_project.py",
    "servers/test_changes_live.py",
    "tasks/runner/test_follow_ups.py",
    "faults/test_processes_killed.py",
    "tasks/diffs/test_life.py",
    "test_whole_path.py",
    "servers/test_bundles.py",
    "postgres/test_on_postgres.py",
    "tasks/runner/test_coming_back.py",
    "tasks/test_vibe_command.py",
    "faults/test_disk.py",
    "tasks/diffs/test_stream.py",
    "tasks/test_webhooks.py",
    "tasks/test_supervisor.py",
    "faults/test_hanging_git.py",
    "servers/test_slow_clients.py",
    "tasks/runner/test_runs.py",
    "servers/test_proxies.py",
)


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Iterator[None]:
    """Collecting keeps one core busy, for seconds; the other makes what most modules begin with."""
    making = Thread(target=migrated)
    if session.config.option.workers > 1:
        making.start()
    result = yield
    if making.ident:
        making.join()
    return result


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {str(TESTS / name): number for number, name in enumerate(FIRST, -len(FIRST))}
    place |= {str(TESTS / name): number for number, name in enumerate(LAST, 1)}
    items.sort(key=lambda item: place.get(str(item.path), 0))


def pytest_collection_finish() -> None:
    """A million objects that stay need not be looked through whenever garbage is collected, and that not so often."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    gc.enable()


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> None:
    """After each flush Django looks for the content type and the permissions of every model, in hundreds of queries.

    They are always the same: put back are those that there were.
    """
    from django.contrib.contenttypes.management import create_contenttypes

    tables = "django_content_type", "auth_permission"
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        for table in tables:
            cursor.execute(f"CREATE TABLE kept_{table} AS SELECT * FROM {table}")

    def put_back(using: str, **_: Any) -> None:
        with connections[using].cursor() as cursor:
            for table in tables:
                cursor.execute(
                    f"INSERT INTO {table} SELECT * FROM kept_{table} WHERE true ON CONFLICT DO NOTHING"
                )

    if connection.vendor == "postgresql":
        # Its TRUNCATE makes the files of all tables anew, which takes longer than most tests.
        connection.ops.sql_flush = lambda style, tables, **how: [f'DELETE FROM "{table}"' for table in tables]
    post_migrate.disconnect(create_contenttypes)
    post_migrate.disconnect(dispatch_uid="django.contrib.auth.management.create_permissions")
    post_migrate.connect(put_back, sender=apps.get_app_config("auth"), weak=False)
    # No test spoils its connection, and a new one for each costs PostgreSQL as much as a short test.
    TransactionTestCase._should_reload_connections = lambda self: False


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "repository")


@pytest.fixture(scope="module")
def live_server_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """One `manage.py serve` for all tests of a module."""
    with LiveServer(tmp_path_factory.mktemp("live")) as server:
        yield server
