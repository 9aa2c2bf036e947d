"""Progress: a promise that is kept, one that is broken, one that has ended."""

import pytest

from daemon import clock
from daemon.progress import Progress, Stalled


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
def progress(watch: Watch) -> Progress:
    return Progress(now=watch)


def test_a_loop_is_not_watched_before_its_first_beat(watch: Watch, progress: Progress) -> None:
    progress.pulse("intake")
    watch.now += 1e6
    assert progress.stalled() == []


def test_whoever_promised_is_watched_until_it_ends(progress: Progress) -> None:
    pulses = [progress.pulse(name) for name in ("intake", "doorbell", "doorbell")]
    assert progress.watched() == []
    for pulse in pulses:
        pulse.beat(1.0)
    assert progress.watched() == ["doorbell", "doorbell", "intake"]
    pulses[1].end()
    assert progress.watched() == ["doorbell", "intake"]


def test_a_promise_holds_for_as_long_as_it_was_given(watch: Watch, progress: Progress) -> None:
    progress.pulse("intake").beat(5.0)
    watch.now += 5.0
    assert progress.stalled() == []
    watch.now += 0.5
    assert progress.stalled() == [Stalled("intake", 0.5)]


def test_a_beat_replaces_the_promise_before_it(watch: Watch, progress: Progress) -> None:
    pulse = progress.pulse("intake")
    pulse.beat(900.0)
    pulse.beat(1.0)
    watch.now += 2.0
    assert progress.stalled() == [Stalled("intake", 1.0)]
    pulse.beat(1.0)
    assert progress.stalled() == []


def test_patience_lengthens_every_promise(watch: Watch) -> None:
    progress = Progress(patience_s=60.0, now=watch)
    progress.pulse("intake").beat(5.0)
    watch.now += 65.0
    assert progress.stalled() == []
    watch.now += 1.0
    assert progress.stalled() == [Stalled("intake", 1.0)]


def test_a_loop_that_ended_is_not_missed_and_may_begin_again(watch: Watch, progress: Progress) -> None:
    pulse = progress.pulse("loop")
    pulse.beat(1.0)
    pulse.end()
    pulse.end()
    watch.now += 2.0
    assert progress.stalled() == []
    pulse.beat(1.0)
    watch.now += 2.0
    assert [one.name for one in progress.stalled()] == ["loop"]


def test_a_loop_that_fails_ends_its_pulse(watch: Watch, progress: Progress) -> None:
    def turn_once() -> None:
        with progress.pulse("loop") as pulse:
            pulse.beat(1.0)
            raise ValueError("over")

    with pytest.raises(ValueError, match="over"):
        turn_once()
    watch.now += 2.0
    assert progress.stalled() == []


def test_two_loops_of_one_name_do_not_stand_in_for_each_other(watch: Watch, progress: Progress) -> None:
    first, second = progress.pulse("loop"), progress.pulse("loop")
    first.beat(1.0)
    second.beat(1.0)
    first.end()
    watch.now += 2.0
    assert progress.stalled() == [Stalled("loop", 1.0)]


def test_the_longest_overdue_comes_first(watch: Watch, progress: Progress) -> None:
    progress.pulse("late").beat(2.0)
    progress.pulse("later").beat(1.0)
    progress.pulse("in time").beat(4.0)
    watch.now += 3.0
    assert progress.stalled() == [Stalled("later", 2.0), Stalled("late", 1.0)]


def test_by_default_the_clock_is_the_monotonic_one() -> None:
    progress = Progress()
    before = clock.monotonic()
    progress.pulse("broken").beat(-60.0)
    (stalled,) = progress.stalled()
    assert 60.0 <= stalled.overdue_s <= 60.0 + clock.monotonic() - before
