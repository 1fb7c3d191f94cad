"""Shared fixtures. Nothing here is a mock: real git, real processes, a real database."""

import os
import tempfile

# Before Django reads its settings: the suite never touches the data of the person who runs it. Once a process, for
# pytest may load this file again, and what the tests start must find the data that their settings name.
if os.environ.get("VIBE_TESTS_PROCESS") != str(os.getpid()):
    os.environ["VIBE_TESTS_PROCESS"] = str(os.getpid())
    os.environ["VIBE_DATA"] = tempfile.mkdtemp(prefix="vibe-tests-")
os.environ["VIBE_REPO_ROOTS"] = tempfile.gettempdir()
os.environ["DJANGO_SETTINGS_MODULE"] = "vibe.settings"

import django  # noqa: E402

# Not left to the ini option of pytest-django, which reads the settings before this file has run.
django.setup()

from collections.abc import Iterator  # noqa: E402
from pathlib import Path  # noqa: E402

import pytest  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

from tests.live import LiveServer  # noqa: E402
from tests.repositories import make_repository  # noqa: E402

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
