"""What happens next to one SKU at one marketplace, in words: what `decide` says of the row as the next claim will find
it, and what a reading would mark."""

import math
import shlex
from datetime import datetime
from enum import StrEnum
from typing import assert_never

from daemon.core import plan
from daemon.core.explain.facts import Facts, Filling, is_quiet, is_still_wrong, is_unparked, named
from daemon.core.explain.ledger_row import LedgerRow
from daemon.core.times import TimeFormat
from daemon.core.types import Sku


class Step(StrEnum):
    """Who takes the next step."""

    NOBODY = "nobody"
    """Nothing happens before an operator, the ERP or the marketplace changes something."""
    LISTING = "listing"
    """Nothing happens as long as the listing fails."""
    ANSWER = "answer"
    """The open attempt ends."""
    READING = "reading"
    """The intake marks the row to be sent, or tried again."""
    RELEASE = "release"
    """The guard releases the number, or the ERP's number is right again."""
    CLAIM = "claim"
    """A claim decides, when the row is due."""
    LIVE = "live"
    """An operator lets the channel be sent to."""


def next_step(facts: Facts, problem: plan.Problem) -> Step:
    """Return who takes the next step with the SKU."""
    row = facts.row
    if row is not None and row.attempt_id is not None:
        return Step.ANSWER
    if facts.listing_problem is not None:
        return Step.LISTING
    if row is None:
        return Step.NOBODY if facts.listed is None or facts.is_left_out else Step.READING
    if facts.is_left_out:
        return Step.CLAIM if row.is_waiting and row.held_at is None else Step.READING
    if row.parked_at is not None:
        return Step.READING if is_unparked(facts, row) else Step.NOBODY
    if row.held_at is not None:
        return Step.RELEASE if is_still_wrong(facts, row) else Step.READING
    if row.is_shadowed:
        return Step.CLAIM if facts.shadow is None else Step.LIVE
    if row.is_waiting:
        return Step.RELEASE if facts.filling is Filling.HELD else Step.CLAIM
    return Step.NOBODY if is_quiet(facts, row, problem) else Step.READING


def describe_next_step(facts: Facts, problem: plan.Problem, times: TimeFormat) -> str:
    """Return what happens next, in a sentence or two."""
    row, step = facts.row, next_step(facts, problem)
    match step:
        case Step.LISTING:
            return "Nothing new is sent before the listing works: see `stockrelay check`."
        case Step.ANSWER:
            assert row is not None
            return _after_the_answer(facts, row, times)
        case Step.READING:
            return _read(facts, row, problem, times)
        case Step.RELEASE:
            return _released(facts)
        case Step.LIVE:
            return f"Nothing is sent: {facts.shadow}. After that, the number of that moment is sent."
        case Step.CLAIM:
            assert row is not None
            return _after_obstacle(facts, _claim(facts, row, facts.decided(row, problem), times))
        case Step.NOBODY:
            about_to = " A change is captured and about to be read." if facts.is_unread and row else ""
            return _nothing(facts, row, problem) + about_to
        case _:
            assert_never(step)


def _nothing(facts: Facts, row: LedgerRow | None, problem: plan.Problem) -> str:
    if row is None and facts.is_left_out:
        return (
            f"Nothing: channels.{facts.channel}.only or only_where leaves it out, so nothing is sent for it."
        )
    if row is None:
        return "Nothing: it is neither listed here nor known from before."
    if row.parked_at is None:
        decision = facts.decided(row, problem)
        if isinstance(decision, plan.CoveredBySum):
            return f"Nothing is sent for it: {_carried(facts, decision.carrier)}."
        return _differing(facts, row)
    if row.twins and facts.duplicates == "park":
        return (
            "Nothing is sent while other SKUs have its identifiers; when it has them for itself, its number is sent at "
            f"once. Or let the sum of them be sent: channels.{facts.channel}.duplicates."
        )
    if (lacking := _lacking(facts)) is not None:
        return f"Nothing is sent until the listing has {lacking} that can be sent."
    return (
        "Nothing is sent until its row in the listing changes, and not only in its number; or now, with "
        f"`stockrelay parked retry {facts.channel} {shlex.quote(facts.sku)}`."
    )


