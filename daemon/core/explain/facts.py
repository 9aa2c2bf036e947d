"""What is known of one SKU at one marketplace, and the state that follows from it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from daemon.core import plan
from daemon.core.explain.ledger_row import LedgerRow
from daemon.core.guard import GuardRule, is_large_change, rises_from_zero
from daemon.core.operations import Operation
from daemon.core.types import ChannelName, Duplicates, Sku


class SkuState(StrEnum):
    """In the words that an operator reads."""

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
    LEFT_OUT = "left out"
    UNREADABLE = "listing fails"
    DIFFERS = "differs at the marketplace"
    SUMMED = "part of a sum"
    SHADOWED = "in shadow"


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
    """A difference that reconcile keeps of this SKU: `kind` is its class, `status` that after the last run that saw it.
    `is_open`: no run has found it resolved."""

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
    """Another listed SKU with the same identifiers. `quantity` is the listing's when it was read last; the rest is of
    what was sent for it under these identifiers."""

    sku: Sku
    quantity: int | None
    acked_quantity: int | None
    acked_at: datetime | None
    is_unclear: bool  # in flight, or in doubt
    parked_reason: str | None = None


@dataclass(frozen=True, slots=True)
class Stop:
    """Since when, and why, the channel or its wrong numbers are not sent."""

    since: datetime
    words: str


class Filling(StrEnum):
    """The channel's first filling, by the guard: nothing is sent before it is found good, or released."""

    GOOD = "good"
    AWAITED = "not compared yet"
    HELD = "held"


@dataclass(frozen=True, slots=True)
class ExplainSettings:
    """The settings that the explanation depends on."""

    max_wait: timedelta
    timeout: timedelta
    settle: timedelta
    resync: timedelta
    guard: GuardRule | None = None
    is_shadow: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is known of one SKU at one marketplace, read in one go.

    `listing` is the rows that the query gives for this SKU, with every column, and `listed` what a claim makes of them;
    `listing_problem` is set where the query fails. `successor` has taken over the SKU's identifiers. `is_unread`: the
    change log has a change of the SKU that was not read yet; `is_first_reading`: the channel has read none at all.
    `resync_at` is when everything is compared next. `threshold` says what the guard lets pass, `factor` by how much a
    number has to change to be held. `twins` are the other SKUs that the ledger has with the listing's identifiers.
    `shadow`: why nothing is sent to the channel; None: it is live.
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
    settings: ExplainSettings
    filling: Filling = Filling.GOOD
    threshold: str = ""
    factor: float = math.inf
    twins: tuple[Twin, ...] = ()
    operations: tuple[Operation, ...] = ()
    duplicates: Duplicates = "park"
    is_first_reading: bool = False
    shadow: str | None = None

    @property
    def is_left_out(self) -> bool:
        """Whether the channel's `only` leaves the SKU out."""
        return self.listed is not None and self.listed.is_left_out

    @property
    def rivals(self) -> tuple[Sku, ...]:
        """The SKUs that keep this one from being sent, as they have its identifiers."""
        return tuple(twin.sku for twin in self.twins) if self.duplicates == "park" else ()

    def claimed_at(self, row: LedgerRow) -> datetime:
        """Return when the next claim can take the row, if nothing else prevents it."""
        due_at = None if row.is_shadowed else row.due_at or row.sync_at
        return max(due_at or self.now, self.now)

    def captured_row(self, row: LedgerRow) -> plan.CapturedRow:
        """Return the row as that claim will find it."""
        return plan.CapturedRow(
            self.sku,
            row.acked_quantity,
            row.identifiers,
            # A sync sends every number, also one that was acknowledged.
            is_doubted=row.doubt_at is not None or row.sync_at is not None,
            is_doubt_over=row.doubt_until is None or row.doubt_until <= self.claimed_at(row),
            is_acked_since_doubt=bool(row.acked_at and row.doubt_at and row.acked_at >= row.doubt_at),
            failures=row.failures,
            is_urgent=row.urgent,
            is_held=row.held_at is not None and self.guard is not None,
            is_zero_known=row.zero_at is not None,
            listed_quantity=row.listed_quantity,
            listed_identifiers=row.listed_identifiers,
            twins=self.rivals,
        )

    def decided(self, row: LedgerRow | None, problem: plan.Problem) -> plan.Decision:
        """Return what that claim would decide; None: for a SKU that is not in the ledger yet."""
        return plan.decide(
            plan.CapturedRow(self.sku, None, None, twins=self.rivals)
            if row is None
            else self.captured_row(row),
            self.listed,
            has_successor=self.successor is not None,
            problem=problem,
            factor=self.factor,
        )


