"""What a segment's time is counted for, and on which day."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from xml.etree import ElementTree as ET
from zoneinfo import ZoneInfo

import pytest

from daemon.core.exposure import (
    NO_CONDITIONS,
    BusinessDays,
    Conditions,
    Reason,
    Segment,
    Span,
    Split,
    Sums,
    away,
    by_reason,
    calculate,
    in_words,
    split,
    worst,
)
from daemon.core.exposure_plot import exposure_plot
from daemon.core.notice import RECONCILE_DIGEST
from daemon.core.notifications import Language, render

NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def span(begin: float, end: float) -> Span:
    return at(begin), at(end)


def segment(
    *,
    marked: float | None = 1,
    due: float | None = 3,
    sent: float | None = None,
    held: float | None = None,
    parked: float | None = None,
    is_doubted: bool = False,
) -> Segment:
    """Ten seconds, with 2 units too many."""
    marks = [None if mark is None else at(mark) for mark in (marked, due, sent, held, parked)]
    marked_at, due_at, sent_at, held_at, parked_at = marks
    return Segment("A", at(0), at(10), marked_at, due_at, sent_at, held_at, parked_at, is_doubted, 2, 0)


BOTH = Conditions(trouble=[span(2, 9)], paused=[span(4, 6)])
TABLE: list[tuple[Segment, Conditions, dict[str, float]]] = [
    (segment(), NO_CONDITIONS, {"reading": 1, "debounce": 2, "queue": 7}),
    (segment(marked=None, due=None), NO_CONDITIONS, {"debounce": 10}),
    (segment(marked=-5, due=-2), NO_CONDITIONS, {"queue": 10}),
    (segment(sent=4), NO_CONDITIONS, {"reading": 1, "debounce": 2, "queue": 1, "marketplace": 6}),
    (segment(sent=4, is_doubted=True), NO_CONDITIONS, {"doubt": 10}),
    (segment(held=5), NO_CONDITIONS, {"reading": 1, "debounce": 2, "queue": 2, "guard": 5}),
    (segment(held=-5), NO_CONDITIONS, {"guard": 10}),
    (segment(held=2, parked=8), NO_CONDITIONS, {"reading": 1, "debounce": 1, "guard": 6, "parked": 2}),
    (segment(due=0, marked=0), Conditions(trouble=[span(2, 5)]), {"queue": 7, "trouble": 3}),
    (segment(due=0, marked=0), BOTH, {"queue": 3, "trouble": 5, "paused": 2}),
    (segment(due=0, marked=8), Conditions(away=[span(-9, 7)]), {"daemon_away": 7, "reading": 1, "queue": 2}),
    (segment(due=0, is_doubted=True), Conditions(trouble=[span(2, 5)]), {"doubt": 7, "trouble": 3}),
    (segment(parked=0), Conditions(away=[span(0, 10)]), {"parked": 10}),
]  # fmt: skip


@pytest.mark.parametrize(("one", "conditions", "seconds"), TABLE)
def test_each_second_has_one_reason(one: Segment, conditions: Conditions, seconds: dict[str, float]) -> None:
    sums = calculate([one], conditions, BusinessDays(UTC))
    assert by_reason(sums[NOON.date(), "A"].over) == {reason: 2 * value for reason, value in seconds.items()}


def test_what_was_counted_before_the_number_changed_last_is_spread_over_its_time() -> None:
    # 8 unit-seconds too many and 4 too few in the first 4 seconds, then 2 units too many.
    changed = segment()._replace(counted_until=at(4), counted_over=8.0, counted_lost=4.0)
    sums = calculate([changed], NO_CONDITIONS, BusinessDays(UTC))[NOON.date(), "A"]
    assert by_reason(sums.over) == {"queue": 1 * 2 + 6 * 2, "debounce": 2 * 2, "reading": 1 * 2}
    assert by_reason(sums.lost) == {"debounce": 2, "reading": 1, "queue": 1}


def test_a_segment_is_divided_at_midnight_of_the_business_day() -> None:
    # Clocks go back on that night: the day has 25 hours.
    zone = ZoneInfo("Europe/Berlin")
    begin, end = datetime(2026, 10, 24, 20, tzinfo=UTC), datetime(2026, 10, 26, 1, tzinfo=UTC)
    long = segment(marked=None, due=None)._replace(began_at=begin, ended_at=end, over=0, lost=1)
    sums = calculate([long], NO_CONDITIONS, BusinessDays(zone))
    assert {day: sum(one.lost) / 3600 for (day, _sku), one in sums.items()} == {
        date(2026, 10, 24): 2,
        date(2026, 10, 25): 25,
        date(2026, 10, 26): 2,
    }


@pytest.mark.parametrize(
    ("alive", "gaps"),
    [
        ([], []),
        ([span(0, 90)], []),
        ([span(0, 50)], [span(50, 100)]),
        ([span(0, 20), span(30, 95)], []),
        ([span(0, 20), span(60, 95)], [span(20, 60)]),
        ([span(0, 60), span(5, 20), span(90, 99)], [span(60, 90)]),
    ],
)
def test_a_daemon_is_away_between_the_times_at_which_one_was_seen(
    alive: Sequence[Span], gaps: Sequence[Span]
) -> None:
    assert away(alive, at(100)) == gaps


def test_what_waits_for_an_operator_is_apart() -> None:
    sums = [0.0] * len(Reason)
    sums[list(Reason).index(Reason.GUARD)] = 3
    sums[list(Reason).index(Reason.PARKED)] = 2
    sums[list(Reason).index(Reason.QUEUE)] = 5
    assert split(sums) == (5, 5)
    assert in_words(sums) == "queue 50 %, guard 30 %, parked 20 %"


def test_the_worst_are_those_that_could_be_oversold() -> None:
    def over(value: float, lost: float = 0) -> Sums:
        return Sums([value], [lost])

    assert worst({"A": over(1, 9), "B": over(5), "C": over(1, 10), "D": over(0, 99)}, 3) == ["B", "C", "A"]


def test_the_plot_has_a_bar_for_each_day_and_shows_apart_what_waits_for_an_operator() -> None:
    today = NOON.date()
    sums = calculate([segment(held=5)], NO_CONDITIONS, BusinessDays(UTC))[today, "A"]
    plot = exposure_plot(
        {today: sums, today - timedelta(days=40): sums},
        today,
        "<A & B>",
        "<{} {} {}>".format,
    )
    root = ET.fromstring(plot)
    rectangles = [one.attrib for one in root.iter("{http://www.w3.org/2000/svg}rect")]
    assert [one["class"] for one in rectangles] == ["over", "over-held"]
    assert [float(one["height"]) for one in rectangles] == [39, 39]
    titles = [one.text for one in root.iter("{http://www.w3.org/2000/svg}title")]
    assert titles == ["<A & B>", f"<{today} {Split(10.0, 10.0)} {Split(0.0, 0.0)}>"]


def test_a_plot_of_nothing_is_an_empty_one() -> None:
    assert "<rect" not in exposure_plot({}, NOON.date(), "none", lambda *_: "")


@pytest.mark.parametrize(
    ("language", "line"),
    [
        ("en", "- A: over 12, lost 3 (debounce, in doubt)"),
        ("zh", "· A：可超卖 12，少卖 3（合并等待、结果未知）"),
    ],
)
def test_the_digest_names_the_worst_skus_with_their_reasons(language: Language, line: str) -> None:
    row = {"sku": "A", "over": 12, "lost": 3, "reasons": ["debounce", "doubt", "of a later version"]}
    data = {"day": "2026-11-28", "method": "compare", "checked": 1, "agreed": 1, "exposure": [row]}
    body = render(RECONCILE_DIGEST, "sekorm", data, language, UTC).body
    assert line in body.splitlines()
