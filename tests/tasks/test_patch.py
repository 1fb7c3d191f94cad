"""What an attempt changed, as git applies it."""

from pathlib import Path

import pytest
from django.contrib.auth.models import User

from tasks import diffs, snapshots
from tasks.finishing import finish
from tasks.models import TaskAttempt
from tests.repositories import git as plain
from tests.tasks.attempts import folder

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("merged", [False, True])
def test_git_applies_it_with_what_records_leave_out(
    attempt: TaskAttempt, repository: Path, admin: User, merged: bool
) -> None:
    """Binary files, modes, what is not UTF-8; and no name confuses it."""
    place = folder(attempt)
    plain(place, "mv", "README.md", "read\tme")
    (place / "read\tme").chmod(0o755)
    (place / "latin \n").write_bytes(b"\xe4\n")
    (place / "binary").write_bytes(b"\0\1")
    (place / "link").symlink_to("binary")
    (place / 'a"\x1b[2J\x9b2J\n+++ b').write_text("steers no terminal\n")
    tree = snapshots.take(place).tree
    if merged:
        attempt = finish.merge(attempt, "merge", admin)
    patch = repository.parent / "patch"
    patch.write_bytes(diffs.patch(attempt))
    assert b"\x1b" not in patch.read_bytes() and b"\x9b" not in patch.read_bytes()
    plain(repository, "checkout", "-q", attempt.base_commit)
    plain(repository, "apply", "--index", str(patch))
    assert plain(repository, "write-tree").strip() == tree
