"""The explanation of one SKU on one channel, part by part."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from daemon.core.explain.facts import Facts, Filling, PastAttempt, SkuState, Twin, named, state
from daemon.core.explain.ledger_row import LedgerRow
from daemon.core.explain.next_step import describe_next_step
from daemon.core.outcome import GONE, SHADOW, Kind
from daemon.core.plan import Listed, Problem, quantity_problem, sum_problem
from daemon.core.times import TimeFormat

OUTCOMES: Final[dict[str, str]] = {
    Kind.APPLIED: "acknowledged",
    Kind.REFUSED: "refused",
    Kind.NOT_SENT: "not sent",
    Kind.TROUBLE: "the channel was refused",
    Kind.UNKNOWN: "no clear answer",
    SHADOW: "in shadow, not sent",
    GONE: "refused, as the marketplace does not offer it",
}


@dataclass(frozen=True, slots=True)
class Part:
    """The sentences about one subject."""

    about: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """All parts; `next` is what the last one says."""

    state: SkuState
    parts: tuple[Part, ...]
    next: str


def explain_sku(facts: Facts, problem: Problem, times: TimeFormat) -> Explanation:
    """Explain one SKU: the ERP's number, what the listing makes of it, the ledger, the attempts, reconcile, and what
    happens next. `problem` is the marketplace's."""
    after = describe_next_step(facts, problem, times)
    after = after[:1].upper() + after[1:]
    parts = (
        Part("ERP now", (_number(facts),)),
        Part("listing", tuple(_listing(facts))),
        Part("ledger", tuple(_ledger(facts, times))),
        Part("shared", tuple(_shared(facts, times))),
        Part("channel", tuple(_channel(facts, times))),
        Part("attempts", tuple(_attempt(one, times) for one in facts.attempts)),
        Part("operators", tuple(f"{times.at(one.at)}  {one.words()}" for one in facts.operations)),
        Part("reconcile", tuple(_reconcile(facts, times))),
        Part("next", (after,)),
    )
    return Explanation(state(facts, problem), tuple(part for part in parts if part.lines), after)


def _number(facts: Facts) -> str:
    listed = facts.listed
    if facts.listing_problem is not None:
        return "unknown: the listing fails"
    if listed is None:
        return "not listed, so 0"
    if listed.is_left_out:
        own = _value(facts.listing[0].get("quantity")) if facts.listing else "unknown"
        return f"{own}, which is not sent"
    if listed.fault is not None:
        return "unknown: its row in the listing can't be read"
    if listed.rows > 1:
        return f"unknown: {listed.rows} rows for one SKU"
    if listed.carrier is not None:
        return _number_of_sum(facts, listed)
    return (
        f"unknown: {quantity_problem(listed.raw_quantity)}"
        if listed.quantity is None
        else str(listed.quantity)
    )


def _number_of_sum(facts: Facts, listed: Listed) -> str:
    """Describe the SKU's own number and the sum that it is part of."""
    own = _value(facts.listing[0].get("quantity")) if facts.listing else "its number"
    problem = sum_problem(listed)
    if problem is not None:
        return f"{own}, part of a sum that can't be sent: {problem}"
    if listed.carrier != facts.sku:
        return f"{own}, part of {listed.carrier}'s sum"
    return f"{listed.quantity}, the sum of all SKUs with its identifiers ({own} of its own)"


def _listing(facts: Facts) -> Iterator[str]:
    query, listed = f"channels.{facts.channel}.listing", facts.listed
    if facts.listing_problem is not None:
        yield f"{query} fails: {facts.listing_problem}"
        return
    if listed is not None and listed.fault is not None:
        yield f"{query} fails on this SKU: {listed.fault}"
        return
    count = len(facts.listing) if facts.is_left_out else 0 if listed is None else listed.rows
    rows = {0: "no row", 1: "one row"}.get(count, f"{count} rows")
    yield f"{query} gives {rows} for this SKU" + (":" if count else "")
    for row in facts.listing:
        yield "  " + ", ".join(f"{column}={_value(value)}" for column, value in row.items())
    if count > len(facts.listing):
        yield f"  and {count - len(facts.listing)} more"
    if facts.is_left_out:
        yield f"channels.{facts.channel}.only or only_where leaves it out, so the marketplace keeps its number"
    if listed is None or listed.rows != 1:
        return
    if not listed.identifiers:
        yield "its identifiers hold bytes that are no text in the database's encoding"
        return
    raw = _value(facts.listing[0].get("quantity")) if facts.listing else ""
    is_as_listed = raw == str(listed.quantity) or listed.quantity is None or listed.carrier is not None
    sent_as = "" if is_as_listed else f"; {raw} is sent as {listed.quantity}"
    yield f"the marketplace knows it as {named(listed.identifiers)} ({', '.join(facts.columns)}){sent_as}"


