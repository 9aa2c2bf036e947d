"""Why a partner holds what it holds: the state of one SKU at one partner, and what happens next (DESIGN.md 1.6).

What happens next is not guessed: it is what `decide` says of the row as the next claim will find it.
"""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, assert_never

from daemon.core.moments import Moments
from daemon.core.plan import (
    Decision,
    Delivery,
    Forget,
    Hold,
    Leave,
    Listed,
    Park,
    Problem,
    PutOff,
    Send,
    Settled,
    Wait,
    decide,
)
from daemon.core.types import ChannelName, Sku


class State(StrEnum):
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


@dataclass(frozen=True, slots=True)
class Row:
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

    @property
    def is_discarded(self) -> bool:
        """Whether somebody has said of this very parking that it is known."""
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
class Difference:
    """What reconcile keeps of this SKU: `kind` is the difference's class, `turn` what the last run made of it."""

    kind: str
    turn: str
    ours: int | None
    theirs: int | None
    first_seen: datetime
    last_seen: datetime
    times_seen: int


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
class Rhythm:
    """The channel's settings that the story needs."""

    max_wait: timedelta
    timeout: timedelta
    settle: timedelta


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is known of one SKU at one partner, read in one go.

    `listing` is the rows the query gives for this SKU, every column; `listing_problem` is set where the query fails.
    `listed` is what a claim makes of them. `heir` is the SKU that has taken over this one's identifiers. `is_unread`:
    the change log names the SKU and has not been read that far. `resync_at` is when everything is compared next.
    `threshold` is what the guard lets pass, in words.
    """

    channel: ChannelName
    sku: Sku
    now: datetime
    columns: tuple[str, ...]
    listing: tuple[Mapping[str, Any], ...]
    listing_problem: str | None
    listed: Listed | None
    row: Row | None
    heir: Sku | None
    attempts: tuple[PastAttempt, ...]
    differences: tuple[Difference, ...]
    guard: Stop | None
    paused: Stop | None
    trouble: Stop | None
    has_owner: bool
    is_unread: bool
    resync_at: datetime | None
    rhythm: Rhythm
    filling: Filling = Filling.GOOD
    threshold: str = ""


def state(facts: Facts, problem: Problem) -> State:
    """Return where the SKU stands."""
    row = facts.row
    if row is None:
        if facts.listing_problem is not None:
            return State.UNREADABLE
        return State.NOT_LISTED if facts.listed is None else State.NEW
    if row.parked_at is not None:
        return State.PARKED
    is_waiting = row.due_at is not None or row.sync_at is not None
    if row.held_at is not None or (facts.filling is Filling.HELD and is_waiting):
        return State.HELD
    if facts.listing_problem is not None:
        return State.UNREADABLE
    if facts.listed is None:
        return State.DELISTED
    if row.attempt_id is not None:
        return State.IN_FLIGHT
    if row.doubt_at is not None:
        return State.IN_DOUBT
    if is_waiting:
        return State.DEBOUNCING if is_debouncing(row, facts.now) else State.WAITING
    return State.IN_SYNC if isinstance(decided(facts, row, problem), Settled) else State.BEHIND


def is_debouncing(row: Row, now: datetime) -> bool:
    """Whether the row waits for its changes to end, and not for another try."""
    return (
        row.due_at is not None
        and row.due_at > now
        and row.first_dirty_at is not None
        and (row.retry_at is None or row.due_at > row.retry_at)
    )


def claimed_at(facts: Facts, row: Row) -> datetime:
    """Return when the next claim can have the row, nothing else being in its way."""
    return max(row.due_at or row.sync_at or facts.now, facts.now)


def decided(facts: Facts, row: Row, problem: Problem) -> Decision:
    """Return what a claim would do with the row, at the time it can have it."""
    delivery = Delivery(
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
    )
    return decide(delivery, facts.listed, has_heir=facts.heir is not None, problem=problem)


def coming(facts: Facts, problem: Problem, moments: Moments) -> str:
    """Return what happens next, in a sentence or two."""
    row = facts.row
    if facts.listing_problem is not None:
        return "Nothing new is sent before the listing works: see `stockrelay check`."
    if row is None:
        return _first_marking(facts, moments)
    if row.parked_at is not None:
        return (
            "Nothing is sent until its row in the listing changes, and not only in its number; or now, with "
            f"`stockrelay parked retry {facts.channel} {shlex.quote(facts.sku)}`."
        )
    if facts.filling is Filling.HELD:
        return (
            "Nothing of this channel is sent until the ERP's numbers are right or somebody lets them go: "
            f"`stockrelay release {facts.channel}`."
        )
    if row.held_at is not None:
        return (
            "The number is not sent until the ERP's numbers are back or somebody lets it go: "
            f"`stockrelay release {facts.channel}`. One that is not wrong goes out as always."
        )
    if row.attempt_id is not None:
        return _after_the_answer(facts, row, moments)
    decision = decided(facts, row, problem)
    if row.due_at is None and row.sync_at is None:
        return _unmarked(facts, decision, moments)
    return _obstacle(facts) + _claim(facts, row, decision, moments)


def _first_marking(facts: Facts, moments: Moments) -> str:
    if facts.listed is None:
        return "Nothing: it is neither listed here nor known from before."
    return _reading(facts, moments) + " Then it waits for the debounce and is sent for the first time."


def _reading(facts: Facts, moments: Moments) -> str:
    if facts.is_unread:
        return "The change is captured and is read as soon as a daemon runs."
    when = "" if facts.resync_at is None else f", {moments.at(facts.resync_at)}"
    return (
        "No change was captured for this (is every table that the listing reads watched?): "
        f"the next comparison of everything finds it{when}."
    )


def _unmarked(facts: Facts, decision: Decision, moments: Moments) -> str:
    if not isinstance(decision, Settled):
        return _reading(facts, moments) + _obstacle(facts, " ")
    return "Nothing is sent: the partner holds this number, and nothing doubts it." + (
        " A change is captured and about to be read." if facts.is_unread else ""
    )


def _after_the_answer(facts: Facts, row: Row, moments: Moments) -> str:
    assert row.attempt_at is not None
    sentence = (
        f"Its answer is awaited for at most {facts.rhythm.timeout.total_seconds():g} s. Without a clear one the SKU "
        f"is in doubt until {moments.at(row.attempt_at + facts.rhythm.settle)} and is sent again."
    )
    if row.attempt_seq is not None and row.want_seq > row.attempt_seq:
        number = (
            "" if facts.listed is None or facts.listed.quantity is None else f", {facts.listed.quantity},"
        )
        sentence += f" A newer number{number} waits for that: there are never two requests for one SKU."
    if facts.paused is not None:
        sentence += f" Nothing after it is claimed until `stockrelay resume {facts.channel}`."
    return sentence


def _obstacle(facts: Facts, before: str = "") -> str:
    """What keeps the channel's claims, as the beginning of a sentence that says what comes after it."""
    after = "" if before else " Then: "
    if facts.paused is not None:
        return (
            f"{before}Not while the channel is paused: `stockrelay resume {facts.channel}` ends that.{after}"
        )
    if facts.filling is Filling.AWAITED:
        return f"{before}Not before the whole listing has been compared for the first time.{after}"
    if not facts.has_owner:
        return f"{before}Not before a daemon runs: nobody owns the channel's lane.{after}"
    if facts.trouble is not None:
        return f"{before}Not while the channel is in trouble: a request is tried from time to time.{after}"
    return ""


