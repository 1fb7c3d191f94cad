"""The diff stream against git itself, on real worktrees."""

import asyncio
import os
import threading
from pathlib import Path

import pytest
from asgiref.sync import sync_to_async

from events.service import EventService
from tasks import diffs
from tasks.models import TaskAttempt
from tests.repositories import git, make_repository
from tests.scale import scaled
from tests.tasks.diffs.client import DiffClient
from tests.tasks.diffs.random_edits import Edits
from tests.tasks.diffs.state import git_says

pytestmark = pytest.mark.django_db(transaction=True)


class TestSameAsGit:
    @pytest.mark.parametrize("seed", range(scaled(60, 1)))
    async def test_after_random_edits(
        self, seed: int, service: EventService, attempt: TaskAttempt, place: Path
    ) -> None:
        edits = Edits(place, seed)
        client = DiffClient()
        for _ in range(2):
            async with client.reading(service, attempt.pk):
                for _ in range(scaled(20, 6)):
                    for _ in range(edits.random.choice([1, 1, 2, 5])):
                        await asyncio.to_thread(edits.one)
                    await client.settles_at(place, attempt.base_commit)
            # And what happens while nobody looks is there when the reader comes back.
            await asyncio.to_thread(edits.one)
        async with client.reading(service, attempt.pk):
            await client.settles_at(place, attempt.base_commit)
            assert "reset" not in client.names()
        assert edits.done

    async def test_list_and_single_file_say_the_same(self, attempt: TaskAttempt, place: Path) -> None:
        edits = Edits(place, 7)
        for _ in range(40):
            edits.one()
        expected = git_says(place, attempt.base_commit)
        found = await sync_to_async(diffs.of_attempt)(attempt)
        assert {str(record["file"]): record for record in found} == expected
        for name, record in expected.items():
            assert await sync_to_async(diffs.one_file)(attempt, name) == [record]
        assert await sync_to_async(diffs.one_file)(attempt, "no such file") == []

    async def test_edits_while_the_first_state_is_read(
        self, service: EventService, attempt: TaskAttempt, place: Path
    ) -> None:
        stop = threading.Event()

        def keep_writing() -> None:
            number = 0
            while not stop.is_set():
                (place / f"file{number % 20}").write_text(f"{number}\n")
                number += 1
                stop.wait(0.003)

        writer = threading.Thread(target=keep_writing)
        writer.start()
        client = DiffClient()
        async with client.reading(service, attempt.pk):
            stop.set()
            await asyncio.to_thread(writer.join)
            await client.settles_at(place, attempt.base_commit)

    async def test_symlinks_are_shown_and_not_followed(
        self, service: EventService, attempt: TaskAttempt, place: Path, tmp_path: Path
    ) -> None:
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "secret").write_text("secret")
        client = DiffClient()
        async with client.reading(service, attempt.pk):
            (place / "link").symlink_to(outside)
            await client.until(lambda: "link" in client.state)
            (outside / "secret").write_text("more")
            (place / "after").write_text("1\n")
            await client.until(lambda: "after" in client.state)
        assert set(client.state) == {"link", "after"}
        assert "secret" not in str(client.state)

    async def test_submodule_as_git_shows_it(
        self, service: EventService, attempt: TaskAttempt, place: Path, tmp_path: Path
    ) -> None:
        inner = make_repository(tmp_path / "inner")
        git(place, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(inner), "sub")
        client = DiffClient()
        async with client.reading(service, attempt.pk):
            await client.settles_at(place, attempt.base_commit)
            git(place / "sub", "commit", "-q", "--allow-empty", "-m", "next")
            head = git(place / "sub", "rev-parse", "HEAD").strip()
            await client.until(lambda: head in str(client.state["sub"]["diff"]))
            (place / "sub/README.md").write_text("dirty")
            await client.until(lambda: f"{head}-dirty" in str(client.state["sub"]["diff"]))
            await client.settles_at(place, attempt.base_commit)

    async def test_leaves_index_and_objects_alone(
        self, service: EventService, attempt: TaskAttempt, place: Path
    ) -> None:
        client = DiffClient()
        async with client.reading(service, attempt.pk):
            objects = git(place, "count-objects", "-v")
            index = git(place, "rev-parse", "--git-path", "index").strip()
            before = os.stat(index)
            (place / "new").write_text("x\n")
            (place / "a.txt").write_text("y\n")
            await client.until(lambda: {"new", "a.txt"} <= set(client.state))
            await client.until(lambda: client.latest("status") and client.latest("status")["dirty"])
            # Who does not ask for it gets the records alone.
            plain = DiffClient()
            plain.parameters = {}
            async with plain.reading(service, attempt.pk):
                (place / "a.txt").write_text("z\n")
                await plain.until(lambda: "message" in plain.names()[3:])
                assert "status" not in plain.names()
        assert git(place, "count-objects", "-v") == objects
        assert os.stat(index) == before


class TestLimits:
    async def test_too_large_is_left_out_with_true_counts_and_can_be_fetched_alone(
        self, service: EventService, attempt: TaskAttempt, place: Path, settings: object
    ) -> None:
        lines = 400_000
        (place / "large").write_text("some text of a line\n" * lines)
        client = DiffClient()
        async with client.reading(service, attempt.pk):
            record = client.state["large"]
            assert (record["omitted"], record["additions"], record["diff"]) == ("too_large", lines, "")
            (place / "large").write_text("small\n")
            await client.settles_at(place, attempt.base_commit)
            (place / "large").write_text("some text of a line\n" * lines)
            await client.until(lambda: client.state["large"]["omitted"] == "too_large")
        whole = await sync_to_async(diffs.one_file)(attempt, "large")
        assert str(whole[0]["diff"]).count("\n+") == lines

    async def test_limit_is_on_what_is_current(
        self, service: EventService, attempt: TaskAttempt, place: Path, settings: "pytest.FixtureRequest"
    ) -> None:
        settings.EVENTS_BUFFER_BYTES = 10_000  # type: ignore[attr-defined]
        client = DiffClient()
        async with client.reading(service, attempt.pk):
            # Far more than the limit in all, but never at once.
            for number in range(4):
                (place / "a.txt").write_text(f"{number}" * 6000 + "\n")
                await client.settles_at(place, attempt.base_commit)
            (place / "b").write_text("b" * 6000 + "\n")
            await client.until(lambda: "b" in client.state)
            assert client.state["b"]["omitted"] == "too_large"
            git(place, "checkout", "-q", "a.txt")
            await client.settles_at(place, attempt.base_commit)

    async def test_many_files_come_with_progress(
        self, service: EventService, attempt: TaskAttempt, place: Path
    ) -> None:
        count = scaled(2000, 300)
        for number in range(count):
            (place / f"file{number}").write_text(f"{number}\n" * 20)
        client = DiffClient()
        async with client.reading(service, attempt.pk):
            assert len(client.state) == count
            assert client.names().index("message") < client.names().index("ready")
            (place / "file7").write_text("seven\n")
            await client.settles_at(place, attempt.base_commit)
