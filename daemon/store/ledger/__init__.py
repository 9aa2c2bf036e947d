"""The delivery ledger: what its callers give it and get from it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, NamedTuple

from daemon.core.outcome import Conclusion
from daemon.core.types import AttemptId, Epoch, Push, Sku, Slot


@dataclass(frozen=True, slots=True)
class Debounce:
    """When a marked row is due: `quiet` after the last change, at most `max_wait` after the first; a fall to zero or
    below `urgent_below` at once."""

    quiet: timedelta
    max_wait: timedelta
    urgent_below: int


@dataclass(frozen=True, slots=True)
class Marked:
    """How many rows a marking touched, how many of them are urgent, and how many numbers it held."""

    rows: int
    urgent: int
    held: int = 0


NOTHING: Final = Marked(0, 0)


@dataclass(frozen=True, slots=True)
class Owner:
    """The process that claims, and the slots that it claims from, each with the epoch of its lease."""

    holder: str
    epochs: Mapping[Slot, Epoch]

    def of(self, slots: Collection[Slot]) -> "Owner":
        """The same owner, of these slots alone."""
        return Owner(self.holder, {slot: epoch for slot, epoch in self.epochs.items() if slot in slots})

    @property
    def columns(self) -> tuple[list[Slot], list[Epoch], str]:
        """The slots, their epochs and the holder, as queries take them."""
        return list(self.epochs), list(self.epochs.values()), self.holder


class Attempt(NamedTuple):
    """An attempt that is written and committed: it may be sent. `failures`: unknown ends of this SKU in a row.
    `is_known`: the marketplace has acknowledged a number of it under these identifiers."""

    attempt_id: AttemptId
    push: Push
    failures: int
    is_delisting: bool
    is_urgent: bool
    slot: Slot
    is_known: bool = False


class Shadowed(NamedTuple):
    """What a claim in shadow would have sent. `is_new`: it is not what the row said before."""

    push: Push
    is_new: bool


@dataclass(slots=True)
class Claim:
    """The result of one claim. `captured` counts the due rows, also those that needed no sending. `held`: numbers
    that stay held; `deferred`: wrong numbers that the next marking has to count first; `covered`: those in
    another SKU's sum; `waiting`: those whose doubt has to be over first; `shadowed`: what was not sent, in shadow.
    `is_live`: the channel may be sent to; None: nothing was captured."""

    captured: int = 0
    attempts: list[Attempt] = field(default_factory=list)
    settled: list[Sku] = field(default_factory=list)
    parked: dict[Sku, str] = field(default_factory=dict)
    forgotten: list[Sku] = field(default_factory=list)
    held: list[Sku] = field(default_factory=list)
    deferred: list[Sku] = field(default_factory=list)
    covered: list[Sku] = field(default_factory=list)
    waiting: list[Sku] = field(default_factory=list)
    shadowed: list[Shadowed] = field(default_factory=list)
    is_live: bool | None = None

    @property
    def is_blocked(self) -> bool:
        """Whether rows were captured and none could be written: another session has them locked."""
        written = (self.attempts, self.settled, self.parked, self.forgotten, self.held, self.deferred)
        return self.captured > 0 and not any((*written, self.covered, self.waiting, self.shadowed))


class Written(NamedTuple):
    """The result of writing outcomes: whether a row is due again, and for each acknowledgement how many seconds ago its
    oldest change was read."""

    is_due: bool
    took_s: Sequence[float]


class Completion(NamedTuple):
    """How one attempt ended. `duration` is None when nothing was sent."""

    sku: Sku
    slot: Slot
    attempt_id: AttemptId
    conclusion: Conclusion
    duration: timedelta | None


@dataclass(frozen=True, slots=True)
class Due:
    """How long until the next row is due (negative: since when it is), and until the next of a sync; None:
    there is none, or the channel is paused. `is_live`: the channel may be sent to."""

    change: timedelta | None = None
    sync: timedelta | None = None
    is_live: bool = True


@dataclass(frozen=True, slots=True)
class Backlog:
    """One channel's ledger in numbers; `oldest` is the age of the oldest change without an acknowledgement. What is
    parked, `held` (by the guard, for a person) or `shadowed` (would be sent, in shadow) counts neither as backlog nor
    for `oldest`. `on_sale` counts the SKUs of which the marketplace has acknowledged more than zero."""

    skus: int
    backlog: int
    doubt: int
    parked: int
    in_flight: int
    oldest: timedelta | None
    held: int = 0
    on_sale: int = 0
    shadowed: int = 0
