"""The log of a run as a stream, as pages, as text: by the real engine, on real files."""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from events.logs import Reader
from events.service import EventService
from tasks.errors import Refused
from tasks.logs import logstream, runlogs
from tasks.logs.logstream import RunLog
from tasks.models import ExecutionProcess, Executor, Project, Task, TaskAttempt
from tasks.runs import runfiles
from tasks.supervision.logreader import compress
from tasks.supervision.records import record
from tests.descriptors import room_for

pytestmark = pytest.mark.django_db(transaction=True)
STAMP = "2026-01-01T00:00:00.000000Z"


@pytest.fixture(autouse=True)
def data_folder(settings: Any, tmp_path: Path) -> Path:
    settings.VIBE_DATA = tmp_path
    return tmp_path


@pytest.fixture
def process(db: None) -> ExecutionProcess:
    project = Project.objects.create(name="Test", repo_path="/nowhere", target_branch="main")
    task = Task.objects.create(project=project, title="A task")
    attempt = TaskAttempt.objects.create(task=task, executor="talker", branch="b", target_branch="main")
    return ExecutionProcess.objects.create(task_attempt=attempt, run_reason="codingagent", status="running")


def write(process: ExecutionProcess, *contents: str, partial: bool = False) -> None:
    folder = runfiles.folder_of(process.pk)
    folder.make()
    with open(folder.log, "ab") as file:
        for content in contents:
            file.write(record("stdout", content, STAMP, partial=partial))


def scribble(process: ExecutionProcess, data: bytes) -> None:
    with open(runfiles.folder_of(process.pk).log, "ab") as file:
        file.write(data)


def end(process: ExecutionProcess, status: str = "completed", code: int | None = 0) -> None:
    runfiles.folder_of(process.pk).write_exit({"exit_code": code, "reason": "exited"})
    ExecutionProcess.objects.filter(pk=process.pk).update(status=status, exit_code=code)


