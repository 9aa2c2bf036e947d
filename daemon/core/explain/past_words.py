"""The past of one SKU on one channel, in words."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Final

from daemon.core.explain.explanation import OUTCOMES, Part
from daemon.core.explain.facts import named
from daemon.core.explain.past import (
    MarketplaceState,
    Past,
    PossibleNumber,
    ReadNumber,
    RecordedAttempt,
    SkuHistory,
)
from daemon.core.outcome import Kind
from daemon.core.times import span

_SHOWN_LATER: Final = 2
_UNKNOWN: Final = "not known"


@dataclass(frozen=True, slots=True)
class _Times:
    """Times in the reader's zone, and how far they are from the moment asked for."""

    moment: datetime
    zone: tzinfo

    def at(self, time: datetime) -> str:
        away = time - self.moment
        word = "before" if time <= self.moment else "after"
        return f"{self.clock(time)} ({span(abs(away))} {word})"

    def clock(self, time: datetime) -> str:
        there, here = time.astimezone(self.zone), self.moment.astimezone(self.zone)
        day = "" if there.date() == here.date() else f"{there:%Y-%m-%d} "
        return f"{day}{there:%H:%M:%S}.{there.microsecond // 1000:03}"


def explain_past(history: SkuHistory, past: Past, zone: tzinfo, attempts: int) -> tuple[Part, ...]:
    """Describe what ERP, marketplace and ledger held at the moment, the last `attempts` before and the first after it,
    and where the record ends."""
    times = _Times(history.moment, zone)
    parts = (
        Part("ERP", tuple(_erp(history, past, times))),
        Part("marketplace", tuple(_marketplace(history, past, times))),
        Part("ledger", tuple(_ledger(past, times))),
        Part("reconcile", tuple(_reconcile(history, times))),
        Part("attempts", tuple(_attempts(history, times, attempts))),
        Part("record", tuple(_record(history, zone))),
    )
    return tuple(part for part in parts if part.lines)


def _erp(history: SkuHistory, past: Past, times: _Times) -> Iterator[str]:
    if past.erp is None:
        begins = history.readings_begin or history.begins
        yield f"{_UNKNOWN}: no reading of it is recorded until then; {_begins('readings', begins, times.zone)}"
    elif past.erp.at is None:
        yield f"{_number(past.erp)}, read before readings were recorded, and not read otherwise since"
    else:
        yield f"{_number(past.erp)}, as read {times.at(past.erp.at)}"
    if past.erp_next is not None and past.erp_next.at is not None:
        yield f"read next {times.at(past.erp_next.at)}: {_number(past.erp_next)}"


def _number(reading: ReadNumber) -> str:
    if reading.listed_rows == 0:
        return "not listed, so 0"
    if reading.listed_rows > 1:
        return f"no number: {reading.listed_rows} rows for one SKU"
    return "no number that can be sent" if reading.quantity is None else str(reading.quantity)


def _marketplace(history: SkuHistory, past: Past, times: _Times) -> Iterator[str]:
    if not past.marketplace:
        begins = _begins("attempts", history.begins, times.zone)
        yield f"{_UNKNOWN}: nothing that was sent for it until then is recorded; {begins}"
    for held in past.marketplace:
        yield from _held(history, held, times)


def _held(history: SkuHistory, held: MarketplaceState, times: _Times) -> Iterator[str]:
    name = named(held.identifiers)
    if held.acknowledged is None and not held.unclear:
        yield f"as {name}: {_UNKNOWN}: nothing that it accepted until then is recorded"
        return
    if held.acknowledged is None:
        yield f"as {name}: {_UNKNOWN} before {times.clock(held.unclear[0].at)}; it may have been:"
    elif held.is_certain:
        yield f"{_quantity(held.acknowledged)} as {name}, {_sent(held.acknowledged, times)}"
    else:
        yield f"in doubt as {name}: {_quantity(held.acknowledged)}, {_sent(held.acknowledged, times)}; or:"
    for one in () if held.is_certain else held.unclear:
        yield f"  {_quantity(one)}, {_unclear(history, one, times)}"


def _quantity(one: PossibleNumber) -> str:
    return "not offered (0)" if one.quantity is None else str(one.quantity)


def _sent(one: PossibleNumber, times: _Times) -> str:
    if one.attempt is None:
        return f"acknowledged {times.at(one.at)}"
    return f"sent {times.at(one.at)} and acknowledged"


def _unclear(history: SkuHistory, one: PossibleNumber, times: _Times) -> str:
    if one.is_in_flight:
        return f"claimed {times.at(one.at)} and not answered yet"
    assert one.lands_until is not None
    ended = "and could still land" if history.moment < one.lands_until else "and may have landed"
    return f"sent {times.at(one.at)} without a clear answer, {ended} until {times.clock(one.lands_until)}"


def _ledger(past: Past, times: _Times) -> Iterator[str]:
    ledger = past.ledger
    if ledger.acknowledged is None:
        yield "acknowledged: nothing that is recorded"
    else:
        yield f"acknowledged: {_quantity(ledger.acknowledged)}"
    if ledger.waits_since is not None:
        yield f"a change was waiting since {times.at(ledger.waits_since)}"
    if ledger.in_flight is not None:
        yield f"in flight since {times.at(ledger.in_flight.at)}: {ledger.in_flight.quantity}"
    if ledger.refused is not None:
        yield f'parked, as {ledger.refused.quantity} was refused: "{ledger.refused.reason}"'
    if ledger.parked_since is not None:
        yield f"parked since {times.at(ledger.parked_since)}, and still is"
    if ledger.held_since is not None:
        yield f"held by the guard since {times.at(ledger.held_since)}, and still is"


def _reconcile(history: SkuHistory, times: _Times) -> Iterator[str]:
    for seen in history.differences:
        if seen.first_seen > history.moment and not seen.is_open:
            continue
        theirs = "nothing" if seen.theirs is None else seen.theirs
        yield (
            f"{seen.kind.replace('_', ' ')}: seen first {times.at(seen.first_seen)}, last {times.at(seen.last_seen)}, "
            f"when the marketplace had {theirs}"
        )


def _attempts(history: SkuHistory, times: _Times, most: int) -> Iterator[str]:
    before = history.attempts[len(history.attempts) - min(most, len(history.attempts)) :]
    for one in (*before, *history.later[: min(most, _SHOWN_LATER)]):
        yield _attempt(one, times)


def _attempt(one: RecordedAttempt, times: _Times) -> str:
    took = "" if one.duration_ms is None else f" after {one.duration_ms:.0f} ms"
    words = f': "{one.reason}"' if one.reason else ""
    answers = f"; its change was read {times.clock(one.since)}" if one.since and one.since < one.at else ""
    outcome = OUTCOMES.get(one.outcome, one.outcome)
    return f"{times.at(one.at)}  {one.quantity} as {named(one.identifiers)}  {outcome}{took}{words}{answers}"


def _record(history: SkuHistory, zone: tzinfo) -> Iterator[str]:
    yield _begins("attempts", history.begins, zone)
    yield _begins("readings", history.readings_begin, zone)
    yield (
        "what the marketplace held is what was sent and answered: what it sold or changed itself is seen by "
        "reconcile alone"
    )
    if any(one.outcome == Kind.UNKNOWN for one in history.attempts):
        yield f"doubt is calculated with today's settle time, {span(history.settle)}"


def _begins(what: str, begins: datetime | None, zone: tzinfo) -> str:
    if begins is None:
        return f"no {what} are recorded"
    return f"the record of {what} begins {begins.astimezone(zone):%Y-%m-%d %H:%M:%S %Z}"
