"""Readers of a diff stream that come back."""

import os
from pathlib import Path

import pytest

from events.messages import FileDiff
from events.service import EventService
from tasks.diffs import log as diff_log
from tasks.diffs import records
from tasks.diffs.log import DiffLog
from tasks.models import TaskAttempt
from tests.tasks.diffs.client import DiffClient
from tests.tasks.diffs.descriptors import watching

pytestmark = pytest.mark.django_db(transaction=True)


class TestResume:
    async def test_only_what_changed_since(
        self, service: EventService, attempt: TaskAttempt, place: Path
    ) -> None:
        for name in ("one", "two", "three"):
            (place / name).write_text("1\n")
        client = DiffClient()
        async with client.reading(service, attempt.pk):
            assert len(client.state) == 3
        await client.until(lambda: watching() == 0)
        (place / "two").write_text("2\n")
        (place / "three").unlink()
        async with client.reading(service, attempt.pk):
            records = [(data["file"], data["change"]) for name, data in client.events if name == "message"]
            assert sorted(records) == [("three", "reverted"), ("two", "added")]
            await client.settles_at(place, attempt.base_commit)

    async def test_across_a_restart(self, attempt: TaskAttempt, place: Path) -> None:
        (place / "one").write_text("1\n")
        (place / "two").write_text("1\n")
        client = DiffClient()
        for number in range(3):
            service = EventService()
            service.register("diff", DiffLog)
            async with client.reading(service, attempt.pk):
                expected = {"one", "two"} if number == 0 else {"two"}
                assert {data["file"] for name, data in client.events if name == "message"} == expected
                assert "reset" not in client.names()
            await service.close_all()
            (place / "two").write_text(f"{number}\n")

    async def test_after_a_crash_everything_again(
        self, service: EventService, attempt: TaskAttempt, place: Path
    ) -> None:
        (place / "one").write_text("1\n")
        client = DiffClient()
        async with client.reading(service, attempt.pk):
            cursor = client.cursor
        saved = diff_log.saved_state(attempt.pk)
        await client.until(saved.exists)
        saved.unlink()
        async with client.reading(service, attempt.pk):
            names = [name for name in client.names() if name not in ("heartbeat", "status")]
            assert names[:2] == ["reset", "message"]
            assert client.cursor != cursor

    @pytest.mark.parametrize("cursor", ["nonsense", "{key}00000000.1", "{key}.start", "{now}9", "invalid"])
    async def test_cursor_that_cannot_be_honoured(
        self, cursor: str, service: EventService, attempt: TaskAttempt, place: Path
    ) -> None:
        (place / "one").write_text("1\n")
        client = DiffClient()
        async with client.reading(service, attempt.pk):
            now = str(client.cursor)
            other = DiffClient()
            other.cursor = cursor.format(key=attempt.pk.hex[:8], now=now)
            async with other.reading(service, attempt.pk):
                assert set(other.state) == {"one"}
                assert ("reset" in other.names()) == (not cursor.endswith(".start"))

    async def test_stopped_before_it_had_compared_what_was_sent(
        self, service: EventService, attempt: TaskAttempt, place: Path
    ) -> None:
        (place / "one").write_text("1\n")
        client = DiffClient()
        async with client.reading(service, attempt.pk):
            pass
        await client.until(lambda: not service.active_streams() and diff_log.saved_state(attempt.pk).exists())
        (place / "one").unlink()
        log = DiffLog(str(attempt.pk))
        await log.opened()
        await log.closed()
        async with client.reading(service, attempt.pk):
            assert client.state == {}

    def test_long_log_is_read_in_chunks(self) -> None:
        held = records.Records("12345678", records.LatestStore())
        for content in "yx":
            for number in range(5):
                held.put(FileDiff(f"file{number}", content * (records.CHUNK_BYTES // 2), "added"))
        chunks, place = [], records.Place(0)
        while place.number < held.last:
            data, place = held.after(place, extras=False)
            chunks.append(data)
        assert [chunk.count(b"data: ") for chunk in chunks] == [1] * 5
        assert (held.store.messages, held.store.bytes) == (5, sum(map(len, chunks)))

    def test_what_a_fresh_reader_is_not_told_of_a_resuming_one_is(self) -> None:
        held = records.Records("12345678", records.LatestStore())
        for file, change in (("one", "added"), ("two", "added"), ("two", "reverted")):
            held.put(FileDiff(file, "", change))  # type: ignore[arg-type]
        for began, told in ((3, 0), (0, 1)):
            data, _ = held.after(records.Place(1, began=began), extras=False)
            assert data.count(b"reverted") == told

    def test_cursor_from_before_forgotten_files_cannot_be_honoured(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(records, "MOST_REVERTED", 2)
        held = records.Records("12345678", records.LatestStore())
        for change in ("added", "reverted"):
            for number in range(4):
                held.put(FileDiff(f"file{number}", "", change))  # type: ignore[arg-type]
        held.settle()
        assert [held.number_of(held.cursor(number)) for number in (4, 5, 6, 7)] == [None, None, 6, 7]
        held.save(tmp_path / "state")
        synced = []

        def sync(descriptor: int) -> None:
            synced.append((os.readlink(f"/proc/self/fd/{descriptor}"), os.listdir(tmp_path)))

        monkeypatch.setattr(os, "fsync", sync)
        later = records.Records("12345678", records.LatestStore())
        assert later.restore(tmp_path / "state")
        # A loss of power must not bring it back, or numbers would be given twice.
        ((place, there),) = synced
        assert (place, "state" in there) == (str(tmp_path), False)
        assert [later.number_of(held.cursor(number)) for number in (4, 5, 6, 7)] == [None, None, 6, 7]
        assert not any(tmp_path.iterdir())

    def test_files_that_come_and_go_are_forgotten_and_who_is_behind_starts_over(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(records, "MOST_REVERTED", 20)
        held = records.Records("12345678", records.LatestStore())
        for file in ("stays", "goes"):
            held.put(FileDiff(file, "@@", "added"))
        _, behind = held.after(records.Place(0), extras=False)
        held.put(FileDiff("goes", "", "reverted"))
        for number in range(500):
            for change in ("added", "reverted"):
                held.put(FileDiff(f"file{number}", "", change))  # type: ignore[arg-type]
            assert held.store.messages <= 24
        data, place = held.after(behind, extras=False)
        assert data.startswith(b"event: reset\n")
        assert (data.count(b"data: "), data.count(b"stays"), place.number) == (2, 1, held.last)
        for abreast in (records.Place(held.floor), records.Place(0, began=held.floor)):
            data, place = held.after(abreast, extras=False)
            assert (b"event: reset" in data, place.number) == (False, held.last)
            assert data.count(b'"reverted"') >= 20

    async def test_fresh_reader_is_not_told_of_what_no_longer_differs(
        self, service: EventService, attempt: TaskAttempt, place: Path
    ) -> None:
        client, other = DiffClient(), DiffClient()
        async with client.reading(service, attempt.pk):
            (place / "one").write_text("1\n")
            await client.until(lambda: "one" in client.state)
            (place / "one").unlink()
            await client.until(lambda: "one" not in client.state)
            async with other.reading(service, attempt.pk):
                assert "message" not in other.names()
                (place / "two").write_text("1\n")
                await other.until(lambda: "two" in other.state)
