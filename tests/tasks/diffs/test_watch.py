"""How changes of a worktree are noticed, and which are not worth it."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

import pytest

from events.service import EventService
from tasks.diffs import watch
from tasks.diffs.index import Listing, PrivateIndex
from tasks.diffs.log import DiffLog
from tasks.diffs.watch_others import WatchfilesWatcher
from tasks.models import TaskAttempt
from tests.repositories import git, make_repository
from tests.scale import scaled
from tests.tasks.diffs.client import DiffClient
from tests.tasks.diffs.random_edits import Edits

pytestmark = pytest.mark.django_db(transaction=True)


class TestWatching:
    async def test_ignored_folder_costs_nothing(
        self, service: EventService, attempt: TaskAttempt, place: Path
    ) -> None:
        (place / ".gitignore").write_text("node_modules/\n")
        client = DiffClient()
        async with client.reading(service, attempt.pk):
            (place / "node_modules").mkdir()
            (place / "seen").write_text("1\n")
            await client.until(lambda: "seen" in client.state)
            await asyncio.to_thread(fill, place / "node_modules", scaled(50_000, 2000))
            log = service.log(f"diff:{attempt.pk}")
            assert isinstance(log, DiffLog) and isinstance(log.watcher, watch.InotifyWatcher)
            assert not any("node_modules" in path for path in log.watcher.watched())
            (place / "seen").write_text("2\n")
            await client.settles_at(place, attempt.base_commit)

    async def test_file_in_a_folder_that_held_only_ignored_ones(
        self, service: EventService, attempt: TaskAttempt, place: Path
    ) -> None:
        (place / ".gitignore").write_text("*.log\nbuilt/\n")
        for name in ("logs/deep", "logs/built", ":(top)logs"):
            (place / name).mkdir(parents=True)
            (place / name / "1.log").write_text("1\n")
        client = DiffClient()
        async with client.reading(service, attempt.pk):
            assert set(client.state) == {".gitignore"}
            (place / "logs/deep/seen").write_text("1\n")
            await client.until(lambda: "logs/deep/seen" in client.state)
            log = service.log(f"diff:{attempt.pk}")
            assert isinstance(log, DiffLog) and isinstance(log.watcher, watch.InotifyWatcher)
            assert not any("built" in path for path in log.watcher.watched())

    async def test_folder_under_a_new_name_and_file_that_is_ignored_no_longer(
        self, service: EventService, attempt: TaskAttempt, place: Path
    ) -> None:
        (place / ".gitignore").write_text("*.log\n")
        (place / "old/deep").mkdir(parents=True)
        (place / "old/deep/file").write_text("1\n")
        client = DiffClient()
        async with client.reading(service, attempt.pk):
            (place / "a.log").write_text("1\n")
            (place / "old").rename(place / "new")
            await client.until(lambda: "new/deep/file" in client.state)
            (place / "new/deep/file").write_text("2\n")
            await client.until(lambda: "+2" in client.state["new/deep/file"]["diff"])
            (place / ".gitignore").unlink()
            await client.until(lambda: "a.log" in client.state)
            (place / "a.log").write_text("2\n")
            await client.until(lambda: "+2" in client.state["a.log"]["diff"])

    async def test_ignored_file_that_is_staged_all_the_same(
        self, service: EventService, attempt: TaskAttempt, place: Path
    ) -> None:
        (place / ".gitignore").write_text("*.log\n")
        (place / "a.log").write_text("1\n")
        client = DiffClient()
        async with client.reading(service, attempt.pk):
            await asyncio.to_thread(git, place, "add", "--force", "a.log")
            await client.until(lambda: "a.log" in client.state)
            await asyncio.to_thread(git, place, "rm", "-q", "--cached", "a.log")
            await client.until(lambda: "a.log" not in client.state)

    async def test_file_that_was_gone_only_while_git_looked(
        self, service: EventService, attempt: TaskAttempt, place: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        look_up, times = PrivateIndex.look_up, []

        def miss(index: PrivateIndex, paths: Collection[str]) -> Listing:
            times.append(1)
            if len(times) > 1:
                return look_up(index, paths)
            (place / "late").unlink()
            found = look_up(index, paths)
            (place / "late").write_text("1\n")
            return found

        monkeypatch.setattr(PrivateIndex, "look_up", miss)
        client = DiffClient()
        async with client.reading(service, attempt.pk):
            (place / "late").write_text("0\n")
            await client.until(lambda: "late" in client.state)
            (place / "late").write_text("2\n")
            await client.until(lambda: "+2" in client.state["late"]["diff"])

    async def test_folder_that_becomes_a_repository(
        self, service: EventService, attempt: TaskAttempt, place: Path
    ) -> None:
        inner = make_repository(place.parent / f"{place.name}-inner")
        (place / "inner").mkdir()
        (place / "inner/README.md").write_text("# Test\n")
        client = DiffClient()
        async with client.reading(service, attempt.pk):
            assert set(client.state) == {"inner/README.md"}
            (inner / ".git").rename(place / "inner/.git")
            await client.until(lambda: set(client.state) == {"inner"})
            (place / "inner/.git").rename(inner / ".git")
            await client.until(lambda: set(client.state) == {"inner/README.md"})

    async def test_folder_that_came_among_lost_events(self, attempt: TaskAttempt, place: Path) -> None:
        watcher = await asyncio.to_thread(watch.InotifyWatcher, place)
        await asyncio.to_thread(watcher.start)
        overflow(place / "a.txt", place / "src/x.bin")
        (place / "late").mkdir()
        seen: list[watch.Changes] = []
        watcher.attach(lambda: seen.append(watcher.take()))
        await DiffClient().until(lambda: seen and seen[-1].lost)
        await asyncio.to_thread(watcher.settle, seen[-1])
        assert seen[-1].everything
        assert "late" in watcher.watched()
        watcher.close()

    async def test_through_watchfiles(
        self, service: EventService, attempt: TaskAttempt, place: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sys.platform", "darwin")
        client = DiffClient()
        async with client.reading(service, attempt.pk):
            log = service.log(f"diff:{attempt.pk}")
            assert isinstance(log, DiffLog) and isinstance(log.watcher, WatchfilesWatcher)
            edits = Edits(place, 3)
            for _ in range(6):
                await asyncio.to_thread(edits.one)
                await client.settles_at(place, attempt.base_commit)


def overflow(*files: Path) -> None:
    """More events than the kernel keeps. Equal ones in a row would be one."""
    most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    for number in range(most + 2):
        os.utime(files[number % len(files)])


def fill(folder: Path, files: int) -> None:
    """Many files in folders of a hundred, made by another process: what installing packages looks like."""
    script = """
import os, sys
for number in range(int(sys.argv[1])):
    folder = f"package{number // 100}"
    os.makedirs(folder, exist_ok=True)
    open(f"{folder}/{number}", "w").close()
"""
    subprocess.run([sys.executable, "-c", script, str(files)], cwd=folder, check=True)
