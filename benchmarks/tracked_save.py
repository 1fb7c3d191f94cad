"""What writing changes down costs: `python -m benchmarks.tracked_save`.

The same writes, on SQLite with the project's settings, with the models tracked and not; CPU time,
best of several rounds.
Then the whole document of 10,000 tasks: read and encoded, and given to one more reader.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

TASKS = 10_000
ROUNDS = 12
ROW = "{:<34}{:>12}{:>12}{:>8}"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        _set_up(folder)
        print(ROW.format("", "plain", "tracked", "ratio"))
        _small_writes()
        _bulk_writes()
        _documents()


def _set_up(folder: str) -> None:
    os.environ["VIBE_DATA"] = folder
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "vibe.settings")
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)


@contextmanager
def _untracked() -> Iterator[None]:
    from events.tracking import registry

    held = dict(registry)
    registry.clear()
    try:
        yield
    finally:
        registry.update(held)


def _compare(name: str, work: Callable[[], Any], times: int, rounds: int = ROUNDS) -> None:
    plain = tracked = float("inf")
    for _ in range(rounds):  # Taken in turns, so that a busy moment of the machine meets both.
        with _untracked():
            plain = min(plain, _seconds(work, times))
        tracked = min(tracked, _seconds(work, times))
    print(ROW.format(name, _shown(plain), _shown(tracked), f"{tracked / plain:.2f}"), flush=True)


def _seconds(work: Callable[[], Any], times: int) -> float:
    started = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - started) / times


def _shown(seconds: float) -> str:
    return f"{seconds * 1e6:.0f} µs" if seconds < 0.01 else f"{seconds * 1e3:.0f} ms"


def _small_writes() -> None:
    from django.db import transaction

    from tasks.models import Project, Task

    project = Project.objects.create(name="p", repo_path="/p", target_branch="main")
    task = Task.objects.create(project=project, title="0")

    def save(**options: Any) -> None:
        task.title = str(int(task.title) + 1)
        task.save(**options)

    def in_one_transaction() -> None:
        with transaction.atomic():
            for _ in range(20):
                save()

    _compare("save()", save, 100)
    _compare("save(update_fields=[…])", lambda: save(update_fields=["title"]), 100)
    _compare("create()", lambda: Task.objects.create(project=project, title="x"), 100)
    _compare("20 save() in one transaction", in_one_transaction, 5)
    _compare("update() of one", lambda: Task.objects.filter(pk=task.pk).update(title=str(time.time())), 100)
    Task.objects.all()._raw_delete("default")


def _bulk_writes() -> None:
    from tasks.models import Project, Task

    project = Project.objects.get()

    def create() -> None:
        Task.objects.bulk_create([Task(project=project, title=str(n)) for n in range(TASKS)])

    _compare(f"bulk_create() of {TASKS:,}", create, 1, rounds=2)
    Task.objects.all()._raw_delete("default")
    create()
    tasks = list(Task.objects.all())

    def update() -> None:
        for task in tasks:
            task.title += "x"
        Task.objects.bulk_update(tasks, ["title"])

    _compare(f"bulk_update() of {TASKS:,}", update, 1, rounds=2)
    _compare(f"update() of {TASKS:,}", lambda: Task.objects.update(title=str(time.time())), 1, rounds=2)


def _documents() -> None:
    from events.access import ALL
    from events.snapshot import Snapshots

    snapshots = Snapshots()
    first = _seconds(lambda: snapshots.get().document(ALL), 1)
    again = _seconds(lambda: snapshots.get().document(ALL), 20)
    size = len(snapshots.get().document(ALL))
    print(
        f"\nwhole document of {TASKS:,} tasks, {size / 1e6:.1f} MB: {_shown(first)}; for one more: {_shown(again)}"
    )


if __name__ == "__main__":
    sys.exit(main())
