"""Invariant I9: in no window of any length do more requests start than the rate and one burst allow."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.core.ratelimit import RateLimit

rates = st.floats(0.1, 5_000)
bursts = st.integers(1, 500)
steps = st.lists(st.tuples(st.floats(0, 20), st.integers(0, 600)), max_size=60)


def test_it_starts_empty() -> None:
    assert RateLimit.starting(100, 50, now=1_000.0).available(1_000.0) == 0


def test_it_fills_up_to_its_burst_and_no_further() -> None:
    limit = RateLimit.starting(10, 5, now=0.0)
    assert [limit.available(t) for t in (0.05, 0.1, 0.25, 0.5, 100.0)] == [0, 1, 2, 5, 5]


def test_taking_more_than_there_is_is_a_mistake() -> None:
    limit = RateLimit.starting(10, 5, now=0.0)
    with pytest.raises(ValueError, match="1 requests taken where 0 may start"):
        limit.take(0.0)
    with pytest.raises(ValueError, match="never start together"):
        limit.wait_s(0.0, 6)


@pytest.mark.parametrize(("rate", "burst"), [(0, 1), (-1, 1), (1, 0)])
def test_a_limit_that_lets_nothing_pass_is_refused(rate: float, burst: int) -> None:
    with pytest.raises(ValueError, match="rate limit"):
        RateLimit.starting(rate, burst, 0.0)


def test_a_clock_that_stands_still_or_goes_back_gives_nothing() -> None:
    limit = RateLimit.starting(1, 10, now=0.0).take(5.0, 5)
    assert limit.available(5.0) == 0
    assert limit.available(0.0) == 0
    assert limit.take(1.0, 0).available(5.0) == 0


@given(rates, bursts, steps, st.floats(0, 1e6))
def test_no_window_ever_holds_more_than_rate_times_time_and_one_burst(
    rate: float, burst: int, moves: list[tuple[float, int]], start: float
) -> None:
    limit = RateLimit.starting(rate, burst, start)
    now = start
    taken: list[tuple[float, int]] = []
    for pause, wish in moves:
        now += pause
        n = min(wish, limit.available(now))
        limit = limit.take(now, n)
        taken.append((now, n))
    for first, (begin, _) in enumerate(taken):
        total = 0
        for end, n in taken[first:]:
            total += n
            assert total <= rate * (end - begin) + burst + 1e-3
    assert sum(n for _, n in taken) <= rate * (now - start) + 1e-3, "an owner that takes over adds no burst"


@given(rates, bursts, st.floats(0, 1e6), st.integers(1, 300))
def test_after_the_wait_it_asked_for_a_request_may_start(
    rate: float, burst: int, start: float, rounds: int
) -> None:
    limit = RateLimit.starting(rate, burst, start)
    now = start
    for _ in range(rounds):
        now += limit.wait_s(now)
        assert limit.available(now) >= 1, "a wait that falls short makes a caller spin"
        limit = limit.take(now)
    assert now - start >= (rounds - 1e-3) / rate - 1e-6


@given(rates, rates, bursts, bursts, st.floats(0, 100), st.floats(0, 100))
def test_another_rate_adds_nothing_to_what_there_was(
    rate: float, other: float, burst: int, other_burst: int, before: float, after: float
) -> None:
    limit = RateLimit.starting(rate, burst, 0.0)
    changed = limit.at_rate(other, other_burst, before)
    assert changed.available(before) <= limit.available(before)
    assert changed.available(before + after) <= min(
        other_burst, limit.available(before) + 1 + other * after + 1e-3
    )
