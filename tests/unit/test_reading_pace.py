"""A stream of changes leaves the ERP four fifths of the time; a single change waits for nothing."""

import pytest

from daemon.core.intake import ReadingPace


def _read(took_s: float, apart_s: float, until_s: float) -> tuple[int, float, float]:
    """Changes come at this distance; return how many readings there were, their seconds, and the longest pause."""
    pace, now, readings, spent_s, longest_s = ReadingPace(), 100.0, 0, 0.0, 0.0
    while now < 100.0 + until_s:
        now += took_s
        pace = pace.after(took_s, now)
        readings, spent_s, longest_s = readings + 1, spent_s + took_s, max(longest_s, pace.pause_s)
        now += max(pace.pause_s, apart_s - took_s)
    return readings, spent_s, longest_s


@pytest.mark.parametrize("took_s", [0.005, 0.01, 0.05])
def test_readings_under_a_stream_of_changes_take_a_fifth_of_the_time(took_s: float) -> None:
    _, spent_s, _ = _read(took_s, 0.0, 20.0)
    assert spent_s == pytest.approx(0.2 * 20.0, rel=0.05)


def test_short_readings_under_a_stream_of_changes_are_ten_milliseconds_apart() -> None:
    readings, _, _ = _read(0.001, 0.0, 20.0)
    assert readings == pytest.approx(20.0 / 0.01, rel=0.05)


@pytest.mark.parametrize("took_s", [0.001, 0.004])
def test_changes_that_come_now_and_then_are_read_at_once(took_s: float) -> None:
    readings, _, longest_s = _read(took_s, 0.02, 10.0)
    assert readings == pytest.approx(500, rel=0.01)
    assert longest_s == 0.0


def test_after_a_long_reading_the_pause_is_a_quarter_of_a_second() -> None:
    assert ReadingPace().after(30.0, 30.0).pause_s == pytest.approx(0.25)
