"""What Prometheus reads. Every metric stands in docs/metrics.md; a label never holds an SKU or other people's words.

Events are counted when they happen. A state is either set by the service that counts it anyway (the heartbeat, the
gauge reader, the capture's checks) or read from memory at each scrape (`live`): a scrape never waits.
"""

from collections.abc import Callable, Collection, Iterable
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from daemon import __version__
from daemon.core.exposure import REASONS, Reason
from daemon.core.outcome import GONE, Kind

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

LATENCY_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
"""From a change that is sent at once to an outage of ten minutes; the usual one waits debounce.quiet_s first."""
DURATION_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
LAG_S: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

OUTCOMES: Final = (*Kind, GONE)
"""How an attempt can end."""

_CHANNEL: Final = ("channel",)

GAUGES: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "stockrelay_skus": ("SKUs in the ledger.", _CHANNEL),
    "stockrelay_backlog_skus": ("SKUs whose newest number the marketplace has not acknowledged.", _CHANNEL),
    "stockrelay_in_flight_attempts": ("Requests that are under way.", _CHANNEL),
    "stockrelay_doubt_skus": ("SKUs of which the marketplace may hold an older number.", _CHANNEL),
    "stockrelay_parked_skus": ("SKUs that wait for a person.", _CHANNEL),
    "stockrelay_shadowed_skus": ("Numbers that would be sent if the channel were not in shadow.", _CHANNEL),
    "stockrelay_held_skus": ("Numbers that the guard holds.", _CHANNEL),
    "stockrelay_oldest_change_age_seconds": ("Age of the oldest change not acknowledged.", _CHANNEL),
    "stockrelay_counted_timestamp_seconds": ("When the ledger was counted, unix time.", _CHANNEL),
    "stockrelay_reconcile_ended_timestamp_seconds": ("When the last reconcile ended, unix time.", _CHANNEL),
    "stockrelay_reconcile_complete": ("1 if the last reconcile was complete, 0 if given up.", _CHANNEL),
    "stockrelay_reconcile_open_differences": ("Differences that are not resolved.", _CHANNEL),
    "stockrelay_sync_left_skus": ("SKUs that the sync under way has not sent yet.", _CHANNEL),
    "stockrelay_notices_waiting": ("Notices that have not reached every receiver yet.", ()),
    "stockrelay_notices_oldest_age_seconds": ("How long the oldest of them waits.", ()),
    "stockrelay_notices_given_up": ("Notices of the last 7 days that were given up.", ()),
    "stockrelay_database_clock_offset_seconds": ("How far the database's clock is ahead of ours.", ()),
    "stockrelay_capture_healthy": ("1 if this check of the capture passed.", ("check",)),
}
"""What is set: the help text and the labels."""

LIVE: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "stockrelay_ready": ("1 while the replica can do its work.", ()),
    "stockrelay_stalled_loops": ("Loops that did not run when they should have.", ()),
    "stockrelay_log_lines_dropped": ("Lines of the log that could not be written, or not in time.", ()),
    "stockrelay_log_stalled_seconds": ("For how long the log's reader has taken nothing that waits.", ()),
    "stockrelay_listener_up": ("1 while the doorbell is listened for.", ()),
    "stockrelay_slots_owned": ("Slots of the channel, of 16, that this replica serves.", _CHANNEL),
    "stockrelay_channel_paused": ("1 while an operator has paused the channel.", _CHANNEL),
    "stockrelay_channel_in_trouble": ("1 while the channel cannot be used.", _CHANNEL),
    "stockrelay_listing_failing": ("1 while the channel's listing does not work.", _CHANNEL),
    "stockrelay_token_remaining_seconds": ("How long the marketplace's token is still valid.", _CHANNEL),
    "stockrelay_marketplace_clock_offset_seconds": (
        "How far the marketplace's clock is ahead of ours.",
        _CHANNEL,
    ),
    "stockrelay_intake_read_timestamp_seconds": ("When the change log was read last, unix time.", ()),
    "stockrelay_intake_changes": ("Changes that this replica read from the change log.", ()),
    "stockrelay_intake_resyncs": ("Comparisons of everything that this replica made.", ()),
}
"""What is asked for when it is read: the help text and the labels."""
_LIVE_COUNTERS: Final = {
    "stockrelay_log_lines_dropped",
    "stockrelay_intake_changes",
    "stockrelay_intake_resyncs",
}

Read = Callable[[], float | None]