def _claim(facts: Facts, row: Row, decision: Decision, moments: Moments) -> str:
    at = claimed_at(facts, row)
    when = "now" if at <= facts.now else f"at {moments.at(at)}"
    if row.due_at is None:
        when += ", when those that changed have had their turn"
    match decision:
        case Send():
            return _sending(facts, row, decision, when, moments)
        case Settled():
            return f"{when}, nothing is sent: the partner holds {row.acked_quantity} already."
        case Wait():
            assert row.doubt_until is not None
            return f"{row.acked_quantity} is confirmed {moments.at(row.doubt_until)}, when nothing older can land."
        case Park(reason):
            return f"{when}, it is parked: {reason}."
        case Forget():
            if facts.heir is not None:
                return f"{when}, it is forgotten: {facts.heir} is sold under its identifiers now."
            return f"{when}, it is forgotten: the partner holds no number of it."
        case Leave(carrier):
            return f"{when}, nothing is sent for it: {carrier} has the sum of all that have its identifiers."
        case Hold() | PutOff():
            return f"{when}, nothing is sent: too many numbers are wrong at once."
        case _:
            assert_never(decision)


def _sending(facts: Facts, row: Row, send: Send, when: str, moments: Moments) -> str:
    sentence = f"{when}, {send.quantity} is sent as {named(send.identifiers)}"
    if send.is_farewell:
        if facts.listed is None:
            return sentence + ", and once that is acknowledged the SKU is forgotten."
        return sentence + f", which it has left, and then its number as {named(facts.listed.identifiers)}."
    if row.doubt_until is not None and row.doubt_until > claimed_at(facts, row):
        return sentence + f", and confirmed {moments.at(row.doubt_until)}, when nothing older can land."
    return sentence + (", which ends the doubt." if row.doubt_at is not None else ".")


def named(identifiers: tuple[str | None, ...]) -> str:
    """Identifiers as a person reads them."""
    return " / ".join("(none)" if part is None else part for part in identifiers)
