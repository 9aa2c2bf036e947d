"""What an operator's push of one SKU would do."""

from dataclasses import dataclass, replace
from typing import assert_never

from daemon.core import plan
from daemon.core.explain.facts import Facts, Filling, named
from daemon.core.explain.ledger_row import LedgerRow
from daemon.core.times import TimeFormat
from daemon.core.types import Sku


@dataclass(frozen=True, slots=True)
class PlannedPush:
    """The number that would be sent (None: nothing), and under which identifiers; `why` says so in words."""

    why: str
    quantity: int | None = None
    identifiers: tuple[str, ...] = ()

    @property
    def would_send(self) -> bool:
        return self.quantity is not None


def refusal(facts: Facts) -> str | None:
    """Say why a push is not even tried; None: it is."""
    name = facts.channel
    if facts.paused is not None:
        return (
            f"{name} is paused ({facts.paused.words}): nothing is sent; `stockrelay resume {name}` ends that"
        )
    if facts.shadow is not None:
        return f"{name} is in shadow, so nothing is sent: {facts.shadow}"
    if not facts.has_owner:
        return f"no daemon serves {name} at the moment, so nothing is sent; start one: stockrelay run"
    if facts.is_left_out:
        return f"nothing is sent for it: channels.{name}.only or only_where leaves it out"
    if facts.filling is Filling.HELD:
        return f"the guard holds the channel's first filling; `stockrelay release {name}` ends that"
    if facts.filling is Filling.AWAITED:
        return "the whole listing has not been compared for the first time yet: try again in a moment"
    return None


def planned_push(facts: Facts, problem: plan.Problem, times: TimeFormat) -> PlannedPush:
    """Return what a push now would do, of a row that the ledger has."""
    row = facts.row
    if (reason := refusal(facts)) is not None:
        return PlannedPush(reason)
    if facts.listing_problem is not None:
        return PlannedPush(f"the listing fails: {facts.listing_problem}")
    if row is None:
        return PlannedPush("the daemon does not follow it yet: it is sent when its first reading is over")
    if row.held_at is not None:
        return PlannedPush(f"the guard holds its number; `stockrelay release {facts.channel}` sends it")
    decision = facts.decided(_asked_for(row, facts), problem)
    later = "" if row.attempt_id is None else ", when the attempt that is in flight has ended"
    if facts.trouble is not None:
        later += f", when the channel is no longer in trouble ({facts.trouble.words})"
    return _described(row, decision, later, times)


def _asked_for(row: LedgerRow, facts: Facts) -> LedgerRow:
    """Return the row as the push leaves it."""
    now = facts.now
    doubt_at, doubt_until = row.doubt_at or now, row.doubt_until or now
    return replace(
        row, doubt_at=doubt_at, doubt_until=doubt_until, due_at=now, failures=0, retry_at=None, parked_at=None
    )


def _described(row: LedgerRow, decision: plan.Decision, later: str, times: TimeFormat) -> PlannedPush:
    match decision:
        case plan.Send(identifiers, quantity, is_delisting):
            gone = ", which is no longer listed" if is_delisting else ""
            why = f"{quantity} would be sent as {named(identifiers)}{gone}{later}"
            return PlannedPush(why, quantity, identifiers)
        case plan.NoSend.WAIT:
            assert row.doubt_until is not None
            at = times.at(row.doubt_until)
            why = f"{row.acked_quantity} would be sent {at}, when no earlier attempt can land any more{later}"
            return PlannedPush(why, row.acked_quantity, row.identifiers or ())
        case plan.Park(reason):
            return PlannedPush(f"it can't be sent: {reason}")
        case plan.CoveredBySum(carrier):
            return PlannedPush(_in_sum(carrier))
        case plan.NoSend.FORGET | plan.NoSend.SETTLED:
            return PlannedPush("it is not listed, and the marketplace holds no number of it")
        case plan.NoSend.HOLD | plan.NoSend.DEFER:
            return PlannedPush("too many numbers are wrong at once")
        case _:
            assert_never(decision)


def _in_sum(carrier: Sku) -> str:
    return f"its number is part of {carrier}'s sum: push {carrier}"
