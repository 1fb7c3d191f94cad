"""What the process has open."""

import os


def descriptors() -> list[str]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{name}"))
        except FileNotFoundError:
            continue
    return found


def few_more(before: list[str], now: list[str]) -> bool:
    """SQLite keeps the file of a closed connection for the next one, about one a thread, while others are open."""
    old, new = (sum("sqlite" in name for name in names) for names in (before, now))
    return new <= old + 5 and len(now) - new <= len(before) - old + 2


def watching() -> int:
    return sum("inotify" in name for name in descriptors())