def _value(value: Any) -> str:  # noqa: ANN401 - whatever a column can hold
    return "NULL" if value is None else str(value)


def _ledger(facts: Facts, times: TimeFormat) -> Iterator[str]:
    row = facts.row
    if row is None:
        yield "nothing: it was never sent to the marketplace, or it left and was forgotten"
        return
    yield _acknowledged(facts, row, times)
    if facts.listed is None and facts.listing_problem is None:
        yield "it has left the listing"
    if row.parked_at is not None:
        yield f"parked since {times.at(row.parked_at)}, because {row.parked_reason}"
        if row.is_discarded and row.discarded_at is not None:
            yield f"known since {times.at(row.discarded_at)} (discarded): left out of summaries"
    if row.held_at is not None:
        why = facts.guard.words if facts.guard else "too many numbers are wrong at once"
        yield f"held by the guard since {times.at(row.held_at)}: {why}"
    if row.attempt_id is not None and row.attempt_at is not None:
        yield (
            f"in flight since {times.at(row.attempt_at)}: {row.attempt_quantity} as {named(row.identifiers or ())} "
            f"(attempt {row.attempt_id})"
        )
    if row.doubt_until is not None:
        yield _doubt(facts, row, times)
    if row.failures > 1:
        yield f"ended without a clear answer {_times(row.failures)} in a row"
    yield from _waiting(facts, row, times)


def _shared(facts: Facts, times: TimeFormat) -> Iterator[str]:
    """Describe the other SKUs with the same identifiers, and the marketplace's number for all of them."""
    if not facts.twins or facts.listed is None:
        return
    name = named(facts.listed.identifiers)
    yield f"{name} is also the name of:"
    for twin in facts.twins:
        yield f"  {_twin(facts, twin)}"
    row = facts.row
    own = row if row is not None and row.identifiers == facts.listed.identifiers else None
    sent = [(twin.acked_at, twin.acked_quantity, twin.sku) for twin in facts.twins if twin.acked_at]
    if own is not None and own.acked_at is not None:
        sent.append((own.acked_at, own.acked_quantity, facts.sku))
    is_unclear = own is not None and (own.attempt_id is not None or own.doubt_at is not None)
    keeps = "the marketplace keeps one number for all of them"
    if is_unclear or any(twin.is_unclear for twin in facts.twins):
        yield f"{keeps}; which one is not clear just now"
    elif sent:
        at, acked, sku = max(sent, key=lambda one: one[0])
        yield f"{keeps}: {acked}, acknowledged for {sku} {times.at(at)}"
    else:
        yield f"{keeps}, and was sent none of theirs"


def _twin(facts: Facts, twin: Twin) -> str:
    if facts.duplicates == "sum":
        is_carrier = facts.listed is not None and twin.sku == facts.listed.carrier
        parked = "" if twin.parked_reason is None else ", and is parked"
        return twin.sku + (f", which has the sum{parked}" if is_carrier else "")
    quantity = "no number that can be sent" if twin.quantity is None else str(twin.quantity)
    acked = "" if twin.acked_quantity is None else f"; acknowledged: {twin.acked_quantity}"
    return f"{twin.sku}, listed with {quantity}{acked}"


def _acknowledged(facts: Facts, row: LedgerRow, times: TimeFormat) -> str:
    if row.acked_quantity is None or row.acked_at is None:
        if row.identifiers is None and any(one.outcome != "shadow" for one in facts.attempts):
            return "nothing that was sent for it counts any more"
        if row.identifiers is None:
            return "nothing is acknowledged for it"
        if row.acked_quantity is not None:
            return f"the marketplace held {row.acked_quantity} as {named(row.identifiers)} when the channel went live"
        return f"sent as {named(row.identifiers)}; nothing is acknowledged under that yet"
    return f"acknowledged: {row.acked_quantity} as {named(row.identifiers or ())}, {times.at(row.acked_at)}"


