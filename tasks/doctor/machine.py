"""What can be seen on the machine itself: programs, database, limits, disk."""

import os
import re
import resource
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connection, connections
from django.db.migrations.executor import MigrationExecutor

from events import control
from tasks import executors, permissions
from tasks.doctor.findings import Finding, Level
from tasks.models import Project
from tasks.runs import runner

GIT_AT_LEAST: Final = (2, 38)  # `git merge-tree --write-tree` tells conflicts without touching a worktree
WATCHES_AT_LEAST: Final = 65_536
INSTANCES_AT_LEAST: Final = 128
GB: Final = 1024**3
PATIENCE_SECONDS: Final = 10.0
NETWORK_FILE_SYSTEMS: Final = {
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "9p",
    "fuse.sshfs",
    "ceph",
    "glusterfs",
}


def examine_machine(reader: permissions.Caller | None = None) -> list[Finding]:
    """What the reader may know of it; all where there is none, as for a command."""
    known = Project.objects.all() if reader is None else permissions.visible_projects(reader)
    findings: list[Finding] = []
    for check in (git, agents, database, server, watches, disk, partial(projects, known), settings_in_use):
        try:
            findings += check()
        except DatabaseError as error:
            name = getattr(check, "__name__", "projects").replace("_", " ")
            findings.append(
                Finding(
                    name,
                    Level.PROBLEM,
                    f"The database cannot tell: {error}",
                    "See what is said of the database.",
                )
            )
    return findings


def git() -> Iterator[Finding]:
    program = shutil.which("git")
    if program is None:
        yield Finding("git", Level.PROBLEM, "git is not on PATH.", "Install git 2.38 or newer.")
        return
    said = _output([program, "--version"])
    if not said:
        yield Finding(
            "git", Level.PROBLEM, f"{program} does not work.", f"See what {program} --version says."
        )
        return
    version = tuple(int(part) for part in re.findall(r"\d+", said)[:2])
    if version < GIT_AT_LEAST:
        yield Finding("git", Level.PROBLEM, f"{said} is too old.", "Install git 2.38 or newer.")
    else:
        yield Finding("git", Level.OK, f"{said} at {program}.")
    if not _output([program, "config", "--get", "user.email"]):
        yield Finding(
            "git",
            Level.NOTE,
            "git knows no name and address for commits of this account.",
            "Commits bear the name of whoever started the run. For another: git config --global user.name … "
            "and user.email …",
        )


def agents() -> Iterator[Finding]:
    offered = executors.available()
    missing = [agent["name"] for agent in executors.missing(offered)]
    names = [agent["name"] for agent in offered if agent["installed"]]
    coding = [name for name in names if name not in ("demo", "script")]
    level = Level.OK if coding else Level.NOTE
    advice = (
        ""
        if coding
        else "Install a coding agent and sign in to it as this account, or name your own: docs/agents.md."
    )
    yield Finding("agents", level, f"Found: {', '.join(names) or 'none'}.", advice)
    if missing:
        yield Finding("agents", Level.OK, f"Not on PATH, so not offered: {', '.join(missing)}.")


def database() -> Iterator[Finding]:
    try:
        if connection.vendor == "sqlite":
            yield from _sqlite()
        else:
            yield from _postgresql()
        yield _migrations()
    except DatabaseError as error:
        yield Finding(
            "database",
            Level.PROBLEM,
            f"The database does not work: {error}",
            "Check DATABASE_URL and VIBE_DATA.",
        )


def _sqlite() -> Iterator[Finding]:
    path = Path(str(connection.settings_dict["NAME"]))
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA journal_mode")
        mode = cursor.fetchone()[0]
        # Takes the write lock and gives it back: a read-only file or folder fails here.
        cursor.execute("BEGIN IMMEDIATE")
        cursor.execute("ROLLBACK")
    if mode != "wal":
        yield Finding(
            "database", Level.PROBLEM, f"SQLite's journal is {mode!r}, not WAL.", "Readers would block."
        )
    else:
        yield Finding("database", Level.OK, f"SQLite at {path}, WAL, writable.")
    kind = file_system_of(path)
    if kind in NETWORK_FILE_SYSTEMS:
        yield Finding(
            "database",
            Level.PROBLEM,
            f"The database lies on a network file system ({kind}), where SQLite's locks do not hold.",
            "Move VIBE_DATA to a local disk, or use PostgreSQL (DATABASE_URL).",
        )


def _postgresql() -> Iterator[Finding]:
    with connection.cursor() as cursor:
        cursor.execute("SHOW server_version")
        version = cursor.fetchone()[0]
        cursor.execute("SHOW transaction_read_only")
        read_only = cursor.fetchone()[0] == "on"
    if read_only:
        yield Finding(
            "database", Level.PROBLEM, "PostgreSQL is read-only.", "Point DATABASE_URL to the primary."
        )
    else:
        yield Finding("database", Level.OK, f"PostgreSQL {version}, writable.")


