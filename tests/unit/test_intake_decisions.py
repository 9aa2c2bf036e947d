"""When an intake reads again, compares everything, and silences the bell."""

from datetime import timedelta

import pytest

from daemon.core.backoff import Interval
from daemon.core.intake import BellSilence, ComparisonSchedule, IntakePace

POLL_S = 1.0
FAR_S = 3600.0
DEAF = False

# IntakePace


def test_after_changes_the_log_is_read_three_more_times_soon() -> None:
    pace = IntakePace(POLL_S)
    pauses = [pace.pause_after(changes, 0.001, 100.0, FAR_S) for changes in (3, 0, 0, 0)]
    assert pauses == [Interval(0.005), Interval(0.02), Interval(0.1), Interval(POLL_S)]


def test_a_stream_of_changes_is_followed_by_pauses_that_no_bell_ends() -> None:
    pace = IntakePace(POLL_S)
    assert pace.pause_after(9, 10.0, 100.0, FAR_S) == Interval(0.25, DEAF)
    assert pace.pause_after(0, 0.001, 100.3, FAR_S) == Interval(0.005)


@pytest.mark.parametrize(
    ("until_comparison_s", "seconds"), [(FAR_S, POLL_S), (0.4, 0.4), (0.0, 0.0), (-5.0, 0.0)]
)
def test_an_idle_intake_waits_for_the_next_poll_or_comparison(
    until_comparison_s: float, seconds: float
) -> None:
    assert IntakePace(POLL_S).pause_after(0, 0.001, 100.0, until_comparison_s) == Interval(seconds)


def _idle(pace: IntakePace) -> None:
    pace.pause_after(0, 0.001, 100.0, FAR_S)


def _rung_in_vain(pace: IntakePace) -> float:
    wait_s = pace.wait_before(is_rung=True)
    _idle(pace)
    return wait_s


def test_rings_in_vain_are_followed_at_once_and_then_ever_later_until_it_is_polling() -> None:
    pace = IntakePace(POLL_S)
    _idle(pace)
    waits = [_rung_in_vain(pace) for _ in range(9)]
    assert waits == [0.0, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, POLL_S, POLL_S]


def test_a_poll_between_two_rings_or_a_change_ends_the_row_of_vain_rings() -> None:
    pace = IntakePace(POLL_S)
    _idle(pace)
    assert [_rung_in_vain(pace) for _ in range(3)] == [0.0, 0.02, 0.04]
    assert pace.wait_before(is_rung=False) == 0.0
    _idle(pace)
    assert [_rung_in_vain(pace) for _ in range(2)] == [0.0, 0.02]
    pace.pause_after(1, 0.001, 100.0, FAR_S)
    assert pace.wait_before(is_rung=True) == 0.0, "while changes come, rings are not counted"
    for _ in range(3):
        _idle(pace)
    assert pace.wait_before(is_rung=True) == 0.0


# ComparisonSchedule

EVERY_S = 3600.0


@pytest.fixture
def schedule() -> ComparisonSchedule:
    """One that was made at 0 and whose first comparison, at 1, took no time."""
    made = ComparisonSchedule(EVERY_S, 0.0)
    made.begin(1.0)
    made.finish(1.0, 0.0)
    return made


def test_the_first_comparison_is_due_a_second_after_the_start() -> None:
    schedule = ComparisonSchedule(EVERY_S, 100.0)
    assert [schedule.is_due(now) for now in (100.0, 100.9, 101.0)] == [False, False, True]
    assert schedule.begin(101.0) == "start"


def test_the_next_one_is_due_when_the_interval_is_over(schedule: ComparisonSchedule) -> None:
    assert schedule.until_next_s(1.0) == EVERY_S
    assert schedule.is_due(1.0 + EVERY_S)
    assert schedule.begin(1.0 + EVERY_S) == "schedule"


