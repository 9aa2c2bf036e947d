"""The schedule of the nightly reconcile: business days, time zones, what is due after downtime."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.core.schedule import MOST_DAYS, Schedule, cron_problem

SHANGHAI = Schedule("30 0 * * *", ZoneInfo("Asia/Shanghai"))
BERLIN = Schedule("30 2 * * *", ZoneInfo("Europe/Berlin"))
MOMENTS = st.integers(1_577_836_800, 2_051_222_400).map(lambda s: datetime.fromtimestamp(s, UTC))
ZONES = st.sampled_from(["Asia/Shanghai", "Europe/Berlin", "America/New_York", "America/Santiago", "UTC"])


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_a_run_at_half_past_midnight_is_for_the_day_that_is_just_over() -> None:
    moment = SHANGHAI.previous(at("2026-03-08T01:00+08:00"))
    assert moment == at("2026-03-08T00:30+08:00")
    assert SHANGHAI.last_over(moment) == date(2026, 3, 7)
    assert SHANGHAI.due_at(date(2026, 3, 7)) == moment


def test_the_moment_itself_is_due() -> None:
    assert SHANGHAI.previous(at("2026-03-08T00:30+08:00")) == at("2026-03-08T00:30+08:00")
    assert SHANGHAI.previous(at("2026-03-08T00:29:59+08:00")) == at("2026-03-07T00:30+08:00")


def test_a_business_day_is_the_zones_day() -> None:
    assert SHANGHAI.window(date(2026, 3, 7)) == (at("2026-03-06T16:00Z"), at("2026-03-07T16:00Z"))


@pytest.mark.parametrize(("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25), ("2026-06-01", 24)])
def test_a_day_on_which_clocks_change_is_shorter_or_longer(day: str, hours: int) -> None:
    begin, end = BERLIN.window(date.fromisoformat(day))
    assert end - begin == timedelta(hours=hours)


def test_a_moment_that_clocks_skip_or_repeat_comes_once() -> None:
    days = [date(2026, 3, 27) + timedelta(days=n) for n in range(5)]
    days += [date(2026, 10, 23) + timedelta(days=n) for n in range(5)]
    moments = [BERLIN.due_at(day) for day in days]
    assert len(set(moments)) == len(days)
    assert all(BERLIN.last_over(moment) == day for day, moment in zip(days, moments, strict=True))


def test_nothing_is_due_before_the_first_moment() -> None:
    since = at("2026-03-08T12:00+08:00")
    assert SHANGHAI.due_days(since, None, at("2026-03-09T00:29+08:00"), every=True) == []
    assert SHANGHAI.due_days(since, None, at("2026-03-09T00:30+08:00"), every=True) == [date(2026, 3, 8)]


def test_missed_days_are_all_caught_up_or_stand_for_each_other() -> None:
    since, last, now = at("2026-03-01T12:00Z"), date(2026, 3, 4), at("2026-03-08T01:00+08:00")
    assert SHANGHAI.due_days(since, last, now, every=True) == [date(2026, 3, 4 + n) for n in (1, 2, 3)]
    assert SHANGHAI.due_days(since, last, now, every=False) == [date(2026, 3, 7)]
    assert SHANGHAI.due_days(since, date(2026, 3, 7), now, every=True) == []


def test_a_weekly_schedule_covers_the_days_of_the_week() -> None:
    weekly = Schedule("0 3 * * SUN", ZoneInfo("Asia/Shanghai"))
    now = at("2026-03-08T04:00+08:00")  # a Sunday
    days = weekly.due_days(at("2026-01-01T00:00Z"), date(2026, 2, 28), now, every=True)
    assert days == [date(2026, 3, n) for n in range(1, 8)]


def test_long_downtime_is_caught_up_for_a_month() -> None:
    days = SHANGHAI.due_days(at("2025-01-01T00:00Z"), None, at("2026-03-08T04:00Z"), every=True)
    assert len(days) == MOST_DAYS
    assert days[-1] == date(2026, 3, 7)


@given(MOMENTS, st.integers(0, 60 * 24 * 40), ZONES)
def test_due_days_follow_each_other_and_are_all_over(since: datetime, minutes: int, zone: str) -> None:
    schedule = Schedule("30 0 * * *", ZoneInfo(zone))
    now = since + timedelta(minutes=minutes)
    days = schedule.due_days(since, None, now, every=True)
    assert all(later - earlier == timedelta(days=1) for earlier, later in pairwise(days))
    for day in days:
        assert schedule.window(day)[1] <= schedule.due_at(day) <= now
        assert schedule.due_at(day) > since or len(days) == MOST_DAYS
    if days:
        assert schedule.due_days(since, days[-1], now, every=True) == []
        assert schedule.due_days(since, None, now, every=False) == days[-1:]


@given(MOMENTS, ZONES)
def test_days_meet_without_gap_or_overlap(moment: datetime, zone: str) -> None:
    schedule = Schedule("30 0 * * *", ZoneInfo(zone))
    day = schedule.today(moment)
    begin, end = schedule.window(day)
    assert begin <= moment < end
    assert schedule.window(day + timedelta(days=1))[0] == end


@pytest.mark.parametrize("cron", ["30 0 * * *", "*/5 * * * *", "0 3 * * SUN", "0 0 L * *"])
def test_usual_expressions_are_taken(cron: str) -> None:
    assert cron_problem(cron) is None


@pytest.mark.parametrize(
    ("cron", "words"),
    [
        ("", "five fields"),
        ("0 30 0 * * *", "five fields"),
        ("30 25 * * *", "bad hour"),
        ("x 0 * * *", "bad minute"),
        ("0 0 31 2 *", "bad day"),
    ],
)
def test_others_are_refused_in_words(cron: str, words: str) -> None:
    problem = cron_problem(cron)
    assert problem is not None
    assert words in problem
