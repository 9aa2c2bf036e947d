"""Liveness: a promise that is kept, one that is broken, one that has ended."""

from contextlib import closing

import pytest

from daemon import clock
from daemon.liveness import Liveness, Stalled


class Watch:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def liveness(watch: Watch) -> Liveness:
    return Liveness(now=watch)


def test_a_loop_is_not_watched_before_its_first_beat(watch: Watch, liveness: Liveness) -> None:
    liveness.watchdog("intake")
    watch.now += 1e6
    assert liveness.stalled() == []


def test_a_loop_that_promised_a_sign_of_life_is_watched_until_it_ends(liveness: Liveness) -> None:
    watchdogs = [liveness.watchdog(name) for name in ("intake", "doorbell", "doorbell")]
    assert liveness.watched() == []
    for watchdog in watchdogs:
        watchdog.beat(1.0)
    assert liveness.watched() == ["doorbell", "doorbell", "intake"]
    watchdogs[1].close()
    assert liveness.watched() == ["doorbell", "intake"]


def test_a_promise_holds_for_as_long_as_it_was_given(watch: Watch, liveness: Liveness) -> None:
    liveness.watchdog("intake").beat(5.0)
    watch.now += 5.0
    assert liveness.stalled() == []
    watch.now += 0.5
    assert liveness.stalled() == [Stalled("intake", 0.5)]


def test_a_beat_replaces_the_promise_before_it(watch: Watch, liveness: Liveness) -> None:
    watchdog = liveness.watchdog("intake")
    watchdog.beat(900.0)
    watchdog.beat(1.0)
    watch.now += 2.0
    assert liveness.stalled() == [Stalled("intake", 1.0)]
    watchdog.beat(1.0)
    assert liveness.stalled() == []


def test_patience_lengthens_every_promise(watch: Watch) -> None:
    liveness = Liveness(patience_s=60.0, now=watch)
    liveness.watchdog("intake").beat(5.0)
    watch.now += 65.0
    assert liveness.stalled() == []
    watch.now += 1.0
    assert liveness.stalled() == [Stalled("intake", 1.0)]


def test_a_loop_that_ended_is_not_missed_and_may_begin_again(watch: Watch, liveness: Liveness) -> None:
    watchdog = liveness.watchdog("loop")
    watchdog.beat(1.0)
    watchdog.close()
    watchdog.close()
    watch.now += 2.0
    assert liveness.stalled() == []
    watchdog.beat(1.0)
    watch.now += 2.0
    assert [one.name for one in liveness.stalled()] == ["loop"]


def test_a_loop_that_fails_ends_its_pulse(watch: Watch, liveness: Liveness) -> None:
    def turn_once() -> None:
        with closing(liveness.watchdog("loop")) as watchdog:
            watchdog.beat(1.0)
            raise ValueError("over")

    with pytest.raises(ValueError, match="over"):
        turn_once()
    watch.now += 2.0
    assert liveness.stalled() == []


def test_two_loops_of_one_name_do_not_stand_in_for_each_other(watch: Watch, liveness: Liveness) -> None:
    first, second = liveness.watchdog("loop"), liveness.watchdog("loop")
    first.beat(1.0)
    second.beat(1.0)
    first.close()
    watch.now += 2.0
    assert liveness.stalled() == [Stalled("loop", 1.0)]


def test_the_longest_overdue_comes_first(watch: Watch, liveness: Liveness) -> None:
    liveness.watchdog("late").beat(2.0)
    liveness.watchdog("later").beat(1.0)
    liveness.watchdog("in time").beat(4.0)
    watch.now += 3.0
    assert liveness.stalled() == [Stalled("later", 2.0), Stalled("late", 1.0)]


def test_by_default_the_clock_is_the_monotonic_one() -> None:
    liveness = Liveness()
    before = clock.monotonic()
    liveness.watchdog("broken").beat(-60.0)
    (stalled,) = liveness.stalled()
    assert 60.0 <= stalled.overdue_s <= 60.0 + clock.monotonic() - before
