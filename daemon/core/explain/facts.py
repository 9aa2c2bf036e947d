"""Why a marketplace holds what it holds: the facts of one SKU at one marketplace, and where it stands."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from daemon.core import plan
from daemon.core.guard import is_far, is_risen
from daemon.core.types import ChannelName, Duplicates, Sku


class SkuState(StrEnum):
    """Where a SKU stands, in the words that an operator reads."""

    IN_SYNC = "in sync"
    BEHIND = "behind"
    DEBOUNCING = "debouncing"
    WAITING = "waiting"
    IN_FLIGHT = "in flight"
    IN_DOUBT = "in doubt"
    PARKED = "parked"
    HELD = "held by the guard"
    DELISTED = "delisted"
    NEW = "new"
    NOT_LISTED = "not listed"
    UNREADABLE = "listing fails"
    DIFFERS = "differs at the marketplace"
    SUMMED = "part of a sum"


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """A row of the ledger; the columns are explained at its table."""

    want_seq: int
    acked_seq: int
    first_dirty_at: datetime | None
    urgent: bool
    due_at: datetime | None
    acked_quantity: int | None
    acked_at: datetime | None
    identifiers: tuple[str, ...] | None
    attempt_id: int | None
    attempt_seq: int | None
    attempt_quantity: int | None
    attempt_at: datetime | None
    doubt_at: datetime | None
    doubt_until: datetime | None
    failures: int
    retry_at: datetime | None
    parked_reason: str | None
    parked_at: datetime | None
    discarded_at: datetime | None
    sync_at: datetime | None = None
    held_at: datetime | None = None
    zero_at: datetime | None = None
    listed_rows: int = 0
    listed_identifiers: tuple[str | None, ...] | None = None
    listed_quantity: int | None = None
    twins: tuple[Sku, ...] | None = None

    @property
    def is_discarded(self) -> bool:
        """Whether this very parking was discarded."""
        return (
            self.parked_at is not None
            and self.discarded_at is not None
            and self.discarded_at >= self.parked_at
        )


@dataclass(frozen=True, slots=True)
class PastAttempt:
    """A line of the attempt log; `outcome` is a word of `Conclusion`."""

    at: datetime
    attempt_id: int
    identifiers: tuple[str, ...]
    quantity: int
    outcome: str
    reason: str
    duration_ms: float | None


@dataclass(frozen=True, slots=True)
class PastDifference:
    """What reconcile keeps of this SKU: `kind` is the difference's class, `status` what the last run made of it.
    `is_open`: no run has seen its end."""

    kind: str
    status: str
    ours: int | None
    theirs: int | None
    first_seen: datetime
    last_seen: datetime
    times_seen: int
    is_open: bool = False


@dataclass(frozen=True, slots=True)
class Twin:
    """Another listed SKU with the same identifiers. `quantity` is the listing's when it was read last; the rest is what
    was sent for it under these identifiers."""

    sku: Sku
    quantity: int | None
    acked_quantity: int | None
    acked_at: datetime | None
    is_unclear: bool
    """In flight, or in doubt."""
    parked_reason: str | None = None


@dataclass(frozen=True, slots=True)
class Stop:
    """Why nothing of the channel, or none of its wrong numbers, is sent: since when, and in words."""

    since: datetime
    words: str


class Filling(StrEnum):
    """What the guard says of the channel's first filling: nothing is sent before it is found good, or released."""

    GOOD = "good"
    AWAITED = "not compared yet"
    HELD = "held"


