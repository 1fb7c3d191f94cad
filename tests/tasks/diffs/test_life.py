"""What a diff stream begins with, and how it ends."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User

from events.messages import FileDiff
from events.service import EventService
from tasks import worktrees
from tasks.diffs import log as diff_log
from tasks.diffs import tracker
from tasks.diffs.log import DiffLog
from tasks.finishing import finish, journal, operations
from tasks.models import TaskAttempt
from tests.repositories import git
from tests.runs import goes_on, wait_for
from tests.scale import scaled
from tests.tasks.diffs.client import DiffClient
from tests.tasks.diffs.descriptors import descriptors, few_more, watching

pytestmark = pytest.mark.django_db(transaction=True)


class TestLife:
    async def test_one_watcher_however_many_look_and_none_when_nobody_does(
        self, service: EventService, attempt: TaskAttempt
    ) -> None:
        before = watching()
        clients = [DiffClient() for _ in range(5)]
        async with AsyncExitStack() as readers:
            for client in clients:
                await readers.enter_async_context(client.reading(service, attempt.pk))
            assert watching() == before + 1
        await clients[4].until(lambda: watching() == before)

    async def test_readers_hear_that_nobody_follows_the_diff_any_more(
        self, service: EventService, attempt: TaskAttempt, place: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        client = DiffClient()
        async with client.reading(service, attempt.pk):
            monkeypatch.setattr(diff_log, "_ask", lambda *_: 1 / 0)
            (place / "one").write_text("1\n")
            await client.until(
                lambda: client.latest("note") and "no longer followed" in client.latest("note")["message"]
            )

    async def test_opening_and_closing_leaks_nothing(
        self, service: EventService, attempt: TaskAttempt
    ) -> None:
        client = DiffClient()
        async with client.reading(service, attempt.pk):
            pass
        await client.until(lambda: not service.active_streams() and watching() == 0)
        before = descriptors()
        for _ in range(scaled(1000, 8)):
            async with DiffClient().reading(service, attempt.pk):
                pass
        await client.until(lambda: watching() == 0 and few_more(before, descriptors()))
        assert sum(thread.name.startswith("diffs") for thread in threading.enumerate()) <= 4

    async def test_merged_gives_the_last_state_then_finished_then_no_more(
        self, service: EventService, attempt: TaskAttempt, place: Path, user: User
    ) -> None:
        (place / "one").write_text("1\n")
        client, late = DiffClient(), DiffClient()
        async with client.reading(service, attempt.pk):
            state = dict(client.state)
            client.events.clear()
            await sync_to_async(finish.merge)(attempt, "squash", user)
            await client.until(lambda: client.finished)
            assert client.state == state
            assert "message" not in client.names()
        async with late.reading(service, attempt.pk):
            await late.until(lambda: late.finished)
            assert late.state == state
        assert await DiffLog(str(attempt.pk)).is_over(str(client.cursor))
        assert client.cursor == late.cursor

    async def test_discarded_gives_what_was_kept(
        self, service: EventService, attempt: TaskAttempt, place: Path, user: User
    ) -> None:
        (place / "one").write_text("1\n")
        client = DiffClient()
        async with client.reading(service, attempt.pk):
            await sync_to_async(finish.discard)(attempt, user)
            await client.until(lambda: client.finished)
            assert set(client.state) == {"one"}

    async def test_rebase_changes_the_base(
        self,
        service: EventService,
        attempt: TaskAttempt,
        place: Path,
        user: User,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(diff_log, "RECHECK_SECONDS", 600)
        repository = Path(attempt.task.project.repo_path)
        (place / "one").write_text("1\n")
        client = DiffClient()
        async with client.reading(service, attempt.pk):
            await client.until(lambda: client.latest("status"))
            git(repository, "update-ref", "refs/heads/main", "other")
            await client.until(lambda: client.latest("status")["behind"] == 1)
            rebased = await sync_to_async(finish.rebase)(attempt, user)
            await client.until(lambda: client.latest("status")["behind"] == 0)
            # Of what was there before the rebase, the state may say nothing of the new base yet.
            (place / "two").write_text("2\n")
            await client.until(lambda: "two" in client.state)
            await client.settles_at(place, rebased.base_commit)
            assert set(client.state) == {"one", "two"}

    async def test_rebase_shows_nothing_of_its_middle(
        self,
        service: EventService,
        attempt: TaskAttempt,
        place: Path,
        user: User,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        begun, looking, seen = (threading.Event() for _ in range(3))
        moved, asked = operations.move_references, tracker.Tracker.update

        def ask(held: tracker.Tracker, paths: set[str] | None = None) -> Iterator[FileDiff]:
            if begun.is_set():
                looking.set()
                wait_for((place / "other.txt").exists, "the middle of the rebase")
            yield from asked(held, paths)
            if (place / "other.txt").exists():
                seen.set()

        def move_once_the_stream_has_looked(operation: journal.Operation) -> None:
            assert seen.wait(20)
            moved(operation)

        monkeypatch.setattr(tracker.Tracker, "update", ask)
        monkeypatch.setattr(operations, "move_references", move_once_the_stream_has_looked)
        (place / "one").write_text("1\n")
        client = DiffClient()
        async with client.reading(service, attempt.pk):
            git(Path(attempt.task.project.repo_path), "merge", "-q", "other")
            begun.set()
            (place / "one").write_text("1\n1\n")
            assert await asyncio.to_thread(looking.wait, 20)
            await sync_to_async(finish.rebase)(attempt, user)
            await client.until(lambda: client.latest("status")["ahead"] == client.latest("status")["behind"])
            (place / "two").write_text("2\n")
            await client.until(lambda: "two" in client.state)
            files = {data["file"] for name, data in client.events if name == "message"}
            assert files == {"one", "two"}

    async def test_finished_cursor_of_an_open_attempt_is_not_over(self, attempt: TaskAttempt) -> None:
        log = DiffLog(str(attempt.pk))
        assert not await log.is_over(log.end)

    async def test_worktree_that_comes_later(
        self, service: EventService, attempt: TaskAttempt, place: Path
    ) -> None:
        worktree, attempt.worktree = attempt.worktree, None
        base, attempt.base_commit = attempt.base_commit, ""
        await attempt.asave()
        client = DiffClient()
        async with client.reading(service, attempt.pk):
            assert client.state == {}
            (place / "one").write_text("1\n")
            attempt.worktree, attempt.base_commit = worktree, base
            await attempt.asave()
            await client.settles_at(place, attempt.base_commit)

    async def test_worktree_deleted_by_hand(
        self, service: EventService, attempt: TaskAttempt, place: Path
    ) -> None:
        (place / "committed").write_text("1\n")
        git(place, "add", "-A")
        git(place, "commit", "-q", "-m", "work")
        (place / "loose").write_text("1\n")
        client = DiffClient()
        async with client.reading(service, attempt.pk):
            await client.until(lambda: len(client.state) == 2)
            await asyncio.to_thread(worktrees.delete_folder, place)
            await client.until(lambda: set(client.state) == {"committed"})
            await client.until(
                lambda: client.latest("note") and "is gone" in client.latest("note")["message"]
            )
            await client.until(lambda: (client.latest("status") or {}).get("problem"))
            assert not client.latest("status")["dirty"]


class TestPrograms:
    async def test_filter_that_never_ends_is_killed_and_all_is_shown_without_it(
        self,
        service: EventService,
        attempt: TaskAttempt,
        place: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(diff_log, "GIT_SECONDS", 1.0)
        started = tmp_path / "started"
        git(place, "config", "filter.stuck.clean", f"echo $$ >>{started}; exec sleep 600")
        git(place, "config", "filter.stuck.required", "true")
        (place / ".gitattributes").write_text("*.stuck filter=stuck\n")
        (place / "a.stuck").write_text("1\n")
        client = DiffClient()
        async with client.reading(service, attempt.pk):
            assert "without the filters" in client.latest("note")["message"]
            assert set(client.state) == {".gitattributes", "a.stuck"}
            (place / "a.stuck").write_text("2\n")
            await client.until(lambda: "+2" in client.state["a.stuck"]["diff"])
        programs = [int(line) for line in started.read_text().split()]
        assert programs
        await client.until(lambda: not any(map(goes_on, programs)))