class Frames:
    """The events of a subscription, one by one."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""
        self._ready: list[dict[str, str]] = []

    async def next(self) -> dict[str, str] | None:
        while not self._ready:
            try:
                self._rest += await asyncio.wait_for(anext(self._chunks), 20)
            except StopAsyncIteration:
                return None
            *whole, self._rest = self._rest.split(b"\n\n")
            fields = [dict(line.split(": ", 1) for line in one.decode().split("\n")) for one in whole]
            self._ready += [one for one in fields if "data" in one and one.get("event") != "heartbeat"]
        return self._ready.pop(0)

    async def take(self, count: int) -> list[dict[str, str]]:
        return [one for _ in range(count) if (one := await self.next()) is not None]

    async def all(self) -> list[dict[str, str]]:
        found = []
        while one := await self.next():
            found.append(one)
        return found


def contents(frames: list[dict[str, str]]) -> list[str]:
    return [json.loads(one["data"])["content"] for one in frames if "event" not in one]


async def read_all(
    process: ExecutionProcess, cursor: str | None = None, **query: str
) -> list[dict[str, str]]:
    service = EventService()
    service.register("logs", RunLog)
    async with service.subscribe(f"logs:{process.pk}", cursor, Reader(parameters=query)) as chunks:
        return await Frames(chunks).all()


async def test_an_ended_log_is_sent_whole_and_then_finished(process: ExecutionProcess) -> None:
    await asyncio.to_thread(write, process, *map(str, range(20_000)))
    await asyncio.to_thread(end, process, "failed", 3)
    frames = await read_all(process)
    assert contents(frames) == list(map(str, range(20_000)))
    assert frames[-1] == {
        "event": "finished",
        "id": f"{process.pk.hex[:8]}.end",
        "data": '{"status":"failed","exit_code":3}',
    }


async def test_every_cursor_gives_exactly_what_followed_it(process: ExecutionProcess) -> None:
    await asyncio.to_thread(write, process, "a", "", "é\r\x1b[1m", "b" * 300_000, "c")
    await asyncio.to_thread(end, process)
    whole = await read_all(process)
    for index, frame in enumerate(whole[:-1]):
        assert await read_all(process, frame["id"]) == whole[index + 1 :]
    assert await read_all(process, f"{process.pk.hex[:8]}.0") == whole


async def test_a_running_log_is_followed(process: ExecutionProcess) -> None:
    service = EventService()
    service.register("logs", RunLog)
    async with (
        service.subscribe(f"logs:{process.pk}") as first,
        service.subscribe(f"logs:{process.pk}") as second,
    ):
        one, two = Frames(first), Frames(second)
        for number in range(5):
            await asyncio.to_thread(write, process, str(number))
            began = asyncio.get_running_loop().time()
            assert contents(await one.take(1)) == [str(number)]
            assert asyncio.get_running_loop().time() - began < 5
        assert contents(await two.take(5)) == list("01234")
        await asyncio.to_thread(write, process, *map(str, range(30_000)))
        await asyncio.to_thread(end, process)
        assert contents(await one.all()) == contents(await two.all()) == list(map(str, range(30_000)))


def write_while_no_file_can_be_opened(process: ExecutionProcess, caplog: pytest.LogCaptureFixture) -> None:
    deadline = time.monotonic() + 20
    with open(runfiles.folder_of(process.pk).log, "ab", buffering=0) as file, room_for(0):
        file.write(record("stdout", "meanwhile", STAMP))
        while "cannot be read" not in caplog.text:
            assert time.monotonic() < deadline
            time.sleep(0.01)


async def test_a_log_that_cannot_be_read_for_a_while_goes_on_afterwards(
    process: ExecutionProcess, caplog: pytest.LogCaptureFixture
) -> None:
    await asyncio.to_thread(write, process, "before")
    service = EventService()
    service.register("logs", RunLog)
    async with service.subscribe(f"logs:{process.pk}") as chunks:
        frames = Frames(chunks)
        assert contents(await frames.take(1)) == ["before"]
        await asyncio.to_thread(write_while_no_file_can_be_opened, process, caplog)
        await asyncio.to_thread(end, process)
        found = await frames.all()
    assert contents(found) == ["meanwhile"]
    assert found[-1]["event"] == "finished"


async def test_a_log_goes_on_whatever_went_wrong(
    process: ExecutionProcess, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logstream, "_RETRY_SECONDS", 0)
    service = EventService()
    service.register("logs", RunLog)
    async with asyncio.timeout(20), service.subscribe(f"logs:{process.pk}") as chunks:
        frames = Frames(chunks)
        with monkeypatch.context() as patched:
            patched.setattr(RunLog, "_what_follows", lambda *_: 1 / 0)
            await asyncio.to_thread(write, process, "after all")
            while "ZeroDivisionError" not in caplog.text:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.01)
        assert contents(await frames.take(1)) == ["after all"]


async def test_a_reader_that_comes_late_and_slow_misses_nothing(process: ExecutionProcess) -> None:
    service = EventService()
    service.register("logs", RunLog)
    await asyncio.to_thread(write, process, *(f"{n} {'x' * 500}" for n in range(3000)))
    async with service.subscribe(f"logs:{process.pk}") as chunks:
        frames = Frames(chunks)
        found = await frames.take(10)
        for start in range(3000, 12_000, 3000):  # more than the ring holds, while it does not read
            await asyncio.to_thread(write, process, *(f"{n} {'x' * 500}" for n in range(start, start + 3000)))
            await asyncio.sleep(0.1)
        await asyncio.to_thread(end, process)
        found += await frames.all()
        assert [int(line.split()[0]) for line in contents(found)] == list(range(12_000))
        assert service.statistics()[0].bytes <= 3 * 1024 * 1024


async def test_tail_begins_with_the_last_records(process: ExecutionProcess) -> None:
    await asyncio.to_thread(write, process, *map(str, range(1000)))
    await asyncio.to_thread(end, process)
    assert contents(await read_all(process, tail="3")) == ["997", "998", "999"]
    assert contents(await read_all(process, tail="0")) == []
    assert len(contents(await read_all(process, tail="5000"))) == 1000
    assert len(contents(await read_all(process, tail="nonsense"))) == 1000
    assert len(contents(await read_all(process, tail="9" * 5000))) == 1000  # more digits than Python takes


@pytest.mark.parametrize(("before", "tail"), [(3, "0"), (0, "5")])
@pytest.mark.parametrize("cursor", [None, "unknown"])
async def test_a_tail_of_no_records_is_a_place_to_come_back_to(
    process: ExecutionProcess, before: int, tail: str, cursor: str | None
) -> None:
    await asyncio.to_thread(write, process, *["before"] * before)
    service = EventService()
    service.register("logs", RunLog)
    reader = Reader(parameters={"tail": tail})
    async with service.subscribe(f"logs:{process.pk}", cursor, reader) as chunks:
        said = [await asyncio.wait_for(anext(chunks), 20) for _ in range(2)]
    await asyncio.to_thread(write, process, *map(str, range(9)))
    await asyncio.to_thread(end, process)
    _, _, last = said[-1].decode().rpartition("id: ")
    assert contents(await read_all(process, last.strip(), tail=tail)) == list(map(str, range(9)))


@pytest.mark.parametrize("cursor", ["00000000.5", "x", "{own}.3", "{own}.999999", "{own}.abc", "{own}.-1"])
async def test_an_unknown_cursor_starts_over_and_says_so(process: ExecutionProcess, cursor: str) -> None:
    await asyncio.to_thread(write, process, "one", "two")
    await asyncio.to_thread(end, process)
    frames = await read_all(process, cursor.replace("{own}", process.pk.hex[:8]))
    assert (frames[0]["event"], frames[0]["id"]) == ("reset", f"{process.pk.hex[:8]}.0")
    assert contents(frames) == ["one", "two"]


async def test_a_finished_cursor_is_over(process: ExecutionProcess) -> None:
    log = RunLog(str(process.pk))
    assert not await log.is_over(f"{process.pk.hex[:8]}.end")
    await asyncio.to_thread(end, process)
    assert await log.is_over(f"{process.pk.hex[:8]}.end")
    assert not await log.is_over("00000000.end")


async def test_a_finished_cursor_is_over_though_a_full_disk_kept_nothing_of_the_end(
    process: ExecutionProcess,
) -> None:
    await asyncio.to_thread(write, process, "all there is")
    await ExecutionProcess.objects.filter(pk=process.pk).aupdate(status="interrupted")
    service = EventService()
    service.register("logs", RunLog)
    async with service.subscribe(f"logs:{process.pk}") as chunks:
        cursor = (await Frames(chunks).all())[-1]["id"]
    assert await service.log(f"logs:{process.pk}").is_over(cursor)
    assert not await service.log(f"logs:{process.pk}").is_over(f"{process.pk.hex[:8]}.0")


async def test_half_a_record_is_not_sent_and_garbage_is_passed_over(process: ExecutionProcess) -> None:
    await asyncio.to_thread(write, process, "one")
    await asyncio.to_thread(scribble, process, b'somebody typed this\n{"type":"stdout","content":"hal')
    await asyncio.to_thread(end, process)
    assert contents(await read_all(process)) == ["one"]


@pytest.mark.parametrize("torn", [b'{"type":"stdout","content":"a', b'{"type":"stdout","content":"a\0\0'])
def test_what_was_written_behind_half_a_record_is_passed_over_with_it(
    process: ExecutionProcess, torn: bytes
) -> None:
    write(process, "one")
    scribble(process, torn)
    if torn.endswith(b"\0"):
        scribble(process, b'","timestamp":"2026-01-01T00:00:00.000000Z"}\n')
    else:
        write(process, "lost")
    write(process, 'says {"type":"', "two")
    kept = ["one", 'says {"type":"', "two"]
    assert [one["content"] for one in runlogs.page(process, before=None, after=None, limit=9)] == kept
    end(process)
    assert contents(asyncio.run(read_all(process))) == kept


@pytest.mark.parametrize("left", [0, 10])
@pytest.mark.parametrize("view", ["", "conversation"])
async def test_who_reads_a_log_that_is_cut_starts_over(
    process: ExecutionProcess, left: int, view: str
) -> None:
    kept, said = list(map(str, range(left))), "content" if view == "" else "text"
    await asyncio.to_thread(write, process, *kept)
    folder = runfiles.folder_of(process.pk)
    size = len(b"".join(record("stdout", content, STAMP) for content in kept))
    await asyncio.to_thread(write, process, *"abcdefghij")
    service = EventService()
    service.register("logs", RunLog)
    async with service.subscribe(f"logs:{process.pk}", None, Reader(parameters={"view": view})) as chunks:
        frames = Frames(chunks)
        await frames.take(left + 10)
        os.truncate(folder.log, size)
        reset = (await asyncio.wait_for(frames.take(1), 20))[0]
        assert (reset["event"], reset["id"]) == ("reset", f"{process.pk.hex[:8]}.0")
        await asyncio.to_thread(write, process, "after")
        found = await frames.take(left + 1)
        assert [json.loads(one["data"])[said] for one in found] == [*kept, "after"]
        async with service.subscribe(f"logs:{process.pk}", found[left // 2]["id"]) as resumed:
            again = contents(await Frames(resumed).take(left - left // 2))
            assert again == [*kept, "after"][left // 2 + 1 :]
        await asyncio.to_thread(end, process)
        assert (await frames.all())[-1]["event"] == "finished"


@pytest.mark.parametrize("left", [0, 10])
async def test_who_still_reads_a_log_that_is_cut_or_deleted_after_its_end_starts_over(
    process: ExecutionProcess, monkeypatch: pytest.MonkeyPatch, left: int
) -> None:
    monkeypatch.setattr(logstream, "_RETRY_SECONDS", 0.05)
    await asyncio.to_thread(write, process, *(f"{n:04d} {'x' * 500}" for n in range(3000)))
    await asyncio.to_thread(end, process)
    log = runfiles.folder_of(process.pk).log
    service = EventService()
    service.register("logs", RunLog)
    async with service.subscribe(f"logs:{process.pk}") as chunks:
        frames = Frames(chunks)
        await frames.take(1)
        if left:
            os.truncate(log, left * len(record("stdout", "0000 " + "x" * 500, STAMP)))
        else:
            os.unlink(log)
        found = await asyncio.wait_for(frames.all(), 20)
    again = next(place for place, frame in enumerate(found) if frame.get("event") == "reset")
    assert contents(found[again:]) == [f"{n:04d} {'x' * 500}" for n in range(left)]
    assert found[-1]["event"] == "finished"


async def test_who_reads_a_log_that_is_deleted_and_put_back_sees_nothing_of_it(
    process: ExecutionProcess,
) -> None:
    await asyncio.to_thread(write, process, "one")
    log = runfiles.folder_of(process.pk).log
    service = EventService()
    service.register("logs", RunLog)
    async with service.subscribe(f"logs:{process.pk}") as chunks:
        frames = Frames(chunks)
        await frames.take(1)
        os.rename(log, f"{log}.restored")
        await asyncio.sleep(0.2)
        os.rename(f"{log}.restored", log)
        await asyncio.to_thread(write, process, "two")
        assert contents(await frames.take(1)) == ["two"]


async def test_a_compressed_log_reads_as_before(process: ExecutionProcess) -> None:
    await asyncio.to_thread(write, process, *(f"{n} {'x' * 300}" for n in range(5000)))
    await asyncio.to_thread(end, process)
    plain = await read_all(process)
    pages = runlogs.page(process, before=None, after=None, limit=50)
    compress(runfiles.folder_of(process.pk).path)
    assert await read_all(process) == plain
    assert await read_all(process, plain[2500]["id"]) == plain[2501:]
    assert runlogs.page(process, before=None, after=None, limit=50) == pages


# -- pages and text ----------------------------------------------------------------------------


def test_pages_from_the_newest_back_and_forth(process: ExecutionProcess) -> None:
    write(process, *map(str, range(25)))
    newest = runlogs.page(process, before=None, after=None, limit=10)
    assert [one["content"] for one in newest] == [str(n) for n in range(15, 25)]
    older = runlogs.page(process, before=newest[0]["id"], after=None, limit=10)
    assert [one["content"] for one in older] == [str(n) for n in range(5, 15)]
    oldest = runlogs.page(process, before=older[0]["id"], after=None, limit=10)
    assert [one["content"] for one in oldest] == [str(n) for n in range(5)]
    assert runlogs.page(process, before=oldest[0]["id"], after=None, limit=10) == []
    assert runlogs.page(process, before=None, after=older[-1]["id"], limit=10) == newest
    assert runlogs.page(process, before=newest[0]["id"], after=oldest[-1]["id"], limit=99) == older
    first = runlogs.first_cursor(process)
    assert runlogs.page(process, before=None, after=first, limit=5) == oldest
    assert runlogs.page(process, before=None, after=newest[-1]["id"], limit=5) == []
    over = f"{process.pk.hex[:8]}.end"
    assert runlogs.page(process, before=over, after=None, limit=10) == newest
    assert runlogs.page(process, before=None, after=over, limit=10) == []


def test_a_page_of_a_run_without_output_is_empty(process: ExecutionProcess) -> None:
    assert runlogs.page(process, before=None, after=None, limit=10) == []


@pytest.mark.parametrize(
    "cursor",
    [
        "nonsense",
        "00000000.0",
        "{own}.3",
        "{own}.99999",
        "{own}.9" + "9" * 30,
        pytest.param("{own}." + "9" * 5000, id="very long"),
    ],
)
def test_a_cursor_that_is_no_place_is_refused(process: ExecutionProcess, cursor: str) -> None:
    write(process, "one")
    with pytest.raises(Refused) as refusal:
        runlogs.page(process, before=None, after=cursor.replace("{own}", process.pk.hex[:8]), limit=1)
    assert refusal.value.status == 422


async def test_a_prompt_is_a_record_of_three_fields_whose_id_says_that_its_line_goes_on(
    process: ExecutionProcess,
) -> None:
    def prepare() -> list[dict[str, Any]]:
        write(process, "name? ", partial=True)
        write(process, "Ada", "next")
        end(process)
        return runlogs.page(process, before=None, after=None, limit=10)

    page = await asyncio.to_thread(prepare)
    frames = await read_all(process)
    assert contents(frames) == ["name? ", "Ada", "next"]
    assert [set(json.loads(one["data"])) for one in frames[:3]] == [{"type", "content", "timestamp"}] * 3
    assert [one["id"].endswith("p") for one in frames[:3]] == [True, False, False]
    assert await read_all(process, frames[0]["id"]) == frames[1:]
    assert [one["id"] for one in page] == [one["id"] for one in frames[:3]]
    assert [one.get("partial") for one in page] == [True, None, None]
    rest = await asyncio.to_thread(runlogs.page, process, before=None, after=page[0]["id"], limit=10)
    assert rest == page[1:]


async def test_the_download_is_what_was_printed(process: ExecutionProcess) -> None:
    await asyncio.to_thread(write, process, "name? ", partial=True)
    await asyncio.to_thread(write, process, "Ada", *(["line é"] * 50_000))
    response = runlogs.download(process)
    text = b"".join([part async for part in response]).decode()
    assert text == "name? Ada\n" + "line é\n" * 50_000


async def test_the_download_goes_on_behind_much_garbage(process: ExecutionProcess) -> None:
    await asyncio.to_thread(write, process, "one")
    await asyncio.to_thread(scribble, process, b"garbage\n" * 100_000)
    await asyncio.to_thread(write, process, "two")
    text = b"".join([part async for part in runlogs.download(process)])
    assert text == b"one\ntwo\n"


# -- conversation ------------------------------------------------------------------------------

_TALK = [
    '{"type":"system","subtype":"init","session_id":"s1","model":"m"}',
    '{"type":"assistant","message":{"role":"assistant","content":[{"type":"text","text":"Hi"},'
    '{"type":"tool_use","id":"t1","name":"Bash","input":{"command":"ls"}}]}}',
    "not JSON at all",
]


async def test_the_conversation_view_resumes_between_the_entries_of_one_record(
    process: ExecutionProcess,
) -> None:
    def prepare() -> None:
        Executor.objects.create(name="talker", argv=["talker"], output_format="claude")
        write(process, _TALK[0])
        write(process, _TALK[1][:30], partial=True)
        write(process, _TALK[1][30:], _TALK[2])
        end(process)

    await asyncio.to_thread(prepare)
    whole = await read_all(process, view="conversation")
    kinds = [json.loads(one["data"])["kind"] for one in whole[:-1]]
    assert kinds == ["system", "message", "tool", "raw"]
    assert whole[-1]["event"] == "finished"
    for index, frame in enumerate(whole[:-1]):
        assert await read_all(process, frame["id"], view="conversation") == whole[index + 1 :]


async def test_lines_that_came_in_parts_and_mixed_are_whole_again(process: ExecutionProcess) -> None:
    def prepare() -> None:
        folder = runfiles.folder_of(process.pk)
        folder.make()
        with open(folder.log, "ab") as file:
            for kind, content, partial in (
                *(("stdout", "one ", True), ("stderr", "warn", True), ("stdout", "two", False)),
                *(("system", "note", False), ("stderr", "ing", False), ("stdout", "three", True)),
            ):
                file.write(record(kind, content, STAMP, partial=partial))
        end(process)

    await asyncio.to_thread(prepare)
    whole = await read_all(process, view="conversation")
    assert [json.loads(one["data"])["text"] for one in whole[:-1]] == ["one two", "warning", "note", "three"]
    for index, frame in enumerate(whole[:-1]):
        assert await read_all(process, frame["id"], view="conversation") == whole[index + 1 :]


async def test_a_line_that_still_goes_on_waits_in_the_conversation_view(process: ExecutionProcess) -> None:
    await asyncio.to_thread(Executor.objects.create, name="talker", argv=["t"], output_format="claude")
    service = EventService()
    service.register("logs", RunLog)
    async with service.subscribe(
        f"logs:{process.pk}", None, Reader(parameters={"view": "conversation"})
    ) as chunks:
        frames = Frames(chunks)
        await asyncio.to_thread(write, process, _TALK[0][:20], partial=True)
        await asyncio.sleep(0.3)
        await asyncio.to_thread(write, process, _TALK[0][20:])
        assert json.loads((await frames.take(1))[0]["data"])["kind"] == "system"


def test_conversation_pages(process: ExecutionProcess) -> None:
    Executor.objects.create(name="talker", argv=["talker"], output_format="claude")
    write(process, *_TALK)
    found = runlogs.page(process, before=None, after=None, limit=10, view="conversation")
    assert [one["kind"] for one in found] == ["system", "message", "tool", "raw"]


async def test_conversation_pages_join_without_gap_or_repeat(process: ExecutionProcess) -> None:
    def prepare() -> None:
        Executor.objects.create(name="talker", argv=["talker"], output_format="claude")
        write(process, *_TALK * 3, '{"type":"system","subtype":"thinking_tokens"}')
        end(process)
        process.refresh_from_db()

    def page(before: str | None = None, after: str | None = None, limit: int = 100) -> list[dict[str, Any]]:
        return runlogs.page(process, before=before, after=after, limit=limit, view="conversation")

    await asyncio.to_thread(prepare)
    whole = await asyncio.to_thread(page)
    assert len(whole) == 12
    assert [one["id"] for one in whole] == [
        one["id"] for one in (await read_all(process, view="conversation"))[:-1]
    ]
    for limit in (1, 2, 5):
        assert await asyncio.to_thread(page, limit=limit) == whole[-limit:]
        for index, entry in enumerate(whole):
            assert await asyncio.to_thread(page, after=entry["id"], limit=limit) == whole[index + 1 :][:limit]
            earlier = await asyncio.to_thread(page, before=entry["id"], limit=limit)
            assert earlier == whole[max(0, index - limit) : index]


async def test_a_line_that_never_ends_is_shown_in_parts_of_the_conversation(
    process: ExecutionProcess,
) -> None:
    def prepare() -> None:
        for number in range(2500):
            write(process, f"{number}%\r", partial=True)
        end(process)

    await asyncio.to_thread(prepare)
    texts = [json.loads(one["data"])["text"] for one in (await read_all(process, view="conversation"))[:-1]]
    assert [text.count("\r") for text in texts] == [1000, 1000, 500]
