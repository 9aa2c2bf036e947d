"""The pause after a failure."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from daemon.core.backoff import backoff

BASE = timedelta(seconds=1)
CAP = timedelta(seconds=60)
jitters = st.floats(0, 1, exclude_max=True)


def test_no_failure_no_pause() -> None:
    assert backoff(0, BASE, CAP, 0.5) == timedelta(0)


def test_it_doubles_up_to_its_cap() -> None:
    waits = [backoff(n, BASE, CAP, 0.0).total_seconds() for n in range(1, 10)]
    assert waits == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


@given(st.integers(1, 10**9), jitters)
def test_it_is_never_near_zero_and_never_above_its_cap(failures: int, jitter: float) -> None:
    assert BASE / 2 <= backoff(failures, BASE, CAP, jitter) <= CAP


@given(st.integers(1, 1_000), jitters)
def test_more_failures_never_mean_less_than_half_the_pause(failures: int, jitter: float) -> None:
    assert backoff(failures + 1, BASE, CAP, 0.0) >= backoff(failures, BASE, CAP, jitter) / 2


@given(st.integers(1, 100), jitters, jitters)
def test_jitter_spreads_over_the_upper_half(failures: int, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert backoff(failures, BASE, CAP, low) <= backoff(failures, BASE, CAP, high)