@pytest.mark.parametrize(("took_s", "gap_s"), [(0.1, 1.0), (5.0, 10.0), (300.0, 60.0)])
def test_a_request_waits_for_a_gap_that_grows_with_what_a_comparison_takes(
    schedule: ComparisonSchedule, took_s: float, gap_s: float
) -> None:
    schedule.begin(500.0)
    assert schedule.finish(500.0 + took_s, took_s) == gap_s
    schedule.request(500.0 + took_s, "listening anew")
    assert schedule.until_next_s(500.0 + took_s) == pytest.approx(gap_s)
    assert not schedule.may_compare(500.0 + took_s)
    assert schedule.may_compare(500.0 + took_s + gap_s)
    assert schedule.reason == "listening anew"


def test_a_request_during_a_comparison_leads_to_another_one(schedule: ComparisonSchedule) -> None:
    schedule.begin(500.0)
    schedule.request(503.0, "failover")
    schedule.finish(504.0, 4.0)
    assert schedule.until_next_s(504.0) == pytest.approx(8.0)
    assert schedule.begin(512.0) == "failover"


def test_a_request_within_the_gap_is_due_when_the_gap_is_over(schedule: ComparisonSchedule) -> None:
    schedule.begin(500.0)
    schedule.finish(505.0, 5.0)
    schedule.request(505.0, "bulk change")
    assert schedule.until_next_s(505.0) == pytest.approx(10.0)
    assert schedule.reason == "bulk change"


def test_a_failed_comparison_is_tried_again_at_gaps_that_double(
    schedule: ComparisonSchedule,
) -> None:
    now, gaps = 100.0, []
    for _ in range(3):
        schedule.retry(now)
        schedule.retry(now)  # it is planned already
        gaps.append(schedule.until_next_s(now))
        now += gaps[-1]
        schedule.begin(now)
    assert gaps == [10.0, 20.0, 40.0]
    schedule.recover()
    schedule.retry(now)
    assert schedule.until_next_s(now) == 10.0


def test_retries_are_never_further_apart_than_comparisons() -> None:
    schedule, now = ComparisonSchedule(30.0, 0.0), 0.0
    gaps = []
    for _ in range(5):
        schedule.begin(now)
        schedule.retry(now)
        gaps.append(schedule.until_next_s(now))
        now += gaps[-1]
    assert gaps == [10.0, 20.0, 30.0, 30.0, 30.0]


# BellSilence

LONG = timedelta(seconds=3)


@pytest.mark.parametrize(
    ("readings", "expected"),
    [
        # (changes, at): changes for half a second silence the bell for three.
        ([(1, 0.0), (1, 0.4)], None),
        ([(1, 0.0), (1, 0.4), (1, 0.5)], LONG),
        # It is renewed when a third is left.
        ([(1, 0.0), (1, 0.5), (1, 2.4)], None),
        ([(1, 0.0), (1, 0.5), (1, 2.6)], LONG),
        # One reading without changes ends the row, the second has the bell ring again, the third leaves it.
        ([(1, 0.0), (1, 0.5), (0, 0.6)], None),
        ([(1, 0.0), (1, 0.5), (0, 0.6), (0, 0.7)], timedelta(0)),
        ([(1, 0.0), (1, 0.5), (0, 0.6), (0, 0.7), (0, 0.8)], None),
        ([(1, 0.0), (0, 0.3), (1, 0.6)], None),
        ([(0, 0.0), (0, 1.0)], None),
    ],
)
def test_the_bell_is_silenced_while_changes_keep_coming(
    readings: list[tuple[int, float]], expected: timedelta | None
) -> None:
    silence = BellSilence()
    results = [silence.after(changes, now) for changes, now in readings]
    assert results[-1] == expected


def test_a_failed_reading_ends_the_row_of_changes() -> None:
    silence = BellSilence()
    silence.after(1, 0.0)
    silence.reset()
    assert silence.after(1, 0.6) is None
    assert silence.after(1, 1.1) == LONG
