"""What a claim decides about one due row."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, Literal, NamedTuple

from daemon.core.guard import is_large_change, rises_from_zero
from daemon.core.quoting import quoted
from daemon.core.types import Sku

_LONGEST_NUMBER: Final = 24
_NAMED_TWINS: Final = 3
_LONGEST_NAME: Final = 60

Problem = Callable[[Sequence[str | None]], str | None]
"""Says why identifiers can never be sent to a marketplace, or None."""


class CapturedRow(NamedTuple):
    """A ledger row as the claim captured it, before the listing was read.

    `identifiers` are those last sent, None if none ever were. `is_doubt_over`: no earlier attempt can still land.
    `is_acked_since_doubt`: the acknowledged number was sent after the last attempt with an unknown end. `is_held`: the
    guard holds its number. `is_zero_known`: a marking or a claim has seen that it is zero. `listed_quantity` and
    `listed_identifiers` are what the last marking saw. `twins`: some of the other SKUs with the same identifiers, where
    these are not sent.
    """

    sku: Sku
    acked_quantity: int | None
    identifiers: tuple[str, ...] | None
    is_doubted: bool = False
    is_doubt_over: bool = True
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
    """What the listing says of a SKU now, in `rows` rows. 0: the channel's `only` leaves out all rows of it.

    `quantity` is None where it can't be sent; `raw_quantity` is the number then, None for NULL. `identifiers` is empty
    where their bytes are no text. `fault`: the server's error on the SKU's row. `carrier`: the SKU that has the sum of
    those with the same identifiers, where they are sold as one. `lacks`: the SKU whose own quantity, `raw_quantity`, or
    whose `lacks_rows` rows keep the sum from being sent. Without `lacks`, `raw_quantity` is a sum that is too large.
    """

    rows: int
    identifiers: tuple[str | None, ...]
    quantity: int | None
    raw_quantity: str | None = None
    fault: str | None = None
    carrier: Sku | None = None
    lacks: Sku | None = None
    lacks_rows: int = 1

    @property
    def is_left_out(self) -> bool:
        """Whether the channel's `only` leaves the SKU out."""
        return self.rows == 0


LEFT_OUT: Final = Listed(0, (), None)
"""A SKU that the channel's `only` leaves out."""


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
    over; or the channel's `only` leaves it out."""
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


def unseen_anomaly(row: CapturedRow, listed: Listed | None, factor: float) -> Anomaly | None:
    """Return what is wrong with a number that no marking has counted. `factor` is the guard's."""
    acked = row.acked_quantity
    if listed is not None and not is_zero(listed):
        is_new = is_large_change(acked, listed.quantity, factor) and not is_large_change(
            acked, row.listed_quantity, factor
        )
        has_old_name = row.listed_identifiers in (None, row.identifiers)
        return "moved" if is_new or (has_old_name and is_renamed(row, listed)) else None
    if row.is_zero_known:
        return None
    if row.identifiers is None:
        return None if listed is None else "new"
    if acked == 0:
        return None
    return "gone" if listed is None else "zero"


def decide(
    row: CapturedRow,
    listed: Listed | None,
    *,
    has_successor: bool,
    problem: Problem,
    factor: float = math.inf,
) -> Decision:
    """Decide about a due row, given what the listing says now (None: not listed).

    `has_successor`: another SKU has taken over the identifiers this one was last sent with, so a zero for this one
    would overwrite that one's number. Of a held SKU only a wrong number is held: a zero, one by the guard's `factor`
    away from what was sent last, one above a zero that was sent last, or one under other identifiers.
    """
    decision = _decide(row, listed, has_successor=has_successor, problem=problem)
    if row.is_held and isinstance(decision, Send) and _is_held(row, listed, factor):
        return NoSend.HOLD
    return decision


def _is_held(row: CapturedRow, listed: Listed | None, factor: float) -> bool:
    if listed is None or is_zero(listed):
        return True
    before, after = row.acked_quantity, listed.quantity
    return is_large_change(before, after, factor) or rises_from_zero(before, after) or is_renamed(row, listed)


def is_renamed(row: CapturedRow, listed: Listed | None) -> bool:
    """Say whether what is on sale is listed under other identifiers, so that the old ones fall to zero."""
    return (
        listed is not None
        and listed.rows == 1
        and bool(listed.identifiers)
        and bool(row.acked_quantity)
        and row.identifiers not in (None, listed.identifiers)
    )


