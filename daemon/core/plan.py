"""What a claim decides about one due delivery."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, Literal, NamedTuple

from daemon.core.guard import is_far, is_risen
from daemon.core.quoting import quoted
from daemon.core.types import Sku

_LONGEST_NUMBER: Final = 24
_NAMED_TWINS: Final = 3
_LONGEST_NAME: Final = 60

Problem = Callable[[Sequence[str | None]], str | None]
"""Says why identifiers can never be sent to a marketplace, or None."""


class Delivery(NamedTuple):
    """A ledger row as the claim captured it, before the listing was read.

    `identifiers` are those last sent, None if none ever were. `is_settled`: no earlier attempt can still land.
    `is_acked_since_doubt`: the acknowledged number was sent after the last attempt with an unknown end. `is_held`: the
    guard holds its number. `is_zero_known`: a marking or a claim has seen that it is zero. `listed_quantity` and
    `listed_identifiers` are what the last marking saw. `twins`: some of the other SKUs with the same identifiers, where
    these are not sent.
    """

    sku: Sku
    acked_quantity: int | None
    identifiers: tuple[str, ...] | None
    is_doubted: bool = False
    is_settled: bool = True
    is_acked_since_doubt: bool = False
    failures: int = 0
    is_urgent: bool = False
    is_held: bool = False
    is_zero_known: bool = False
    listed_quantity: int | None = None
    listed_identifiers: tuple[str | None, ...] | None = None
    twins: tuple[Sku, ...] = ()


@dataclass(frozen=True, slots=True)
class Listed:
    """What the listing says of a SKU now, in `rows` rows.

    `quantity` is None where it can't be sent; `unsendable` is the number then, None for NULL. `identifiers` is empty
    where their bytes are no text. `fault`: the server's error on the SKU's row. `carrier`: the SKU that has the sum of
    those with the same identifiers, where they are sold as one. `lacks`: the SKU whose own quantity, `unsendable`, or
    whose `lacks_rows` rows keep the sum from being sent. Without `lacks`, `unsendable` is a sum that is too large.
    """

    rows: int
    identifiers: tuple[str | None, ...]
    quantity: int | None
    unsendable: str | None = None
    fault: str | None = None
    carrier: Sku | None = None
    lacks: Sku | None = None
    lacks_rows: int = 1


@dataclass(frozen=True, slots=True)
class Send:
    """Send this number. `is_delisting`: a zero to identifiers that are no longer listed, which leaves the row due."""

    identifiers: tuple[str, ...]
    quantity: int
    is_delisting: bool = False


@dataclass(frozen=True, slots=True)
class Park:
    """It can't be sent; the reason is reported."""

    reason: str


class NoSend(Enum):
    """Why nothing is sent now."""

    SETTLED = "settled"
    """The marketplace holds this number already, and nothing is in doubt."""
    WAIT = "wait"
    """An attempt with an unknown end may still land: decide again once it can't."""
    FORGET = "forget"
    """It left the listing, and the marketplace holds zero or never heard of it, or another SKU took its identifiers
    over."""
    HOLD = "hold"
    """One of too many wrong numbers at once: held until an operator releases it or the number comes back."""
    DEFER = "defer"
    """One of many wrong numbers that no marking has seen: a marking counts them first."""


@dataclass(frozen=True, slots=True)
class CoveredBySum:
    """Send nothing: the sum that is sent for `carrier` has this number in it. `keeps_name`: the carrier was not sent
    under these identifiers yet, and may never be."""

    carrier: Sku
    keeps_name: bool = False


Decision = Send | Park | CoveredBySum | NoSend


def is_zero(listed: Listed | None) -> bool:
    """Say whether nothing is left of the SKU, under any identifiers."""
    return listed is None or (listed.rows == 1 and listed.quantity == 0)


Anomaly = Literal["gone", "zero", "new", "moved"]
"""It left the listing; it fell to zero; it was never sent, and is zero; it is far from what was sent last, or has
other identifiers."""


def unseen_anomaly(delivery: Delivery, listed: Listed | None, factor: float) -> Anomaly | None:
    """Return what is wrong with a number that no marking has counted. `factor` is the guard's."""
    acked = delivery.acked_quantity
    if listed is not None and not is_zero(listed):
        is_new = is_far(acked, listed.quantity, factor) and not is_far(
            acked, delivery.listed_quantity, factor
        )
        has_old_name = delivery.listed_identifiers in (None, delivery.identifiers)
        return "moved" if is_new or (has_old_name and is_renamed(delivery, listed)) else None
    if delivery.is_zero_known:
        return None
    if delivery.identifiers is None:
        return None if listed is None else "new"
    if acked == 0:
        return None
    return "gone" if listed is None else "zero"


def decide(
    delivery: Delivery,
    listed: Listed | None,
    *,
    has_successor: bool,
    problem: Problem,
    factor: float = math.inf,
) -> Decision:
    """Decide about a due delivery, given what the listing says now (None: not listed).

    `has_successor`: another SKU has taken over the identifiers this one was last sent with, so a zero for this one
    would overwrite that one's number. Of a held SKU only a wrong number is held: a zero, one by the guard's `factor`
    away from what was sent last, one above a zero that was sent last, or one under other identifiers.
    """
    decision = _decide(delivery, listed, has_successor=has_successor, problem=problem)
    if delivery.is_held and isinstance(decision, Send) and _is_held(delivery, listed, factor):
        return NoSend.HOLD
    return decision


def _is_held(delivery: Delivery, listed: Listed | None, factor: float) -> bool:
    if listed is None or is_zero(listed):
        return True
    before, after = delivery.acked_quantity, listed.quantity
    return is_far(before, after, factor) or is_risen(before, after) or is_renamed(delivery, listed)


