"""What an operator's question gets, beside the facts of one SKU."""

from dataclasses import dataclass
from datetime import date, datetime

from daemon.core.explain.facts import PastAttempt, PastDifference
from daemon.core.types import ChannelName, Sku


@dataclass(frozen=True, slots=True)
class LoggedAttempt:
    """A line of the attempt log, with whose it is."""

    channel: ChannelName
    sku: Sku
    attempt: PastAttempt


@dataclass(frozen=True, slots=True)
class OpenDifference:
    """A difference that is open, with whose it is."""

    channel: ChannelName
    sku: Sku
    difference: PastDifference


@dataclass(frozen=True, slots=True)
class Sync:
    """A sync that is open: `left` of `total` SKUs are still queued (0 of 0: it is still being prepared)."""

    since: datetime
    total: int
    left: int


@dataclass(frozen=True, slots=True)
class Reconciled:
    """The last reconcile that is over; `state` is `finished` or `incomplete`."""

    day: date
    method: str | None
    state: str
    ended_at: datetime


@dataclass(frozen=True, slots=True)
class ChannelState:
    """A channel's open sync, last reconcile and open differences."""

    sync: Sync | None
    reconciled: Reconciled | None
    open_differences: int
