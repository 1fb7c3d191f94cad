"""The demo project: a small real repository and a board to try everything on."""

import shutil
import tempfile
from pathlib import Path

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction

from tasks import git
from tasks.models import Project, Task

_FILES = Path(__file__).resolve().parent / "agents" / "demo_repository"
_TASKS = (
    (
        "Greet people by name",
        "Add a greeter with a test, and say in the README what changed.\n\n"
        "Start the executor **demo** on this task: it works for half a minute, and you can watch "
        "its log and its diff grow.",
    ),
    ("Count words faster", "`src/util.py` walks the text twice. Once should do."),
    ("Make the page readable in the dark", "`web/style.css` has one theme only."),
    ("Drop what nobody uses", "Is `src/legacy.js` still needed by anything?"),
)


def repository() -> Path:
    """Where the demo project's repository is, or would be."""
    return (Path(settings.VIBE_DATA) / "demo" / "repo").resolve()


def make_demo_project(owner: User) -> Project:
    """Makes the repository (once) and its project with tasks; one that is there stays as it is, and so do its members.

    Raises GitError where git cannot work here.
    """
    repo = _make_repository(repository())
    with transaction.atomic():
        project, created = Project.objects.get_or_create(
            repo_path=str(repo), defaults={"name": "Demo", "target_branch": "main"}
        )
        if created:
            project.members.add(owner)
            for position, (title, description) in enumerate(_TASKS):
                Task.objects.create(project=project, title=title, description=description, position=position)
    return project


def remove_repository(project: Project) -> None:
    """Removes the demo's repository, if that was the project's; its next one starts anew."""
    if project.repo_path == str(repository()):
        shutil.rmtree(Path(settings.VIBE_DATA) / "demo", ignore_errors=True)


def _make_repository(folder: Path) -> Path:
    if not (folder / ".git").exists():
        # Made beside it: where the server ends in the middle, a folder without a commit would pass for the demo.
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="new-", dir=folder.parent) as place:
            new = Path(shutil.copytree(_FILES, Path(place) / "repo"))
            git.run("init", "--quiet", "--initial-branch=main", cwd=new)
            _commit(new, "Start")
            shutil.rmtree(folder, ignore_errors=True)
            new.rename(folder)
    return folder


def _commit(folder: Path, message: str) -> None:
    identity = {
        f"GIT_{who}_{what}": value
        for who in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", "Vibe"), ("EMAIL", "vibe@localhost"))
    }
    git.run("add", "--all", cwd=folder)
    git.run("-c", "commit.gpgsign=false", "commit", "--quiet", "-m", message, cwd=folder, env=identity)