def _lacking(facts: Facts) -> str | None:
    """Return what the listing lacks, where that is only a number that can be sent."""
    listed = facts.listed
    if listed is None or listed.rows != 1 or listed.quantity is not None or listed.fault is not None:
        return None
    return "a quantity" if listed.carrier is None else "a sum"


def _carried(facts: Facts, carrier: Sku) -> str:
    """Say why nothing is sent for a SKU whose number is part of the carrier's, and whether that one can be sent."""
    problem = None if facts.listed is None else plan.sum_problem(facts.listed)
    if problem is not None:
        return f"its number is part of {carrier}'s sum, which can't be sent: {problem}"
    reason = next((twin.parked_reason for twin in facts.twins if twin.sku == carrier), None)
    if reason is not None:
        return f"its number is part of {carrier}'s sum, which is parked: {reason}"
    return f"{carrier} has the sum of all that have its identifiers"


def _differing(facts: Facts, row: LedgerRow) -> str:
    """Say why nothing is sent of an acknowledged number that is not in doubt, given what reconcile saw of it."""
    seen = next((one for one in facts.differences if one.is_open), None)
    if seen is None:
        return "Nothing is sent: the marketplace holds this number, and nothing is in doubt."
    if seen.status == "contested":
        return (
            "Nothing is sent: the marketplace acknowledged this number more than once, and reconcile saw another one "
            "there each time. Find out who else writes there. The next reconcile looks again."
        )
    if row.acked_at is not None and row.acked_at > seen.last_seen:
        return "Nothing is sent: it was sent again since reconcile saw the difference. The next reconcile looks again."
    return (
        "Nothing is sent: the marketplace acknowledged this number, and reconcile saw another one there. Reconcile "
        "does not send it again: `reconcile.heal` is off, or the difference is one that another number does not end."
    )


def _released(facts: Facts) -> str:
    if facts.filling is Filling.HELD:
        return (
            "Nothing is sent on this channel until the ERP's numbers are corrected or the hold is released: "
            f"`stockrelay release {facts.channel}`."
        )
    if facts.guard is None:
        return _after_obstacle(facts, "The guard holds nothing any more: the number is due within a moment.")
    return (
        "The number is not sent until the ERP's numbers are back or the hold is released: "
        f"`stockrelay release {facts.channel}`. A number that is not wrong is sent as always."
    )


def _read(facts: Facts, row: LedgerRow | None, problem: plan.Problem, times: TimeFormat) -> str:
    """Say what a reading finds, and what a claim does then."""
    if facts.is_left_out:
        return "The next comparison of everything forgets it, and nothing is sent: `only` leaves it out."
    found = f"{_reading(facts, times)} {_obstacle(facts)}".rstrip()
    if row is not None and row.parked_at is None:
        return found
    decision = facts.decided(row, problem)
    if isinstance(decision, plan.Park):
        return f"{found} Then it is parked{' again' if row else ''}: {decision.reason}."
    if row is not None:
        return f"{found} Then it is tried again."
    if isinstance(decision, plan.CoveredBySum):
        return f"{found} Then nothing is sent for it: {_carried(facts, decision.carrier)}."
    return f"{found} Then it waits for the debounce and is sent for the first time."


def _reading(facts: Facts, times: TimeFormat) -> str:
    if facts.is_first_reading:
        return "This channel has read nothing yet: everything is compared as soon as a daemon runs."
    if facts.is_unread:
        return "The change is captured and is read as soon as a daemon runs."
    when = "" if facts.resync_at is None else f", {times.at(facts.resync_at)}"
    return (
        "No change was captured for this (is every table that the listing reads watched?): "
        f"the next comparison of everything finds it{when}."
    )


def _after_the_answer(facts: Facts, row: LedgerRow, times: TimeFormat) -> str:
    assert row.attempt_at is not None
    sentence = _awaited(facts, row.attempt_at, times)
    if row.attempt_seq is not None and row.want_seq > row.attempt_seq:
        quantity = None if facts.listed is None else facts.listed.quantity
        number = "" if quantity is None else f", {quantity},"
        sentence += f" A newer number{number} waits for that: there are never two requests for one SKU."
    if facts.paused is not None:
        sentence += f" Nothing after it is claimed until `stockrelay resume {facts.channel}`."
    return sentence


