"""The exposure clock: unit-seconds in which a marketplace could sell what the ERP did not have (over), or could not
sell what it had (lost), divided among reasons and business days. docs/exposure.md has the definition."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, tzinfo
from enum import StrEnum
from typing import Final, NamedTuple

Span = tuple[datetime, datetime]
"""From when until when."""


class Reason(StrEnum):
    """What a number was waiting for. The order is that of the arrays in the database: new ones go to the end."""

    READING = "reading"
    """The change was committed and not read yet."""
    DEBOUNCE = "debounce"
    """It was gathered with the SKU's other changes."""
    QUEUE = "queue"
    """It was due, and waited for the channel's rate and for others before it."""
    MARKETPLACE = "marketplace"
    """The request was in flight."""
    DOUBT = "doubt"
    """A request ended without a clear answer, and may have been applied."""
    TROUBLE = "trouble"
    """The channel could not be used."""
    PAUSED = "paused"
    """An operator had paused the channel."""
    AWAY = "daemon_away"
    """No daemon was serving the channel."""
    GUARD = "guard"
    """The guard held the number."""
    PARKED = "parked"
    """The SKU was parked."""


REASONS: Final = tuple(Reason)
HELD_OR_PARKED: Final = frozenset({Reason.GUARD, Reason.PARKED})
"""What waits for an operator; shown separately."""
_PLACES: Final = {reason: place for place, reason in enumerate(REASONS)}
_NO_GAP: Final = timedelta(seconds=20)
"""A channel whose daemon was last seen so recently is being served."""


class Segment(NamedTuple):
    """A time that has ended; its times are None where there was none. `over` and `lost` are units. If the ERP's number
    changed meanwhile, for the last time at `counted_until`, they are those from then on, and `counted_over` and
    `counted_lost` are the unit-seconds before. See `stockrelay.exposure_segment`."""

    sku: str
    began_at: datetime
    ended_at: datetime
    marked_at: datetime | None
    due_at: datetime | None
    sent_at: datetime | None
    held_at: datetime | None
    parked_at: datetime | None
    is_doubted: bool
    over: float
    lost: float
    counted_until: datetime | None = None
    counted_over: float | None = None
    counted_lost: float | None = None


@dataclass(frozen=True, slots=True)
class Conditions:
    """When a channel was without a daemon, paused, and in trouble."""

    away: Sequence[Span] = ()
    paused: Sequence[Span] = ()
    trouble: Sequence[Span] = ()

    def reason_at(self, moment: datetime) -> Reason | None:
        for reason, spans in (
            (Reason.AWAY, self.away),
            (Reason.PAUSED, self.paused),
            (Reason.TROUBLE, self.trouble),
        ):
            if any(begin <= moment < end for begin, end in spans):
                return reason
        return None

    def cuts(self) -> Iterator[datetime]:
        for spans in (self.away, self.paused, self.trouble):
            for span in spans:
                yield from span


NO_CONDITIONS: Final = Conditions()


@dataclass(slots=True)
class Sums:
    """Unit-seconds of a SKU and day, by reason, in the order of REASONS."""

    over: list[float] = field(default_factory=lambda: [0.0] * len(REASONS))
    lost: list[float] = field(default_factory=lambda: [0.0] * len(REASONS))

    def add(self, over: Sequence[float], lost: Sequence[float]) -> None:
        for mine, theirs in ((self.over, over), (self.lost, lost)):
            for place, value in enumerate(theirs):
                mine[place] += value


def away(alive: Sequence[Span], now: datetime) -> list[Span]:
    """Return when no daemon served a channel, from when one did so. What was before that is not known."""
    gaps = []
    seen_until: datetime | None = None
    for begin, end in [*sorted(alive), (now, now)] if alive else []:
        if seen_until is not None and begin - seen_until > _NO_GAP:
            gaps.append((seen_until, begin))
        seen_until = end if seen_until is None else max(seen_until, end)
    return gaps


def reason_of(segment: Segment, moment: datetime, conditions: Conditions) -> Reason:
    """Return what the number was waiting for at that moment of the segment."""
    if segment.parked_at is not None and moment >= segment.parked_at:
        return Reason.PARKED
    if segment.held_at is not None and moment >= segment.held_at:
        return Reason.GUARD
    if conditions is not NO_CONDITIONS and (condition := conditions.reason_at(moment)) is not None:
        return condition
    if segment.is_doubted:
        return Reason.DOUBT
    if segment.sent_at is not None and moment >= segment.sent_at:
        return Reason.MARKETPLACE
    if segment.marked_at is not None and moment < segment.marked_at:
        return Reason.READING
    if segment.due_at is not None and moment >= segment.due_at:
        return Reason.QUEUE
    return Reason.DEBOUNCE