def _doubt(facts: Facts, row: LedgerRow, times: TimeFormat) -> str:
    assert row.doubt_until is not None
    is_over = row.doubt_until <= facts.now
    lasts = "in doubt until it is confirmed" if is_over else f"in doubt until {times.at(row.doubt_until)}"
    # The doubt of an attempt ends one settle time after it was claimed; any other doubt was asked for.
    begun = row.doubt_until - facts.settings.settle
    unclear = (one for one in facts.attempts if one.outcome == Kind.UNKNOWN)
    lost = next((one for one in unclear if abs(one.at - begun) < timedelta(seconds=1)), None)
    if lost is None:
        return f"{lasts}, because its number has to be confirmed"
    words = f' ("{lost.reason}")' if lost.reason and lost.reason != row.parked_reason else ""
    ending = "" if is_over else " and may still land"
    return f"{lasts}, because {lost.quantity}, sent {times.at(lost.at)}, had no clear answer{words}{ending}"


def _waiting(facts: Facts, row: LedgerRow, times: TimeFormat) -> Iterator[str]:
    if row.sync_at is not None and row.attempt_id is None:
        yield "waits for the sync of the whole channel"
    if row.due_at is None:
        if (row.sync_at, row.attempt_id, row.parked_at, row.held_at, row.doubt_at) == (None,) * 5:
            yield "nothing waits, and nothing is in doubt"
        return
    if row.is_shadowed:
        yield f"would be sent: {row.shadow_quantity} as {named(row.shadow_identifiers or ())}"
        return
    if row.is_debouncing(facts.now):
        assert row.first_dirty_at is not None
        yield (
            f"changed {times.at(row.first_dirty_at)}; waiting for the debounce until {times.at(row.due_at)}, "
            f"at most until {times.clock(row.first_dirty_at + facts.settings.max_wait)}"
        )
    elif row.due_at > facts.now:
        is_confirmation = row.doubt_until is not None and row.due_at >= row.doubt_until
        yield f"{'sent once more' if is_confirmation else 'tried again'} {times.at(row.due_at)}"
    else:
        yield f"due since {times.at(row.due_at)}"
    if row.urgent:
        yield "urgent: it goes ahead of others"


def _channel(facts: Facts, times: TimeFormat) -> Iterator[str]:
    if facts.paused is not None:
        yield f"paused since {times.at(facts.paused.since)} {facts.paused.words}"
    if facts.shadow is not None:
        yield f"in shadow, so nothing is sent: {facts.shadow}"
    if facts.filling is Filling.HELD and facts.guard is not None:
        yield f"held by the guard since {times.at(facts.guard.since)}: {facts.guard.words}"
    if facts.guard is not None and facts.threshold:
        yield f"the guard: {facts.threshold}"
    if facts.trouble is not None:
        yield f"in trouble since {times.at(facts.trouble.since)}: {facts.trouble.words}"
    if not facts.has_owner:
        yield "no daemon owns its slot"


def _attempt(one: PastAttempt, times: TimeFormat) -> str:
    took = "" if one.duration_ms is None else f" after {one.duration_ms:.0f} ms"
    words = f': "{one.reason}"' if one.reason else ""
    outcome = OUTCOMES.get(one.outcome, one.outcome)
    return f"{times.at(one.at)}  {one.quantity} as {named(one.identifiers)}  {outcome}{took}{words}"


def _reconcile(facts: Facts, times: TimeFormat) -> Iterator[str]:
    for seen in facts.differences:
        ours, theirs = ("none" if number is None else number for number in (seen.ours, seen.theirs))
        numbers = "" if ours == theirs == "none" else f" (ERP {ours}, marketplace {theirs})"
        yield (
            f"{seen.kind.replace('_', ' ')}{numbers}: {seen.status.replace('_', ' ')} {times.at(seen.last_seen)}; "
            f"seen {_times(seen.times_seen)}, first {times.at(seen.first_seen)}"
        )


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")
