"""What Prometheus reads. Every metric stands in docs/metrics.md; a label never holds an SKU or other people's words.

What happens is counted when it happens. What is so is either told by those who count it anyway (the heartbeat, the
gauge reader) or asked for when it is read (`live`), from memory alone: a scrape never waits.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
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
from daemon.core.outcome import GONE, Kind

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

LATENCY_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
"""From a change that is sent at once to an outage of ten minutes; the usual one waits debounce.quiet_s first."""
DURATION_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
LAG_S: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

OUTCOMES: Final = (*Kind, GONE)
"""What an attempt can come to."""

Read = Callable[[], float | None]

# Otherwise each series gets a second one with its creation time, which nothing uses.
disable_created_metrics()  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class Counted:
    """One channel's ledger in numbers; `oldest_s` is the age of the oldest change that nobody has acknowledged."""

    skus: int
    backlog: int
    in_flight: int
    doubt: int
    parked: int
    held: int
    oldest_s: float


class Live(Collector):
    """Values that are asked for when they are read. One that is None has no sample: it is not known now.

    `declared` holds the names of each value's labels.
    """

    def __init__(self) -> None:
        self._read: dict[str, list[tuple[tuple[str, ...], Read]]] = {}
        self._families: dict[str, Callable[[], GaugeMetricFamily | CounterMetricFamily]] = {}
        self.declared: dict[str, tuple[str, ...]] = {}

    def gauge(self, name: str, help_text: str, labels: tuple[str, ...] = ()) -> None:
        """Declare a value that goes up and down."""
        self._declare(name, labels, lambda: GaugeMetricFamily(name, help_text, labels=labels))

    def counter(self, name: str, help_text: str) -> None:
        """Declare a value that only rises."""
        self._declare(name, (), lambda: CounterMetricFamily(name, help_text))

    def _declare(
        self,
        name: str,
        labels: tuple[str, ...],
        family: Callable[[], GaugeMetricFamily | CounterMetricFamily],
    ) -> None:
        self.declared[name] = labels
        self._families[name] = family
        self._read[name] = []

    def follow(self, name: str, read: Read, *labels: str) -> None:
        """Say where a declared value comes from."""
        self._read[name].append((labels, read))

    def collect(self) -> Iterable[Metric]:
        """Ask for every value."""
        for name, reads in self._read.items():
            family = self._families[name]()
            for labels, read in reads:
                if (value := read()) is not None:
                    family.add_metric(labels, value)
            yield family