# Otherwise each series gets a second one with its creation time, which nothing uses.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Live(Collector):
    """Values that are asked for when they are read. One that is None has no sample: it is not known now."""

    def __init__(self) -> None:
        self._reads: dict[str, list[tuple[tuple[str, ...], Read]]] = {name: [] for name in LIVE}

    def follow(self, name: str, read: Read, *labels: str) -> None:
        """Say where a value of LIVE comes from."""
        self._reads[name].append((labels, read))

    def collect(self) -> Iterable[Metric]:
        for name, (help_text, label_names) in LIVE.items():
            family = CounterMetricFamily if name in _LIVE_COUNTERS else GaugeMetricFamily
            metric = family(name, help_text, labels=label_names)
            for labels, read in self._reads[name]:
                if (value := read()) is not None:
                    metric.add_metric(labels, value)
            yield metric


class Metrics:
    """All metrics of this process, in a registry of its own.

    What is counted of `channels` begins at 0: a rate needs a series from before its first increase.
    """

    def __init__(self, channels: Collection[str]) -> None:
        self.registry = CollectorRegistry()
        self.live = Live()
        self.registry.register(self.live)
        ProcessCollector(registry=self.registry)
        self._gauges = {name: Gauge(name, *about, registry=self.registry) for name, about in GAUGES.items()}
        build = Gauge(
            "stockrelay_build_info", "The release that runs; always 1.", ["version"], registry=self.registry
        )
        build.labels(__version__).set(1)
        self._lag = self._histogram(
            "stockrelay_event_loop_lag_seconds", "How late the event loop wakes a task.", LAG_S
        )
        self._declare_deliveries(channels)
        exposure = Counter(
            "stockrelay_exposure_unit_seconds_total",
            "Units times seconds in which the marketplace could sell too many (over) or too few (lost).",
            ["channel", "kind", "reason"],
            registry=self.registry,
        )
        self._exposure = {
            (channel, kind, reason): exposure.labels(channel, kind, reason)
            for channel in channels
            for kind in ("over", "lost")
            for reason in REASONS
        }

    def _declare_deliveries(self, channels: Collection[str]) -> None:
        attempts = Counter(
            "stockrelay_attempts_total",
            "Requests to the marketplace, one for each SKU in them, by outcome.",
            ["channel", "outcome"],
            registry=self.registry,
        )
        durations = self._histogram(
            "stockrelay_attempt_duration_seconds", "How long a request took.", DURATION_S, "channel"
        )
        latencies = self._histogram(
            "stockrelay_delivery_latency_seconds",
            "From the oldest change that a number answers to the marketplace's acknowledgement.",
            LATENCY_S,
            "channel",
        )
        # Looking a series up by its labels costs four times as much as counting.
        self._attempts = {
            (channel, outcome): attempts.labels(channel, outcome)
            for channel in channels
            for outcome in OUTCOMES
        }
        self._durations = {channel: durations.labels(channel) for channel in channels}
        self._latencies = {channel: latencies.labels(channel) for channel in channels}

    def page(self) -> bytes:
        """Return all of them in Prometheus's text format."""
        return generate_latest(self.registry)

    def attempted(self, channel: str, outcome: str, duration_s: float | None) -> None:
        """An attempt has ended: `outcome` is one of OUTCOMES; `duration_s` is None for one that was never sent."""
        self._attempts[channel, outcome].inc()
        if duration_s is not None:
            self._durations[channel].observe(duration_s)

    def delivered(self, channel: str, latency_s: float) -> None:
        """The marketplace has acknowledged a number, `latency_s` seconds after the oldest change that it answers."""
        self._latencies[channel].observe(latency_s)

    def exposed(self, channel: str, reason: Reason, over: float, lost: float) -> None:
        """Unit-seconds of exposure were added up."""
        self._exposure[channel, "over", reason].inc(over)
        self._exposure[channel, "lost", reason].inc(lost)

    def latencies(self, channel: str) -> tuple[int, float]:
        """Return how many numbers were acknowledged since the start, and the sum of their latencies in seconds."""
        (family,) = self._latencies[channel].collect()
        count, total = (
            sum(sample.value for sample in family.samples if sample.name.endswith(end))
            for end in ("_count", "_sum")
        )
        return int(count), total

    def loop_lagged(self, lag_s: float) -> None:
        """The event loop woke a task `lag_s` late."""
        self._lag.observe(lag_s)

    def set(self, name: str, value: float, *labels: str) -> None:
        """Set one of GAUGES."""
        gauge = self._gauges[name]
        (gauge.labels(*labels) if labels else gauge).set(value)

    def _histogram(self, name: str, help_text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(name, help_text, labels, buckets=buckets, registry=self.registry)
