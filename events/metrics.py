"""What the engine counts. Plain numbers, written by one event loop; `/metrics` shows them."""

from bisect import bisect_left
from typing import Final

LATENCY_BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Upper bounds in seconds."""


class Histogram:
    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(LATENCY_BOUNDS) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(LATENCY_BOUNDS, seconds)] += 1
        self.total += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative counts by upper bound, as Prometheus wants them."""
        found, running = [], 0
        for bound, count in zip((*map(str, LATENCY_BOUNDS), "+Inf"), self.counts, strict=True):
            running += count
            found.append((bound, float(running)))
        return found


class Metrics:
    """Counters since the process started."""

    __slots__ = ("bytes", "chunks", "cut", "latency", "opened", "refused", "resyncs")

    def __init__(self) -> None:
        self.opened = 0
        self.chunks = 0
        self.bytes = 0
        self.resyncs = 0
        """Readers that had to start over from a full state."""
        self.cut = 0
        """Readers that were cut off because they took nothing for too long."""
        self.refused = 0
        """Requests that were over a limit."""
        self.latency = Histogram()
        """From publishing to handing the bytes to the server."""
