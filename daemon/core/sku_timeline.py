"""The timeline of one SKU at one channel: its attempts, its differences and what the ledger has."""

from dataclasses import dataclass
from datetime import datetime

from daemon.core.explain.facts import Facts


@dataclass(frozen=True, slots=True)
class TimelineEvent:
    """Something that happened. `kind` names a text of the page, with `values` in it; `words` come from elsewhere."""

    at: datetime
    kind: str
    values: tuple[object, ...] = ()
    words: str = ""


def timeline(facts: Facts) -> list[TimelineEvent]:
    """Return what happened to the SKU, the newest first."""
    events = [
        TimelineEvent(one.at, "event.attempt", (one.quantity, one.outcome), one.reason)
        for one in facts.attempts
    ]
    for seen in facts.differences:
        values = (seen.kind, _known(seen.ours), _known(seen.theirs))
        events.append(TimelineEvent(seen.first_seen, "event.difference", values))
        if not seen.is_open:
            events.append(TimelineEvent(seen.last_seen, "event.resolved", (seen.kind,)))
        elif seen.times_seen > 1:
            events.append(TimelineEvent(seen.last_seen, "event.seen_again", (seen.kind, seen.times_seen)))
    row = facts.row
    if row is not None:
        for at, kind, words in (
            (row.first_dirty_at, "event.changed", ""),
            (row.held_at, "event.held", ""),
            (row.doubt_at, "event.doubt", ""),
            (row.parked_at, "event.parked", row.parked_reason or ""),
            (row.discarded_at if row.is_discarded else None, "event.discarded", ""),
            (row.sync_at, "event.sync", ""),
        ):
            if at is not None:
                events.append(TimelineEvent(at, kind, (), words))
    return sorted(events, key=lambda event: event.at, reverse=True)


def _known(number: int | None) -> str:
    return "–" if number is None else str(number)
