"""Capture, the changes stream and its convergence on PostgreSQL: the same tests, and those that need it."""

import os
import subprocess
import sys

from tests.needs import needs_postgres
from tests.postgres.cluster import cluster
from tests.scale import SOAK

QUICK = ["tests/postgres/checks.py", "tests/events/test_capture.py"]
FULL = [
    *QUICK,
    "tests/events/test_capture_around.py",
    "tests/events/test_changes.py",
    "tests/events/test_convergence.py",
]


@needs_postgres
def test_everything_holds_on_postgresql() -> None:
    with cluster() as url:
        command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider"]
        run = subprocess.run(
            [*command, *(FULL if SOAK else QUICK)],
            env={**os.environ, "DATABASE_URL": url},
            capture_output=True,
            text=True,
        )
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
