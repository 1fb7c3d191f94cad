"""The event loop stays free while the diff of much is read: everybody else's streams run on it."""

import asyncio
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from events.service import EventService
from tasks.models import TaskAttempt
from tests.scale import scaled
from tests.tasks.diffs.client import DiffClient

pytestmark = pytest.mark.django_db(transaction=True)

FILES = scaled(20_000, 2_000)
BLOCKING = (
    "subprocess.Popen",
    "open",
    "os.listdir",
    "os.scandir",
    "os.rename",
    "shutil.copyfile",
    "sqlite3.connect",
)
LONGEST_WORK = 0.5
"""Seconds of the processor that the loop's thread may take in one turn: generous, and others' work does not count."""


class Watch:
    """What the loop's thread does that may take long."""

    def __init__(self) -> None:
        self.thread = 0
        self.blocked: list[str] = []

    def __call__(self, event: str, args: tuple[object, ...]) -> None:
        if threading.get_ident() == self.thread and event in BLOCKING:
            self.blocked.append(f"{event} {args[0]!r}")

    @contextmanager
    def here(self) -> Iterator[None]:
        self.thread, self.blocked = threading.get_ident(), []
        try:
            yield
        finally:
            self.thread = 0


watch = Watch()
sys.addaudithook(watch)


class Turns:
    """The longest turn of the loop, in seconds of its thread's processor time."""

    def __init__(self) -> None:
        self.work = 0.0
        self.count = 0

    async def follow(self) -> None:
        worked = time.thread_time()
        while True:
            await asyncio.sleep(0.005)
            self.work = max(self.work, time.thread_time() - worked)
            self.count += 1
            worked = time.thread_time()


async def test_loop_is_free_while_thousands_of_files_and_a_large_one_are_read(
    service: EventService, attempt: TaskAttempt, place: Path
) -> None:
    for number in range(FILES):
        folder = place / f"folder{number // 100}"
        folder.mkdir(exist_ok=True)
        (folder / f"file{number}").write_text(f"{number}\n" * 50)
    (place / "large").write_text("some text of a line\n" * 500_000)
    turns, client = Turns(), DiffClient()
    following = asyncio.create_task(turns.follow())
    with watch.here():
        async with client.reading(service, attempt.pk):
            assert len(client.state) == FILES + 1
            await asyncio.to_thread((place / "large").write_text, "some text of a line\n" * 510_000)
            await asyncio.to_thread((place / "folder0/file0").write_text, "edited\n")
            await client.until(lambda: client.state["large"]["additions"] == 510_000)
            await client.until(lambda: "edited" in str(client.state["folder0/file0"]["diff"]))
    following.cancel()
    assert watch.blocked == []
    assert turns.count > 10
    assert turns.work < LONGEST_WORK
