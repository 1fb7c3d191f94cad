"""Logs of runs: a million lines through a real supervisor, and replay by size.

`python -m benchmarks.run_logs` prints a table. Run it on a machine that does nothing else.
"""

import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINES = 1_000_000
_PROGRAM = "import sys; w = sys.stdout.write\nfor i in range({count}): w(f'{{i:08d}} ' + 'x' * 90 + '\\n')"


def start_supervisor(folder: Path, argv: list[str]) -> float:
    """Seconds until the child runs."""
    folder.mkdir(parents=True)
    spec = {
        "argv": argv,
        "cwd": str(folder),
        "stdin": None,
        "timeout": None,
        "graces": [1, 1],
        "max_message_bytes": 1024**2,
        "max_log_bytes": 1024**4,
        "disk_wait": 60,
    }
    (folder / "spec.json").write_text(json.dumps(spec))
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-I", "-S", str(ROOT / "tasks" / "supervisor.py"), str(folder)], check=True
    )
    return time.perf_counter() - began


def wait_for_end(folder: Path) -> dict[str, object]:
    while not (folder / "exit.json").exists():
        time.sleep(0.01)
    found: dict[str, object] = json.loads((folder / "exit.json").read_text())
    return found


def memory_of(pid: int) -> float:
    """The most a living process has held, in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return 0.0


def measure_supervisor(folder: Path) -> list[tuple[str, str]]:
    starts = []
    for number in range(10):
        starts.append(start_supervisor(folder / f"start{number}", ["/bin/sh", "-c", "true"]))
        wait_for_end(folder / f"start{number}")
    run = folder / "lines"
    start_supervisor(run, [sys.executable, "-c", _PROGRAM.format(count=LINES)])
    pid = json.loads((run / "supervisor.json").read_text())["pid"]
    memory = 0.0
    while not (run / "exit.json").exists():
        try:
            memory = max(memory, memory_of(pid))
        except FileNotFoundError:
            break
        time.sleep(0.02)
    ended = wait_for_end(run)
    seconds = float(str(ended["seconds"]))
    kept = sum(1 for _ in (run / "log.jsonl").open("rb"))
    return [
        ("supervisor: start to running child, median of 10", f"{sorted(starts)[5] * 1000:.0f} ms"),
        ("supervisor: memory at its highest, while a million lines pass", f"{memory:.1f} MB"),
        (f"child to log: {kept:,} of {LINES:,} lines, 100 MB", f"{LINES / seconds:,.0f} lines/s"),
    ]


def write_log(folder: Path, megabytes: int) -> None:
    from tasks.supervision.records import record

    folder.mkdir(parents=True, exist_ok=True)
    line = record("stdout", "x" * 90, "2026-01-01T00:00:00.000000Z")
    block = line * (1024 * 1024 // len(line))
    with (folder / "log.jsonl").open("wb") as file:
        for _ in range(megabytes):
            file.write(block)


async def replay(process_id: str) -> tuple[float, float, int]:
    """Seconds to the first record and to the end, and bytes, of one stream from the first record on."""
    from events.service import EventService
    from tasks.logs.logstream import RunLog

    service = EventService()
    service.register("logs", RunLog)
    began, first, size = time.perf_counter(), 0.0, 0
    async with service.subscribe(f"logs:{process_id}") as chunks:
        async for chunk in chunks:
            size += len(chunk)
            if not first and b"data:" in chunk:
                first = time.perf_counter() - began
            if b"event: finished" in chunk:
                break
    return first, time.perf_counter() - began, size


def measure_replay(data: Path) -> list[tuple[str, str]]:
    from tasks.supervision.logreader import LineIndex, LogReader
    from tasks.supervision.search import search

    rows = []
    for megabytes in (1, 10, 100):
        key = str(uuid.uuid4())
        folder = data / "runs" / key
        write_log(folder, megabytes)
        first, seconds, size = asyncio.run(replay(key))
        rows.append(
            (
                f"replay of {megabytes} MB: first record, whole, rate",
                f"{first * 1000:.0f} ms, {seconds:.2f} s, {size / seconds / 1e6:,.0f} MB/s",
            )
        )
    began = time.perf_counter()
    index = LineIndex(LogReader(folder))
    index.offset(index.total() // 2)
    rows.append(
        ("a line in the middle of 100 MB, first look", f"{(time.perf_counter() - began) * 1000:.0f} ms")
    )
    began = time.perf_counter()
    index.offset(index.total() // 3)
    rows.append(("another line", f"{(time.perf_counter() - began) * 1000:.1f} ms"))
    began = time.perf_counter()
    list(search(str(folder), "nothing like it"))
    rows.append(("search through 100 MB", f"{time.perf_counter() - began:.2f} s"))
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    rows.append(("memory of the reading process at its highest", f"{most:.0f} MB"))
    return rows


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="vibe-bench-") as name:
        data = Path(name)
        os.environ["VIBE_DATA"] = name
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "vibe.settings")
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0)
        print("| logs of runs | |\n| --- | --- |")
        for what, value in measure_supervisor(data / "supervisor") + measure_replay(data):
            print(f"| {what} | {value} |")


if __name__ == "__main__":
    main()
