"""In whose name the board commits: the account's git identity, or the person's who asked where it has none."""

from pathlib import Path
from typing import Final

from django.contrib.auth.models import User

from tasks import git


def _variables(name: str, email: str) -> dict[str, str]:
    return {
        "GIT_AUTHOR_NAME": name,
        "GIT_AUTHOR_EMAIL": email,
        "GIT_COMMITTER_NAME": name,
        "GIT_COMMITTER_EMAIL": email,
    }


NOBODY: Final = _variables("Vibe", "vibe@localhost")
"""For what the board does by itself, and for commits that are thrown away."""


def environment(repo: Path, user: User | None = None) -> dict[str, str]:
    """GIT_COMMITTER_* and GIT_AUTHOR_* where git's configuration does not know them."""
    # Git is to refuse to guess an address from the machine's name.
    strict = git.configured(("user.useConfigOnly", "true"))
    found = git.run("var", "GIT_COMMITTER_IDENT", cwd=repo, accept=(0, 1, 128), env=strict)
    if found.code == 0:
        return {}
    if user is None:
        return NOBODY
    name = user.get_full_name() or user.get_username()
    return _variables(name, user.email or f"{user.get_username()}@localhost")