def _decide(row: CapturedRow, listed: Listed | None, *, has_successor: bool, problem: Problem) -> Decision:
    is_quiet_zero = row.acked_quantity == 0 and not row.is_doubted
    if listed is None:
        if row.identifiers is None or is_quiet_zero or has_successor:
            return NoSend.FORGET
        return _delist(row, row.identifiers)
    if listed.is_left_out:
        # Nothing is sent, but until an earlier attempt can no longer land, the SKU must not begin anew.
        return NoSend.WAIT if row.is_doubted and not row.is_doubt_over else NoSend.FORGET
    has_moved = row.identifiers is not None and row.identifiers != listed.identifiers
    is_carried = listed.rows == 1 and listed.carrier not in (None, row.sku)
    if not is_carried and (wrong := _unreadable(listed)) is not None:
        return Park(wrong)
    if has_moved and not is_quiet_zero and not has_successor:
        # The marketplace still offers it under the old identifiers: take it off sale there first.
        assert row.identifiers is not None
        return _delist(row, row.identifiers)
    if is_carried:
        return _cover_by_sum(row, listed, has_successor=has_successor or is_quiet_zero)
    # The listing can be read, so a number is there.
    assert listed.quantity is not None
    reason = problem(listed.identifiers)
    if reason is None and row.twins:
        reason = twins_problem(listed.identifiers, row.twins)
    if reason is not None:
        return Park(reason)
    identifiers = tuple(part for part in listed.identifiers if part is not None)
    if not has_moved and row.acked_quantity == listed.quantity:
        if not row.is_doubted:
            return NoSend.SETTLED
        if _must_wait(row):
            return NoSend.WAIT
    return Send(identifiers, listed.quantity)


def _cover_by_sum(row: CapturedRow, listed: Listed, *, has_successor: bool) -> CoveredBySum | NoSend:
    keeps_name = row.identifiers is not None and not has_successor
    # A number that was sent for this SKU may still land after the sum: wait until it can't.
    if keeps_name and row.is_doubted and not row.is_doubt_over:
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
        return quantity_problem(listed.raw_quantity)
    if not listed.identifiers:
        return (
            "its identifiers hold bytes that are no text in the database's encoding: correct them in the ERP"
        )
    return None


def quantity_problem(raw_quantity: str | None, quantity: str = "the listing's quantity") -> str:
    """Say why a quantity can't be sent; `raw_quantity` is its text, None for NULL, and `quantity` its name."""
    if raw_quantity is None:
        return f"{quantity} is NULL: let the query say 0 where nothing may be sold"
    if raw_quantity in ("NaN", "Infinity", "-Infinity"):
        return f"{quantity} is {raw_quantity}: let the query say how many may be sold"
    shown = raw_quantity if len(raw_quantity) <= _LONGEST_NUMBER else raw_quantity[:_LONGEST_NUMBER] + "..."
    return f"{quantity} is {shown}, which is more than the channel's max_quantity"


def sum_problem(listed: Listed) -> str | None:
    """Say why the sum that a SKU is part of can't be sent, and because of which SKU; None: it can."""
    if listed.lacks is not None:
        part = f"{quoted(listed.lacks)}, which is part of the sum"
        if listed.lacks_rows > 1:
            return f"the listing has {listed.lacks_rows} rows for {part}: make it one row per SKU"
        return quantity_problem(listed.raw_quantity, f"the quantity of {part},")
    if listed.raw_quantity is not None:
        return quantity_problem(listed.raw_quantity, "the sum of all SKUs with these identifiers")
    return None


def twins_problem(identifiers: Sequence[str | None], twins: Sequence[Sku]) -> str:
    """Say that a SKU is not sent because others have its identifiers; some of them are `twins`, where any are known."""
    named = [quoted(sku) for sku in twins[:_NAMED_TWINS]] + ["others"] * (len(twins) > _NAMED_TWINS)
    named = named or ["other SKUs"]
    others = named[0] if len(named) == 1 else f"{', '.join(named[:-1])} and {named[-1]}"
    name = " / ".join((part or "")[:_LONGEST_NAME] for part in identifiers)
    return f"{others} {'has' if len(twins) == 1 else 'have'} the same identifiers ({name}): give each SKU its own"


def _delist(row: CapturedRow, identifiers: tuple[str, ...]) -> Send | NoSend:
    if row.acked_quantity == 0 and _must_wait(row):
        return NoSend.WAIT
    return Send(identifiers, 0, is_delisting=True)


def _must_wait(row: CapturedRow) -> bool:
    return row.is_doubted and row.is_acked_since_doubt and not row.is_doubt_over
