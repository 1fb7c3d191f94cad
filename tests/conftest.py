"""Shared fixtures. Nothing here is a mock: real git, real processes, a real database."""

import os
import tempfile

# Before Django reads its settings: the suite never touches the data of the person who runs it.
_DATA = tempfile.mkdtemp(prefix="vibe-tests-")
os.environ["VIBE_DATA"] = _DATA
os.environ["VIBE_REPO_ROOTS"] = tempfile.gettempdir()
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "vibe.settings")
