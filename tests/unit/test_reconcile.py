"""What a reconcile makes of what it saw: histories of differences, the search by halves."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.core.reconcile import (
    REMEMBERED,
    Bisected,
    Difference,
    DifferenceHistory,
    DifferenceStatus,
    bisect,
    is_overdue,
    seen,
)
from daemon.core.types import Sku

NOW = datetime(2026, 3, 8, tzinfo=UTC)
DIFFERS = Difference.MARKETPLACE_DIFFERS


def history(*, is_open: bool = True, days_ago: float = 1, heals: int = 0) -> DifferenceHistory:
    at = NOW - timedelta(days=days_ago)
    return DifferenceHistory(is_open, at, at, times_seen=3, heals=heals)


def test_a_new_difference_is_opened_and_healed() -> None:
    result = seen(None, DIFFERS, NOW, heal=True, contested_after=3)
    assert (result.status, result.is_healed, result.history.heals) == (DifferenceStatus.OPENED, True, 1)


def test_nothing_is_healed_where_healing_is_off() -> None:
    result = seen(None, DIFFERS, NOW, heal=False, contested_after=3)
    assert (result.status, result.is_healed, result.history.heals) == (DifferenceStatus.OPENED, False, 0)


@pytest.mark.parametrize("kind", [Difference.MISSING_IN_LISTING, Difference.DUPLICATED_ID])
def test_a_difference_that_no_number_ends_is_reported_and_not_healed(kind: Difference) -> None:
    assert not seen(None, kind, NOW, heal=True, contested_after=3).is_healed
    assert (
        seen(history(heals=9), kind, NOW, heal=True, contested_after=3).status is DifferenceStatus.STILL_OPEN
    )


def test_a_difference_that_stays_is_still_open_from_where_it_began() -> None:
    before = history(days_ago=2)
    result = seen(before, DIFFERS, NOW, heal=True, contested_after=3)
    assert result.status is DifferenceStatus.STILL_OPEN
    assert (result.history.first_seen, result.history.last_seen) == (before.first_seen, NOW)
    assert (result.history.times_seen, result.history.heals) == (4, 1)


def test_one_that_comes_back_soon_keeps_its_count_and_one_that_comes_back_late_begins_anew() -> None:
    soon = seen(history(is_open=False, heals=2), DIFFERS, NOW, heal=True, contested_after=3)
    assert (soon.status, soon.history.heals) == (DifferenceStatus.OPENED, 3)
    late = seen(history(is_open=False, days_ago=8, heals=2), DIFFERS, NOW, heal=True, contested_after=3)
    assert (late.status, late.history.heals, late.history.first_seen) == (DifferenceStatus.OPENED, 1, NOW)
    assert timedelta(days=8) > REMEMBERED


@given(st.integers(1, 10), st.lists(st.booleans(), max_size=30))
def test_a_contested_difference_is_never_pushed_more_than_k_times(k: int, resolved: list[bool]) -> None:
    now, current, pushes = NOW, None, 0
    for is_resolved in resolved:
        now += timedelta(days=1)
        result = seen(current, DIFFERS, now, heal=True, contested_after=k)
        pushes += result.is_healed
        assert (result.status is DifferenceStatus.CONTESTED) == (not result.is_healed)
        current = DifferenceHistory(
            not is_resolved, result.history.first_seen, now, result.history.times_seen, result.history.heals
        )
    assert pushes == min(k, len(resolved))


def search(skus: list[Sku], wrong: set[Sku], most: int) -> tuple[Bisected, list[tuple[Sku, ...]]]:
    asked: list[tuple[Sku, ...]] = []
    steps = bisect(skus, most)
    try:
        group = next(steps)
        while True:
            asked.append(group)
            group = steps.send(bool(wrong & set(group)))
    except StopIteration as end:
        return end.value, asked


@given(st.data())
def test_halving_finds_exactly_what_differs(data: st.DataObject) -> None:
    skus = [Sku(f"S{n}") for n in range(data.draw(st.integers(1, 64)))]
    wrong = set(data.draw(st.lists(st.sampled_from(skus), min_size=1, max_size=8)))
    result, asked = search(skus, wrong, 1_000)
    assert set(result.found) == wrong
    assert result.groups == ()
    assert result.calls == len(asked)


@given(st.data())
def test_halving_stays_within_its_calls_and_loses_nothing(data: st.DataObject) -> None:
    skus = [Sku(f"S{n}") for n in range(data.draw(st.integers(1, 64)))]
    wrong = set(data.draw(st.lists(st.sampled_from(skus), min_size=1, max_size=8)))
    most = data.draw(st.integers(0, 20))
    result, asked = search(skus, wrong, most)
    assert len(asked) == result.calls <= most
    named = set(result.found) | {sku for group in result.groups for sku in group}
    assert wrong <= named
    assert set(result.found) <= wrong


def test_one_wrong_among_many_takes_few_calls() -> None:
    skus = [Sku(f"S{n}") for n in range(1024)]
    assert search(skus, {skus[700]}, 1_000)[0].calls <= 20


@pytest.mark.parametrize(
    ("due_h", "taken_up_h", "is_reported"),
    [(-4, -4, True), (-2, -4, False), (-4, -2, False), (-80, -0.1, False), (-80, -3, True)],
    ids=["late", "not late yet", "taken up late", "caught up after an outage", "caught up for too long"],
)
def test_a_night_is_reported_when_it_takes_too_long_and_not_while_it_is_caught_up(
    due_h: float, taken_up_h: float, is_reported: bool
) -> None:
    due_at, taken_up_at = (NOW + timedelta(hours=hours) for hours in (due_h, taken_up_h))
    assert is_overdue(due_at, taken_up_at, timedelta(hours=3), NOW) is is_reported
