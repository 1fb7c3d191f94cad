"""The diff stream against git itself, on real worktrees."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User

from events.service import EventService
from tasks import diffs, finish, worktrees
from tasks.diffs import log as diff_log
from tasks.diffs import watch
from tasks.diffs.log import DiffLog
from tasks.diffs.watch_others import WatchfilesWatcher
from tasks.models import Project, Task, TaskAttempt
from tests.repositories import git, make_repository
from tests.scale import scaled
from tests.tasks.diff_client import DiffClient
from tests.tasks.diff_state import git_says
from tests.tasks.random_edits import BASE_LINES, Edits

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def user() -> User:
    return User.objects.create_superuser("admin")


@pytest.fixture
async def service() -> AsyncIterator[EventService]:
    made = EventService()
    made.linger = 0.0
    made.register("diff", DiffLog)
    yield made
    await made.close_all()


def make_attempt(folder: Path) -> TaskAttempt:
    files = {
        "a.txt": "".join(BASE_LINES),
        "src/x.bin": "z\n",
        "src/deep er/b c.txt": "hello\n" * 20,
        "-option": "o\n",
    }
    repository = make_repository(folder / "repository", files)
    git(repository, "checkout", "-q", "-b", "other")
    (repository / "other.txt").write_text("o\n")
    (repository / "a.txt").write_text("".join(BASE_LINES[2:]))
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "other")
    git(repository, "checkout", "-q", "main")
    git(repository, "branch", "side")
    project = Project.objects.create(name=folder.name, repo_path=str(repository), target_branch="main")
    task = Task.objects.create(project=project, title="A task")
    attempt = TaskAttempt.objects.create(task=task, executor="demo", target_branch="main", branch="")
    made = worktrees.create(project, attempt.pk, task.title, "main")
    attempt.branch, attempt.base_commit, attempt.worktree = made.branch, made.base_commit, str(made.path)
    attempt.save()
    git(made.path, "branch", "topic")
    return attempt


@pytest.fixture
def attempt(tmp_path: Path) -> TaskAttempt:
    return make_attempt(tmp_path)


@pytest.fixture
def place(attempt: TaskAttempt) -> Path:
    return Path(str(attempt.worktree))


def descriptors() -> list[str]:
    """What the process has open, but for the database: SQLite keeps files open until all its connections let go."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{name}"))
        except FileNotFoundError:
            continue
    return [name for name in found if "sqlite" not in name]


def watching() -> int:
    return sum("inotify" in name for name in descriptors())


class TestSameAsGit:
    @pytest.mark.parametrize("seed", range(scaled(60, 2)))
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
        count = scaled(2000, 500)
        for number in range(count):
            (place / f"file{number}").write_text(f"{number}\n" * 20)
        client = DiffClient()
        async with client.reading(service, attempt.pk):
            assert len(client.state) == count
            assert client.names().index("message") < client.names().index("ready")
            (place / "file7").write_text("seven\n")
            await client.settles_at(place, attempt.base_commit)


class TestResume:
    async def test_only_what_changed_since(
        self, service: EventService, attempt: TaskAttempt, place: Path
    ) -> None:
        for name in ("one", "two", "three"):
            (place / name).write_text("1\n")
        client = DiffClient()
        async with client.reading(service, attempt.pk):
            assert len(client.state) == 3
        await asyncio.sleep(0.5)
        assert watching() == 0
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
        await asyncio.sleep(0.5)
        diff_log.saved_state(attempt.pk).unlink()
        async with client.reading(service, attempt.pk):
            assert client.names()[:2] == ["reset", "message"]
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

    async def test_opening_and_closing_leaks_nothing(
        self, service: EventService, attempt: TaskAttempt
    ) -> None:
        client = DiffClient()
        async with client.reading(service, attempt.pk):
            pass
        await client.until(lambda: not service.active_streams() and watching() == 0)
        before = len(descriptors())
        for _ in range(scaled(1000, 8)):
            async with DiffClient().reading(service, attempt.pk):
                pass
        await client.until(lambda: watching() == 0 and len(descriptors()) <= before + 2)
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
        self, service: EventService, attempt: TaskAttempt, place: Path, user: User
    ) -> None:
        repository = Path(attempt.task.project.repo_path)
        (place / "one").write_text("1\n")
        client = DiffClient()
        async with client.reading(service, attempt.pk):
            git(repository, "merge", "-q", "other")
            await client.until(lambda: client.latest("status") and client.latest("status")["behind"] == 1)
            rebased = await sync_to_async(finish.rebase)(attempt, user)
            await client.settles_at(place, rebased.base_commit)
            await client.until(lambda: client.latest("status")["behind"] == 0)
            assert set(client.state) == {"one"}

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
            await asyncio.to_thread(fill, place / "node_modules", scaled(50_000, 3000))
            log = service.log(f"diff:{attempt.pk}")
            assert isinstance(log, DiffLog) and isinstance(log.watcher, watch.InotifyWatcher)
            assert not any("node_modules" in path for path in log.watcher.watched())
            (place / "seen").write_text("2\n")
            await client.settles_at(place, attempt.base_commit)

    async def test_no_watches_left_polls_and_says_so(
        self, service: EventService, attempt: TaskAttempt, place: Path, few_watches: None
    ) -> None:
        client = DiffClient()
        async with client.reading(service, attempt.pk):
            assert "cannot watch" in client.latest("note")["message"]
            (place / "one").write_text("1\n")
            await client.settles_at(place, attempt.base_commit)

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


@pytest.fixture
def few_watches() -> Iterator[None]:
    """Uses up what the system has of inotify instances."""
    script = """
import sys
from inotify_simple import INotify
held = []
try:
    while True:
        held.append(INotify())
except OSError:
    sys.stdout.write("none left\\n")
    sys.stdout.flush()
    sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdin
        assert process.stdout.readline() == "none left\n"
        yield
        process.stdin.close()