def is_renamed(delivery: Delivery, listed: Listed | None) -> bool:
    """Say whether what is on sale is listed under other identifiers, so that the old ones fall to zero."""
    return (
        listed is not None
        and listed.rows == 1
        and bool(listed.identifiers)
        and bool(delivery.acked_quantity)
        and delivery.identifiers not in (None, listed.identifiers)
    )


def _decide(delivery: Delivery, listed: Listed | None, *, has_successor: bool, problem: Problem) -> Decision:
    is_quiet_zero = delivery.acked_quantity == 0 and not delivery.is_doubted
    if listed is None:
        if delivery.identifiers is None or is_quiet_zero or has_successor:
            return NoSend.FORGET
        return _delist(delivery, delivery.identifiers)
    has_moved = delivery.identifiers is not None and delivery.identifiers != listed.identifiers
    is_carried = listed.rows == 1 and listed.carrier not in (None, delivery.sku)
    if not is_carried and (wrong := _unreadable(listed)) is not None:
        return Park(wrong)
    if has_moved and not is_quiet_zero and not has_successor:
        # The marketplace still offers it under the old identifiers: take it off sale there first.
        assert delivery.identifiers is not None
        return _delist(delivery, delivery.identifiers)
    if is_carried:
        return _cover_by_sum(delivery, listed, has_successor=has_successor or is_quiet_zero)
    # The listing can be read, so a number is there.
    assert listed.quantity is not None
    reason = problem(listed.identifiers)
    if reason is None and delivery.twins:
        reason = twins_problem(listed.identifiers, delivery.twins)
    if reason is not None:
        return Park(reason)
    identifiers = tuple(part for part in listed.identifiers if part is not None)
    if not has_moved and delivery.acked_quantity == listed.quantity:
        if not delivery.is_doubted:
            return NoSend.SETTLED
        if _must_wait(delivery):
            return NoSend.WAIT
    return Send(identifiers, listed.quantity)


def _cover_by_sum(delivery: Delivery, listed: Listed, *, has_successor: bool) -> CoveredBySum | NoSend:
    keeps_name = delivery.identifiers is not None and not has_successor
    # A number that was sent for this SKU may still land after the sum: wait until it can't.
    if keeps_name and delivery.is_doubted and not delivery.is_settled:
        return NoSend.WAIT
    assert listed.carrier is not None
    return CoveredBySum(listed.carrier, keeps_name=keeps_name)


def unsendable(listed: Listed, problem: Problem) -> str | None:
    """Say why what the listing says can't be sent; None: it can."""
    return _unreadable(listed) or problem(listed.identifiers)


def _unreadable(listed: Listed) -> str | None:
    if listed.fault is not None:
        return f"the listing fails on this SKU: {listed.fault}"
    if listed.rows > 1:
        return f"the listing has {listed.rows} rows for this SKU: make it one row per SKU"
    if listed.carrier is not None and (wrong := sum_problem(listed)) is not None:
        return wrong
    if listed.quantity is None:
        return quantity_problem(listed.unsendable)
    if not listed.identifiers:
        return (
            "its identifiers hold bytes that are no text in the database's encoding: correct them in the ERP"
        )
    return None


def quantity_problem(unsendable: str | None, quantity: str = "the listing's quantity") -> str:
    """Say why a quantity can't be sent; `unsendable` is its text, None for NULL, and `quantity` its name."""
    if unsendable is None:
        return f"{quantity} is NULL: let the query say 0 where nothing may be sold"
    if unsendable in ("NaN", "Infinity", "-Infinity"):
        return f"{quantity} is {unsendable}: let the query say how many may be sold"
    shown = unsendable if len(unsendable) <= _LONGEST_NUMBER else unsendable[:_LONGEST_NUMBER] + "..."
    return f"{quantity} is {shown}, which is more than the channel's max_quantity"


def sum_problem(listed: Listed) -> str | None:
    """Say why the sum that a SKU is part of can't be sent, and because of which SKU; None: it can."""
    if listed.lacks is not None:
        part = f"{quoted(listed.lacks)}, which is part of the sum"
        if listed.lacks_rows > 1:
            return f"the listing has {listed.lacks_rows} rows for {part}: make it one row per SKU"
        return quantity_problem(listed.unsendable, f"the quantity of {part},")
    if listed.unsendable is not None:
        return quantity_problem(listed.unsendable, "the sum of all SKUs with these identifiers")
    return None


def twins_problem(identifiers: Sequence[str | None], twins: Sequence[Sku]) -> str:
    """Say that a SKU is not sent because others have its identifiers; some of them are `twins`, where any are known."""
    named = [quoted(sku) for sku in twins[:_NAMED_TWINS]] + ["others"] * (len(twins) > _NAMED_TWINS)
    named = named or ["other SKUs"]
    others = named[0] if len(named) == 1 else f"{', '.join(named[:-1])} and {named[-1]}"
    name = " / ".join((part or "")[:_LONGEST_NAME] for part in identifiers)
    return f"{others} {'has' if len(twins) == 1 else 'have'} the same identifiers ({name}): give each SKU its own"


def _delist(delivery: Delivery, identifiers: tuple[str, ...]) -> Send | NoSend:
    if delivery.acked_quantity == 0 and _must_wait(delivery):
        return NoSend.WAIT
    return Send(identifiers, 0, is_delisting=True)


def _must_wait(delivery: Delivery) -> bool:
    return delivery.is_doubted and delivery.is_acked_since_doubt and not delivery.is_settled
