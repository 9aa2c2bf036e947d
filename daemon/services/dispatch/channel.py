"""What a channel's parts share: its limits, rate, circuit breaker and counts, and the signals between them."""

from collections import Counter
from dataclasses import dataclass
from datetime import timedelta

import structlog

from daemon import clock
from daemon.core.breaker import Breaker
from daemon.core.dispatching import rows_for_batches, rows_for_single_calls, share
from daemon.core.outcome import Outcome
from daemon.core.parked_lines import ParkedLines, Summary
from daemon.core.ratelimit import RateLimit
from daemon.core.types import ChannelName

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """How a channel is served. `max_claim_age` is how long after its claim an attempt may still be sent; together with
    `timeout` it is less than `settle`, so that what is sent can't land after doubt about it has ended. `batch` SKUs
    share a call, in a sync and while more than `batch_above` rows are due (0: never then). Rate, concurrency and
    `batch_above` are the channel's: a process gets the part that its slots are of all slots. `is_shadow`: everything is
    decided, and nothing is sent."""

    rate_per_s: float
    concurrency: int
    timeout: timedelta
    settle: timedelta
    max_claim_age: timedelta
    park_after: int
    poll: timedelta
    grace: timedelta
    batch: int = 1
    batch_above: int = 0
    is_shadow: bool = False


class Channel:
    """The state of one channel in this process. It refers to none of the parts that use it."""

    def __init__(self, name: ChannelName, limits: Limits, most_per_call: int) -> None:
        self.name = name
        self.counts: Counter[str] = Counter()
        self.breaker = Breaker()
        self.last_applied: float | None = None
        self.has_acknowledged = False
        """Whether the marketplace is known to have taken any number of the channel, ever."""
        self.failing: Outcome | None = None
        """Why claims fail; None: they work."""
        self.is_batching = False
        self.is_live = True
        """Whether the database says that the channel may be sent to; the first claim finds out."""
        self.parked_lines = ParkedLines()
        self.due = clock.Signal()
        """Rows may have become due."""
        self.urgent = clock.Signal()
        """Urgent rows may have become due: they are claimed beside a full queue."""
        self.room = clock.Signal()
        """There may be room for a claim."""
        self._most_per_call = most_per_call
        self.owned = 0
        """How many of the channel's slots this process owns."""
        self.use(limits)

    def use(self, limits: Limits) -> None:
        """Serve the channel within these limits from now on."""
        self.limits = limits
        self.most_per_call = min(limits.batch, self._most_per_call)
        self._take_share()
        now = clock.monotonic()
        if self.owned == 0:
            self.rate = RateLimit.starting(limits.rate_per_s, 1, now)
        else:
            self.rate = self.rate.at_rate(self.share.rate_per_s, self.share.burst, now)

    def own(self, slots: int) -> None:
        """This process owns `slots` of the channel's slots. One that owned none starts with an empty bucket: it does
        not know what the previous owner has just sent."""
        had, self.owned = self.owned, slots
        self._take_share()
        if slots and had:
            self.rate = self.rate.at_rate(self.share.rate_per_s, self.share.burst, clock.monotonic())
        elif slots:
            self.rate = RateLimit.starting(self.share.rate_per_s, self.share.burst, clock.monotonic())

    def _take_share(self) -> None:
        limits = self.limits
        self.share = share(
            self.owned,
            rate_per_s=limits.rate_per_s,
            concurrency=limits.concurrency,
            batch_above=limits.batch_above,
        )
        self._rows = rows_for_single_calls(self.share)
        self._rows_in_batches = rows_for_batches(self.share, self.most_per_call)

    @property
    def is_shadowed(self) -> bool:
        """Whether nothing is sent: as configured, or because the channel is not live yet."""
        return self.limits.is_shadow or not self.is_live

    @property
    def claim_size(self) -> int:
        """How many rows a claim takes, and the queue holds."""
        return self._rows_in_batches if self.is_batching else self._rows

    def wake(self, *, is_urgent: bool = False) -> None:
        self.due.set()
        if is_urgent:
            self.urgent.set()

    def is_open_for_many(self) -> bool:
        """Whether the circuit breaker is closed: anything may be sent."""
        return self.breaker.allowance(clock.monotonic()) > 1

    def log_parked(self, *, is_over: bool = False) -> None:
        """Log what was parked lately."""
        lines = self.parked_lines.due(clock.monotonic(), is_over=is_over)
        if isinstance(lines, Summary):
            log.error(
                "dispatch.deliveries_parked",
                channel=self.name,
                skus=lines.skus,
                sku=lines.sku,
                reason=lines.reason,
                advice="`stockrelay parked list` has all of them",
            )
            return
        for fields in lines:
            log.error("dispatch.delivery_parked", channel=self.name, **fields)
