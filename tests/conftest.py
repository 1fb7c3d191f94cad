"""Shared fixtures. Nothing here is a mock: real git, real processes, a real database."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.live import LiveServer
from tests.repositories import make_repository

# A loaded machine is slow, and that says nothing about the code.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "repository")


@pytest.fixture(scope="module")
def live_server_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """One `manage.py serve` for all tests of a module."""
    with LiveServer(tmp_path_factory.mktemp("live")) as server:
        yield server