class Metrics:
    """All metrics of this process, in a registry of its own.

    Set by dispatch after every attempt, by the heartbeat, the gauge reader, the loop watch and the capture's checks.
    What is counted of `channels` begins at 0: a rate needs a series from before its first increase.
    """

    def __init__(self, channels: Iterable[str]) -> None:
        self.registry = CollectorRegistry()
        self.live = Live()
        self._declare_live()
        self._declare_deliveries()
        self._declare_ledger()
        self._declare_rest()
        self.registry.register(self.live)
        ProcessCollector(registry=self.registry)
        build = self._gauge("build_info", "The release that runs; always 1.", "version")
        build.labels(__version__).set(1)
        for channel in channels:
            self._durations_of[channel] = self._durations.labels(channel)
            self._latencies_of[channel] = self._latencies.labels(channel)
            for outcome in OUTCOMES:
                self._attempts_of[channel, outcome] = self._attempts.labels(channel, outcome)

    def page(self) -> bytes:
        """Return all of them in Prometheus's text format."""
        return generate_latest(self.registry)

    # What dispatch tells

    def attempted(self, channel: str, outcome: str, duration_s: float | None) -> None:
        """An attempt has ended: `outcome` is one of OUTCOMES; `duration_s` is None for one that was never sent."""
        self._attempts_of[channel, outcome].inc()
        if duration_s is not None:
            self._durations_of[channel].observe(duration_s)

    def delivered(self, channel: str, latency_s: float) -> None:
        """The marketplace has acknowledged a number, `latency_s` seconds after the oldest change that it answers."""
        self._latencies_of[channel].observe(latency_s)

    # What others count

    def counted(self, channel: str, at: float, counted: Counted) -> None:
        """How a channel's ledger stood at `at` (unix seconds)."""
        for name, gauge in self._ledger.items():
            gauge.labels(channel).set(getattr(counted, name))
        self._counted_at.labels(channel).set(at)

    def reconciled(self, channel: str, ended_at: float, *, is_complete: bool) -> None:
        """How the last reconcile that is over ended, and when (unix seconds)."""
        self._reconcile_ended.labels(channel).set(ended_at)
        self._reconcile_complete.labels(channel).set(is_complete)

    def differences_counted(self, channel: str, *, open_differences: int, sync_left: int) -> None:
        """What else goes on with a channel."""
        self._differences.labels(channel).set(open_differences)
        self._sync_left.labels(channel).set(sync_left)

    def notices_counted(self, waiting: int, oldest_s: float, given_up: int) -> None:
        """How many notices wait to be delivered, for how long the oldest, and how many were given up lately."""
        self._notices.set(waiting)
        self._notices_age.set(oldest_s)
        self._notices_lost.set(given_up)

    def database_clock_measured(self, ahead_s: float) -> None:
        """How far the database's clock is ahead of this machine's."""
        self._clock.set(ahead_s)

    def loop_lagged(self, lag_s: float) -> None:
        """The event loop woke a task `lag_s` late."""
        self._lag.observe(lag_s)

    def capture_checked(self, check: str, *, is_healthy: bool) -> None:
        """What a look at the capture found; `check` is one of a few fixed names."""
        self._capture.labels(check).set(is_healthy)

    # What there is

    def _declare_live(self) -> None:
        live, channel = self.live, ("channel",)
        live.gauge("stockrelay_ready", "1 while the replica can do its work.")
        live.gauge("stockrelay_stalled_loops", "Loops that did not turn when they should have.")
        live.counter(
            "stockrelay_log_lines_dropped", "Lines of the log that could not be written, or not in time."
        )
        live.gauge(
            "stockrelay_log_stalled_seconds", "For how long the log's reader has not taken what waits for it."
        )
        live.gauge("stockrelay_listener_up", "1 while the doorbell is listened for.")
        live.gauge(
            "stockrelay_slots_owned", "Slots of the channel, of 16, that this replica serves.", channel
        )
        live.gauge("stockrelay_channel_paused", "1 while an operator has paused the channel.", channel)
        live.gauge("stockrelay_channel_in_trouble", "1 while the channel cannot be used.", channel)
        live.gauge("stockrelay_listing_failing", "1 while the channel's listing does not work.", channel)
        live.gauge(
            "stockrelay_token_remaining_seconds", "How long the marketplace's token is still valid.", channel
        )
        live.gauge(
            "stockrelay_marketplace_clock_offset_seconds",
            "How far the marketplace's clock is ahead of this machine's.",
            channel,
        )
        live.gauge(
            "stockrelay_intake_read_timestamp_seconds",
            "When this replica read the change log last, or began to, unix time.",
        )
        live.counter("stockrelay_intake_changes", "Changes that this replica read from the change log.")
        live.counter("stockrelay_intake_resyncs", "Comparisons of everything that this replica made.")

    def _declare_deliveries(self) -> None:
        self._attempts = Counter(
            "stockrelay_attempts_total",
            "Requests to the marketplace, one for each SKU in them, by what became of them.",
            ["channel", "outcome"],
            registry=self.registry,
        )
        self._durations = self._histogram(
            "attempt_duration_seconds", "How long a request took.", DURATION_S, "channel"
        )
        self._latencies = self._histogram(
            "delivery_latency_seconds",
            "From the oldest change that a number answers to the marketplace's acknowledgement.",
            LATENCY_S,
            "channel",
        )
        # Looking a series up by its labels costs four times as much as counting.
        self._attempts_of: dict[tuple[str, str], Counter] = {}
        self._durations_of: dict[str, Histogram] = {}
        self._latencies_of: dict[str, Histogram] = {}

    def _declare_ledger(self) -> None:
        def of_channel(name: str, help_text: str) -> Gauge:
            return self._gauge(name, help_text, "channel")

        self._ledger = {
            "skus": of_channel("skus", "SKUs in the ledger."),
            "backlog": of_channel(
                "backlog_skus", "SKUs whose newest number the marketplace has not acknowledged."
            ),
            "in_flight": of_channel("in_flight_attempts", "Requests that are under way."),
            "doubt": of_channel("doubt_skus", "SKUs of which the marketplace may hold an older number."),
            "parked": of_channel("parked_skus", "SKUs that wait for a person."),
            "held": of_channel("held_skus", "Numbers that the guard holds."),
            "oldest_s": of_channel(
                "oldest_change_age_seconds",
                "Age of the oldest change that the marketplace has not acknowledged.",
            ),
        }
        self._counted_at = of_channel("counted_timestamp_seconds", "When the ledger was counted, unix time.")
        self._reconcile_ended = of_channel(
            "reconcile_ended_timestamp_seconds", "When the last reconcile ended, unix time."
        )
        self._reconcile_complete = of_channel(
            "reconcile_complete", "1 if the last reconcile compared everything, 0 if it was given up."
        )
        self._differences = of_channel("reconcile_open_differences", "Differences that are not resolved.")
        self._sync_left = of_channel("sync_left_skus", "SKUs that the sync under way has not sent yet.")

    def _declare_rest(self) -> None:
        self._notices = self._gauge("notices_waiting", "Notices that have not reached everybody yet.")
        self._notices_age = self._gauge("notices_oldest_age_seconds", "How long the oldest of them waits.")
        self._notices_lost = self._gauge("notices_given_up", "Notices of the last 7 days that were given up.")
        self._clock = self._gauge(
            "database_clock_offset_seconds", "How far the database's clock is ahead of this machine's."
        )
        self._lag = self._histogram("event_loop_lag_seconds", "How late the event loop wakes a task.", LAG_S)
        self._capture = self._gauge("capture_healthy", "1 if this check of the capture passed.", "check")

    def _gauge(self, name: str, help_text: str, *labels: str) -> Gauge:
        return Gauge(f"stockrelay_{name}", help_text, labels, registry=self.registry)

    def _histogram(self, name: str, help_text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"stockrelay_{name}", help_text, labels, buckets=buckets, registry=self.registry)