def _migrations() -> Finding:
    executor = MigrationExecutor(connections[DEFAULT_DB_ALIAS])
    waiting = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if waiting:
        return Finding(
            "database",
            Level.PROBLEM,
            f"{len(waiting)} migrations are not applied.",
            "Run: python manage.py migrate",
        )
    return Finding("database", Level.OK, "All migrations are applied.")


def server() -> Iterator[Finding]:
    if runner.is_running():
        yield Finding("server", Level.OK, "A server runs on this data folder and starts what is queued.")
    elif _a_server_answers():
        yield Finding(
            "server",
            Level.WARNING,
            "A server runs on this data folder, but starts nothing that is queued now.",
            "The server's log says why.",
        )
    else:
        yield Finding("server", Level.WARNING, "No server runs on this data folder.", "Start it: make run")
    health = runner.runner.health  # of this process: on the page, that is the server's
    if health.crashes:
        yield Finding(
            "server",
            Level.WARNING,
            f"What starts and follows runs crashed {health.crashes} times and began again. Last: {health.last_error}",
            "The server's log has the details. Runs go on meanwhile.",
        )
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit < 1024:
        yield Finding(
            "server",
            Level.WARNING,
            f"A process may open {limit} files only; each open stream is one.",
            "Raise it: LimitNOFILE=65536 in the unit file, or ulimit -n 65536.",
        )


def _a_server_answers() -> bool:
    try:
        return bool(control.ask())
    except TimeoutError:
        return True


def watches(folder: Path = Path("/proc/sys/fs/inotify")) -> Iterator[Finding]:
    """Live diffs watch each folder of a worktree; where no watch is left, diffs come later, by looking."""
    if not folder.is_dir():
        yield Finding("file watches", Level.OK, "This system has no inotify limits.")
        return
    for name, least, why in (
        ("max_user_watches", WATCHES_AT_LEAST, "each folder of a watched worktree takes one"),
        ("max_user_instances", INSTANCES_AT_LEAST, "each live diff takes one"),
    ):
        value = int((folder / name).read_text())
        if value < least:
            yield Finding(
                "file watches",
                Level.WARNING,
                f"fs.inotify.{name} is only {value}, and {why}.",
                f"sudo sysctl -w fs.inotify.{name}={least * 8} (and the same line in /etc/sysctl.d/vibe.conf)",
            )
        else:
            yield Finding("file watches", Level.OK, f"fs.inotify.{name} is {value}.")


def disk() -> Iterator[Finding]:
    space = shutil.disk_usage(settings.VIBE_DATA)
    inodes = os.statvfs(settings.VIBE_DATA)
    message = f"{space.free / GB:.1f} GB free for {settings.VIBE_DATA}."
    advice = "Remove old runs and worktrees (python manage.py vacuum), or move VIBE_DATA to a larger disk."
    if space.free < GB:
        yield Finding("disk", Level.PROBLEM, message, advice)
    elif space.free < 5 * GB:
        yield Finding("disk", Level.WARNING, message, advice)
    else:
        yield Finding("disk", Level.OK, message)
    if inodes.f_files and inodes.f_favail < 100_000:
        yield Finding("disk", Level.WARNING, f"Only {inodes.f_favail} more files can be made there.", advice)


def projects(known: Iterable[Project]) -> Iterator[Finding]:
    gone = [project for project in known if not os.path.exists(Path(project.repo_path, ".git"))]
    for project in gone:
        yield Finding(
            "projects",
            Level.WARNING,
            f"The repository of {project.name!r} is no longer at {project.repo_path}.",
            "Put it back, or change or delete the project.",
        )
    if not gone:
        yield Finding("projects", Level.OK, "Every project's repository is there.")


def settings_in_use() -> Iterator[Finding]:
    if settings.DEBUG:
        yield Finding(
            "settings",
            Level.WARNING,
            "DEBUG is on: errors show the program's insides, and queries pile up in memory.",
            "Unset DEBUG where others can reach the site.",
        )
    if not settings.PUBLIC_URL:
        yield Finding(
            "settings",
            Level.NOTE,
            "PUBLIC_URL is not set, which is right for use on this machine alone.",
            "Behind a proxy set it to the address that people type (docs/operating.md).",
        )


def file_system_of(path: Path, mounts: Path = Path("/proc/mounts")) -> str:
    """The type of the file system that holds `path` ("ext4", "nfs4"); empty where the system does not say."""
    if not mounts.is_file():
        return ""
    points = [line.split()[1:3] for line in mounts.read_text().splitlines()]
    holding = [
        (len(point), kind) for point, kind in points if path.resolve().is_relative_to(_unescaped(point))
    ]
    return max(holding, default=(0, ""))[1]


def _unescaped(point: str) -> str:
    """A mount point as /proc/mounts writes it: blanks are octal there."""
    return re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), point)


def _output(command: list[str]) -> str:
    """What it says; nothing where it fails, or does not end."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