@dataclass(frozen=True, slots=True)
class TimingSettings:
    """The channel's settings that the explanation needs."""

    max_wait: timedelta
    timeout: timedelta
    settle: timedelta


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is known of one SKU at one marketplace, read in one go.

    `listing` is the rows the query gives for this SKU, every column; `listing_problem` is set where the query fails.
    `listed` is what a claim makes of them. `successor` is the SKU that has taken over this one's identifiers.
    `is_unread`: the change log names the SKU and has not been read that far.
    `resync_at` is when everything is compared next.
    `threshold` is what the guard lets pass, in words; `factor` by how much a number has to move for it. `twins` are
    other SKUs with the identifiers that the listing has, as the ledger knows them. `is_first_reading`: the channel has
    not read anything yet.
    """

    channel: ChannelName
    sku: Sku
    now: datetime
    columns: tuple[str, ...]
    listing: tuple[Mapping[str, Any], ...]
    listing_problem: str | None
    listed: plan.Listed | None
    row: LedgerRow | None
    successor: Sku | None
    attempts: tuple[PastAttempt, ...]
    differences: tuple[PastDifference, ...]
    guard: Stop | None
    paused: Stop | None
    trouble: Stop | None
    has_owner: bool
    is_unread: bool
    resync_at: datetime | None
    timing: TimingSettings
    filling: Filling = Filling.GOOD
    threshold: str = ""
    factor: float = math.inf
    twins: tuple[Twin, ...] = ()
    duplicates: Duplicates = "park"
    is_first_reading: bool = False


def state(facts: Facts, problem: plan.Problem) -> SkuState:
    """Return where the SKU stands."""
    row = facts.row
    if row is None:
        if facts.listing_problem is not None:
            return SkuState.UNREADABLE
        return SkuState.NOT_LISTED if facts.listed is None else SkuState.NEW
    if row.parked_at is not None:
        return SkuState.PARKED
    is_waiting = row.due_at is not None or row.sync_at is not None
    if row.held_at is not None or (facts.filling is Filling.HELD and is_waiting):
        return SkuState.HELD
    if facts.listing_problem is not None:
        return SkuState.UNREADABLE
    if facts.listed is None:
        return SkuState.DELISTED
    if row.attempt_id is not None:
        return SkuState.IN_FLIGHT
    if row.doubt_at is not None:
        return SkuState.IN_DOUBT
    if is_waiting:
        return SkuState.DEBOUNCING if is_debouncing(row, facts.now) else SkuState.WAITING
    if not is_quiet(facts, row, decided(facts, row, problem)):
        return SkuState.BEHIND
    if facts.listed.carrier not in (None, facts.sku):
        return SkuState.SUMMED
    return SkuState.DIFFERS if any(seen.is_open for seen in facts.differences) else SkuState.IN_SYNC


def is_quiet(facts: Facts, row: LedgerRow, decision: plan.Decision) -> bool:
    """Whether a row that does not wait is as it should be, so that no reading marks it."""
    if isinstance(decision, plan.CoveredBySum):
        return facts.listed is not None and row.identifiers in (None, facts.listed.identifiers)
    return isinstance(decision, plan.Settled)


def is_unparked(facts: Facts, row: LedgerRow) -> bool:
    """Whether the next reading of a parked row has it tried again: more has changed than its number, or the SKUs that
    have its identifiers."""
    if row.twins is not None and tuple(twin.sku for twin in facts.twins[: len(row.twins)]) != row.twins:
        return True
    listed = facts.listed or plan.Listed(0, (), None)
    quantity = listed.quantity if listed.rows == 1 else None
    return (listed.rows, listed.identifiers or None, quantity is None) != (
        row.listed_rows,
        row.listed_identifiers or None,
        row.listed_quantity is None,
    )


def is_wrong(facts: Facts, row: LedgerRow) -> bool:
    """Whether the next reading leaves a held row held: it is still zero, far from what was sent last, above a zero
    that was sent last, or under other identifiers."""
    if facts.listed is None or plan.is_zero(facts.listed):
        # One that was held for another reason is counted anew, or is what the marketplace has already.
        return row.zero_at is not None
    before, quantity = row.acked_quantity, facts.listed.quantity
    is_counted = row.zero_at is None or quantity == row.listed_quantity
    return (
        facts.listed.rows == 1
        and is_counted
        and (
            is_far(before, quantity, facts.factor)
            or is_risen(before, quantity)
            or plan.is_renamed(delivery_of(facts, row), facts.listed)
        )
    )


def is_debouncing(row: LedgerRow, now: datetime) -> bool:
    """Whether the row waits for its changes to end, and not for another try."""
    return (
        row.due_at is not None
        and row.due_at > now
        and row.first_dirty_at is not None
        and (row.retry_at is None or row.due_at > row.retry_at)
    )


def claimed_at(facts: Facts, row: LedgerRow) -> datetime:
    """Return when the next claim can have the row, nothing else being in its way."""
    return max(row.due_at or row.sync_at or facts.now, facts.now)


def decided(facts: Facts, row: LedgerRow, problem: plan.Problem) -> plan.Decision:
    """Return what a claim would do with the row, at the time it can have it."""
    return plan.decide(
        delivery_of(facts, row),
        facts.listed,
        has_successor=facts.successor is not None,
        problem=problem,
        factor=facts.factor,
    )


def delivery_of(facts: Facts, row: LedgerRow) -> plan.Delivery:
    """Return the row as that claim will find it."""
    return plan.Delivery(
        facts.sku,
        row.acked_quantity,
        row.identifiers,
        # A sync asks for every number, whatever was acknowledged.
        is_doubted=row.doubt_at is not None or row.sync_at is not None,
        is_settled=row.doubt_until is None or row.doubt_until <= claimed_at(facts, row),
        is_acked_since_doubt=row.acked_at is not None
        and row.doubt_at is not None
        and row.acked_at >= row.doubt_at,
        failures=row.failures,
        is_urgent=row.urgent,
        is_held=row.held_at is not None and facts.guard is not None,
        is_zero_known=row.zero_at is not None,
        listed_quantity=row.listed_quantity,
        listed_identifiers=row.listed_identifiers,
        twins=tuple(twin.sku for twin in facts.twins) if facts.duplicates == "park" else (),
    )


def named(identifiers: tuple[str | None, ...]) -> str:
    """Identifiers as a person reads them."""
    return " / ".join("(none)" if part is None else part for part in identifiers)
