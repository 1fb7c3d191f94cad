"""The engine's counters as Prometheus reads them."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from events.service import EventService

CONTENT_TYPE = CONTENT_TYPE_LATEST


def exposition(service: "EventService") -> bytes:
    """All metrics of one service. Made at each request: nothing is kept twice."""
    registry = CollectorRegistry()
    registry.register(_Engine(service))
    return generate_latest(registry)


class _Engine(Collector):
    def __init__(self, service: "EventService") -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        yield from self._gauges()
        yield from self._counters()
        latency = self._service.metrics.latency
        yield HistogramMetricFamily(
            "events_publish_to_write_seconds",
            "From publishing a message until a reader's connection has taken it.",
            buckets=latency.buckets(),
            sum_value=latency.total,
        )

    def _gauges(self) -> Iterator[Metric]:
        rows = self._service.statistics()
        subscribers = GaugeMetricFamily("events_subscribers", "Open streams, by kind.", labels=["kind"])
        buffered = GaugeMetricFamily(
            "events_buffered_bytes", "Bytes held in memory, by kind.", labels=["kind"]
        )
        open_logs = GaugeMetricFamily("events_open_logs", "Logs that are open, by kind.", labels=["kind"])
        for kind in sorted({row.stream.partition(":")[0] for row in rows}):
            of_kind = [row for row in rows if row.stream.partition(":")[0] == kind]
            subscribers.add_metric([kind], sum(row.subscribers for row in of_kind))
            buffered.add_metric([kind], sum(row.bytes for row in of_kind))
            open_logs.add_metric([kind], len(of_kind))
        yield from (subscribers, buffered, open_logs)

    def _counters(self) -> Iterator[Metric]:
        metrics = self._service.metrics
        for name, value, help_text in (
            ("events_connections", metrics.opened, "Streams opened."),
            ("events_messages", self._service.published(), "Messages that entered a log in memory."),
            ("events_writes", metrics.chunks, "Writes to readers; under load one carries many messages."),
            ("events_bytes", metrics.bytes, "Bytes of messages written to readers."),
            ("events_resyncs", metrics.resyncs, "Readers that had to start over from a full state."),
            ("events_cut", metrics.cut, "Readers cut off because they took nothing, or had vanished."),
            ("events_refused", metrics.refused, "Requests over a limit of streams."),
        ):
            yield CounterMetricFamily(name, help_text, value=value)