def state(facts: Facts, problem: plan.Problem) -> SkuState:
    """Return the SKU's state."""
    row = facts.row
    if facts.is_left_out and (row is None or row.attempt_id is None):
        return SkuState.LEFT_OUT
    if row is None:
        if facts.listing_problem is not None:
            return SkuState.UNREADABLE
        return SkuState.NOT_LISTED if facts.listed is None else SkuState.NEW
    return _state_of_row(facts, row, problem)


def _state_of_row(facts: Facts, row: LedgerRow, problem: plan.Problem) -> SkuState:
    if row.parked_at is not None:
        return SkuState.PARKED
    if row.held_at is not None or (facts.filling is Filling.HELD and row.is_waiting):
        return SkuState.HELD
    if facts.listing_problem is not None:
        return SkuState.UNREADABLE
    if facts.listed is None:
        return SkuState.DELISTED
    return _state_of_pending(row, facts.now) or _state_of_quiet(facts, row, facts.listed, problem)


def _state_of_pending(row: LedgerRow, now: datetime) -> SkuState | None:
    """Return the state of a row that a claim or an answer goes on with; None: it is another."""
    if row.attempt_id is not None:
        return SkuState.IN_FLIGHT
    if row.is_shadowed:
        return SkuState.SHADOWED
    if row.doubt_at is not None:
        return SkuState.IN_DOUBT
    if row.is_waiting:
        return SkuState.DEBOUNCING if row.is_debouncing(now) else SkuState.WAITING
    return None


def _state_of_quiet(facts: Facts, row: LedgerRow, listed: plan.Listed, problem: plan.Problem) -> SkuState:
    if not is_quiet(facts, row, problem):
        return SkuState.BEHIND
    if listed.carrier not in (None, facts.sku):
        return SkuState.SUMMED
    return SkuState.DIFFERS if any(seen.is_open for seen in facts.differences) else SkuState.IN_SYNC


def is_quiet(facts: Facts, row: LedgerRow, problem: plan.Problem) -> bool:
    """Say whether no reading will mark a row that does not wait: the marketplace has what it should have."""
    decision = facts.decided(row, problem)
    if isinstance(decision, plan.CoveredBySum):
        return facts.listed is not None and row.identifiers in (None, facts.listed.identifiers)
    return decision is plan.NoSend.SETTLED


def is_unparked(facts: Facts, row: LedgerRow) -> bool:
    """Say whether the next reading unparks a row: more than its number has changed, or the SKUs that have its
    identifiers."""
    if row.twins is not None and tuple(twin.sku for twin in facts.twins[: len(row.twins)]) != row.twins:
        return True
    listed = facts.listed or plan.Listed(0, (), None)
    has_number = listed.rows == 1 and listed.quantity is not None
    before = (row.listed_rows, row.listed_identifiers or None, row.listed_quantity is not None)
    return (listed.rows, listed.identifiers or None, has_number) != before


def is_still_wrong(facts: Facts, row: LedgerRow) -> bool:
    """Say whether the next reading leaves a held row held: it is still zero, far from what was sent last, above a zero
    that was sent last, or under other identifiers."""
    if facts.listed is None or plan.is_zero(facts.listed):
        # A zero of a row that was held for another reason is counted anew.
        return row.zero_at is not None
    before, quantity = row.acked_quantity, facts.listed.quantity
    if facts.listed.rows != 1 or (row.zero_at is not None and quantity != row.listed_quantity):
        return False
    is_renamed = plan.is_renamed(facts.captured_row(row), facts.listed)
    return is_large_change(before, quantity, facts.factor) or rises_from_zero(before, quantity) or is_renamed


def named(identifiers: tuple[str | None, ...]) -> str:
    """Return identifiers as an operator reads them."""
    return " / ".join("(none)" if part is None else part for part in identifiers)