def calculate(
    segments: Iterable[Segment], conditions: Conditions, day_of: Callable[[datetime], tuple[date, datetime]]
) -> dict[tuple[date, str], Sums]:
    """Add segments up by day and SKU. `day_of` returns a moment's business day and when that ends."""
    found: dict[tuple[date, str], Sums] = {}
    for segment in (part for one in segments for part in _parts(one)):
        if not (segment.over or segment.lost):
            continue
        for begin, end in _pieces(segment, conditions, day_of):
            sums = found.setdefault((day_of(begin)[0], segment.sku), Sums())
            place = _PLACES[reason_of(segment, begin, conditions)]
            seconds = (end - begin).total_seconds()
            sums.over[place] += segment.over * seconds
            sums.lost[place] += segment.lost * seconds
    return found


def _parts(segment: Segment) -> Iterator[Segment]:
    """Divide a segment at the last change of the number. The earlier part has its mean units."""
    counted_until = segment.counted_until
    if counted_until is None:
        yield segment
        return
    seconds = (counted_until - segment.began_at).total_seconds()
    if seconds > 0:
        over, lost = (segment.counted_over or 0) / seconds, (segment.counted_lost or 0) / seconds
        yield segment._replace(ended_at=counted_until, over=over, lost=lost)
    yield segment._replace(began_at=counted_until)


def _pieces(
    segment: Segment, conditions: Conditions, day_of: Callable[[datetime], tuple[date, datetime]]
) -> Iterator[Span]:
    """Cut a segment where its reason or the day may change."""
    began, ended = segment.began_at, segment.ended_at
    marks = (segment.marked_at, segment.due_at, segment.sent_at, segment.held_at, segment.parked_at)
    cuts = {mark for mark in marks if mark is not None and began < mark < ended}
    if conditions is not NO_CONDITIONS:
        cuts.update(cut for cut in conditions.cuts() if began < cut < ended)
    midnight = day_of(began)[1]
    while midnight < ended:
        cuts.add(midnight)
        midnight = day_of(midnight)[1]
    previous = began
    for cut in (*sorted(cuts), ended):
        if cut > previous:
            yield previous, cut
        previous = cut


@dataclass(slots=True)
class BusinessDays:
    """The business days of a time zone, with the last one remembered."""

    zone: tzinfo
    _begin: datetime | None = None
    _end: datetime | None = None
    _day: date = date.min

    def __call__(self, moment: datetime) -> tuple[date, datetime]:
        """Return the day of a moment, and when it ends."""
        if self._begin is None or self._end is None or not self._begin <= moment < self._end:
            local = moment.astimezone(self.zone)
            self._day = local.date()
            self._begin = local.replace(hour=0, minute=0, second=0, microsecond=0)
            tomorrow = self._day + timedelta(days=1)
            # Compared and subtracted in UTC: a day may have 23 or 25 hours.
            self._end = datetime(tomorrow.year, tomorrow.month, tomorrow.day, tzinfo=self.zone)
            utc = moment.tzinfo
            self._begin, self._end = self._begin.astimezone(utc), self._end.astimezone(utc)
        return self._day, self._end


class Split(NamedTuple):
    """Unit-seconds of one kind: those that ended by themselves, and those that waited for an operator."""

    automatic: float
    held_or_parked: float


def split(sums: Sequence[float]) -> Split:
    """Divide sums, which are in the order of REASONS, by whether an operator had to act (held or parked)."""
    waiting = sum(
        sums[place] for reason, place in _PLACES.items() if reason in HELD_OR_PARKED and place < len(sums)
    )
    return Split(sum(sums) - waiting, waiting)


def by_reason(sums: Sequence[float]) -> dict[str, float]:
    """Return the reasons that have a sum, the largest first."""
    named = zip(REASONS, sums, strict=False)
    return {str(reason): value for reason, value in sorted(named, key=lambda one: -one[1]) if value > 0}


def kinds(sums: Sums) -> tuple[list[float], list[float]]:
    """Return the sums of both kinds: over and lost."""
    return sums.over, sums.lost


def by_sku(by_day: Mapping[tuple[date, str], Sums]) -> dict[str, Sums]:
    """Return the sums of each SKU over all days."""
    found: dict[str, Sums] = {}
    for (_day, sku), one in by_day.items():
        found.setdefault(sku, Sums()).add(one.over, one.lost)
    return found


def by_day(by_day_and_sku: Mapping[tuple[date, str], Sums]) -> dict[date, Sums]:
    """Return the sums of each day over all SKUs."""
    found: dict[date, Sums] = {}
    for (day, _sku), one in by_day_and_sku.items():
        found.setdefault(day, Sums()).add(one.over, one.lost)
    return found


def worst(sums: Mapping[str, Sums], most: int) -> list[str]:
    """Return the SKUs with the most unit-seconds, those that could be oversold first."""
    ordered = sorted(sums, key=lambda sku: (-sum(sums[sku].over), -sum(sums[sku].lost), sku))
    return ordered[:most]


def in_words(sums: Sequence[float], most: int = 3) -> str:
    """Return the largest reasons with their share, such as "debounce 80 %, queue 20 %"."""
    whole = sum(sums)
    named = list(by_reason(sums).items())[:most]
    return ", ".join(f"{reason} {value / whole:.0%}".replace("%", " %") for reason, value in named)


def total(sums: Iterable[Sums]) -> Sums:
    """Return the sum of sums."""
    added = Sums()
    for one in sums:
        added.add(one.over, one.lost)
    return added