def _awaited(facts: Facts, sent_at: datetime, times: TimeFormat) -> str:
    doubt = f"in doubt until {times.at(sent_at + facts.settings.settle)} and is sent again."
    if not facts.has_owner:
        return f"No daemon waits for its answer any more: when one owns its slot, the SKU is {doubt}"
    # Its outcome is written a moment after the answer.
    if facts.now > sent_at + 2 * facts.settings.timeout:
        late = "Its answer is overdue, or its outcome could not be written yet: the daemon tries again."
        return f"{late} If it knows no answer, the SKU is {doubt}"
    timeout_s = facts.settings.timeout.total_seconds()
    return f"Its answer is awaited for at most {timeout_s:g} s. Without a clear one the SKU is {doubt}"


def _after_obstacle(facts: Facts, sentence: str) -> str:
    obstacle = _obstacle(facts)
    return f"{obstacle} Then: {sentence}" if obstacle else sentence


def _obstacle(facts: Facts) -> str:
    """Say what keeps the channel from claiming."""
    if facts.paused is not None:
        return f"Not while the channel is paused: `stockrelay resume {facts.channel}` ends that."
    if facts.shadow is not None:
        return f"It is decided but not sent: {facts.shadow}."
    if facts.filling is Filling.AWAITED:
        return "Not before the whole listing has been compared for the first time."
    if not facts.has_owner:
        return "Not before a daemon runs: no daemon owns the SKU's slot."
    if facts.trouble is not None:
        return "Not while the channel is in trouble: a request is tried from time to time."
    return ""


def _claim(facts: Facts, row: LedgerRow, decision: plan.Decision, times: TimeFormat) -> str:
    at = facts.claimed_at(row)
    when = "now" if at <= facts.now else f"at {times.at(at)}"
    if row.due_at is None:
        when += ", after the SKUs that changed"
    match decision:
        case plan.Send():
            return _sending(facts, row, decision, when, times)
        case plan.NoSend.SETTLED:
            return f"{when}, nothing is sent: the marketplace holds {row.acked_quantity} already."
        case plan.NoSend.WAIT:
            assert row.doubt_until is not None
            at_last = times.at(row.doubt_until)
            if facts.is_left_out:
                return f"it is forgotten {at_last}, when nothing older can land: `only` leaves it out."
            return f"{row.acked_quantity} is confirmed {at_last}, when nothing older can land."
        case plan.Park(reason):
            return f"{when}, it is parked: {reason}."
        case plan.NoSend.FORGET if facts.is_left_out:
            return (
                f"{when}, it is forgotten, and nothing is sent: channels.{facts.channel}.only leaves it out."
            )
        case plan.NoSend.FORGET:
            if facts.successor is not None:
                return f"{when}, it is forgotten: {facts.successor} is sold under its identifiers now."
            return f"{when}, it is forgotten: the marketplace holds no number of it."
        case plan.CoveredBySum(carrier):
            return f"{when}, nothing is sent for it: {_carried(facts, carrier)}."
        case plan.NoSend.HOLD | plan.NoSend.DEFER:
            return f"{when}, nothing is sent: too many numbers are wrong at once."
        case _:
            assert_never(decision)


def _sending(facts: Facts, row: LedgerRow, send: plan.Send, when: str, times: TimeFormat) -> str:
    sentence = f"{when}, {send.quantity} is sent as {named(send.identifiers)}"
    if send.is_delisting:
        if facts.listed is None:
            return sentence + ", and once that is acknowledged the SKU is forgotten."
        return sentence + f", which it has left, and then its number as {named(facts.listed.identifiers)}."
    is_guarded = facts.factor < math.inf
    if is_guarded and plan.unseen_anomaly(facts.captured_row(row), facts.listed, facts.factor) is not None:
        sentence += ", unless too many numbers are wrong at once: then they are counted first"
    if row.doubt_until is not None and row.doubt_until > facts.claimed_at(row):
        return sentence + f", and confirmed {times.at(row.doubt_until)}, when nothing older can land."
    return sentence + (", which ends the doubt." if row.doubt_at is not None else ".")
