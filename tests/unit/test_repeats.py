"""Lines that repeat themselves: what is new at once, the rest with growing pauses, all of it bounded and counted."""

import random
from collections import deque

import pytest

from daemon.core.repeats import MINUTE_S, MOST_LINES, MOST_WARNINGS, LineKind, LogLine, Repeats, line_of

CHANNELS = ("sekorm", "ymatou")


def line(kind: LineKind, event: str, *rest: object) -> LogLine:
    """A line; an error is of a group of its own unless its words are `same`."""
    key = (event, *rest)
    return LogLine(event, key, kind, (event,) if "same" in str(rest) else key)


def times_written(repeats: Repeats, kind: LineKind, every_s: float, until_s: float) -> list[float]:
    """When a line is written that comes `every_s`."""
    moments = [n * every_s for n in range(int(until_s / every_s))]
    return [now for now in moments if repeats.admit(line(kind, "a.b", "sekorm"), now) is not None]


def test_a_warning_is_written_three_times_and_then_with_growing_pauses() -> None:
    assert times_written(Repeats(), LineKind.WARNING, 1.0, 4000.0) == [
        0,
        1,
        2,
        62,
        182,
        422,
        902,
        1802,
        2702,
        3602,
    ]


def test_an_error_with_the_same_words_is_written_three_times_and_then_with_growing_pauses() -> None:
    assert times_written(Repeats(), LineKind.ERROR, 1.0, 1000.0) == [0, 1, 2, 62, 182, 422, 902]


def test_lines_of_single_skus_are_written_four_times_a_minute() -> None:
    written = times_written(Repeats(), LineKind.ITEM, 1.0, 300.0)
    assert len(written) == 5 * 4
    assert written[:5] == [0, 1, 2, 3, 60]


def test_what_comes_again_after_a_calm_is_new() -> None:
    repeats = Repeats()
    times_written(repeats, LineKind.WARNING, 1.0, 10.0)
    assert repeats.admit(line(LineKind.WARNING, "a.b", "sekorm"), 200.0) == 0
    assert repeats.admit(line(LineKind.WARNING, "a.b", "sekorm"), 201.0) == 0


def test_lines_that_differ_in_their_key_do_not_hold_each_other_back() -> None:
    repeats = Repeats()
    for sku in range(10):
        assert repeats.admit(line(LineKind.ERROR, "a.parked", f"SKU-{sku}"), 1.0) == 0


def test_errors_that_differ_only_in_their_words_leave_room_for_others() -> None:
    repeats = Repeats()
    written = [repeats.admit(line(LineKind.ERROR, "a.b", f"same {n}"), n) for n in range(60)]
    assert written.count(0) == 5
    assert repeats.admit(line(LineKind.ERROR, "a.other"), 59.0) == 0


def test_what_was_not_written_when_it_came_is_written_again_without_counting_itself() -> None:
    repeats = Repeats()
    errors = [line(LineKind.ERROR, "a.b", f"same {n}") for n in range(7)]
    for error in errors:
        repeats.admit(error, 0.0)
    assert repeats.is_unwritten(errors[6])
    assert repeats.admit(errors[6], 30.0, is_again=True) is None
    assert repeats.admit(errors[6], 60.0, is_again=True) == 0
    summary = repeats.summary(200.0)
    assert summary is not None
    assert summary.of == {"a.b": 1}


def test_a_line_says_how_many_of_its_like_were_not_written() -> None:
    repeats = Repeats()
    times_written(repeats, LineKind.WARNING, 1.0, 60.0)
    assert repeats.admit(line(LineKind.WARNING, "a.b", "sekorm"), 62.0) == 57


def test_many_warnings_at_once_leave_room_for_what_is_new() -> None:
    repeats = Repeats()
    for _ in range(3):
        for loop in range(5):
            repeats.admit(line(LineKind.WARNING, "a.b", loop), 0.0)
    assert repeats.admit(line(LineKind.WARNING, "a.new"), 1.0) == 0


def test_a_change_of_state_has_room_whatever_else_repeats_itself() -> None:
    repeats = Repeats()
    for loop in range(100):
        repeats.admit(line(LineKind.WARNING, "a.b", loop), 0.0)
    assert [repeats.admit(line(LineKind.STATE, "a.lost"), second) for second in range(7)] == [*6 * [0], None]


@pytest.mark.parametrize(
    ("level", "one", "other", "is_same"),
    [
        ("warning", {"channel": "sekorm", "reason": "a"}, {"channel": "sekorm", "reason": "b"}, True),
        ("warning", {"channel": "sekorm"}, {"channel": "ymatou"}, False),
        ("warning", {"receiver": "one"}, {"receiver": "two"}, False),
        ("warning", {"sku": "A", "channel": "sekorm"}, {"sku": "B", "channel": "sekorm"}, True),
        ("error", {"sku": "A"}, {"sku": "B"}, False),
        ("error", {"sku": "A", "attempt": 1, "quantity": 2}, {"sku": "A", "attempt": 2, "quantity": 3}, True),
        ("error", {"reason": "a"}, {"reason": "b"}, False),
        ("error", {"exc_info": ValueError("1")}, {"exc_info": ValueError("2")}, True),
    ],
)
def test_what_is_the_same_line(
    level: str, one: dict[str, object], other: dict[str, object], *, is_same: bool
) -> None:
    first, second = (line_of(level, {"event": "a.b", **fields}) for fields in (one, other))
    assert first is not None
    assert second is not None
    assert (first.key == second.key) is is_same


@pytest.mark.parametrize(
    ("level", "event", "kind"),
    [
        ("info", "a.b", None),
        ("warning", "log.lines_dropped", None),
        ("warning", "doorbell.lost", LineKind.STATE),
        ("info", "doorbell.listening", LineKind.STATE),
        ("error", "dispatch.breaker_opened", LineKind.STATE),
        ("warning", "dispatch.breaker_opened", LineKind.WARNING),
        ("warning", "a.b", LineKind.WARNING),
        ("error", "a.b", LineKind.ERROR),
    ],
)
def test_what_is_bounded_is_states_warnings_and_errors(level: str, event: str, kind: LineKind | None) -> None:
    found = line_of(level, {"event": event})
    assert (found and found.kind) == kind


def test_the_summary_comes_once_it_is_over_and_counts_from_then_on_anew() -> None:
    repeats = Repeats()
    times_written(repeats, LineKind.WARNING, 1.0, 50.0)
    assert repeats.summary(60.0) is None
    summary = repeats.summary(109.0)
    assert summary is not None
    assert (summary.of, summary.lasted_s) == ({"a.b": 47}, 46.0)
    assert repeats.summary(500.0) is None


def test_while_it_goes_on_the_summary_comes_from_time_to_time() -> None:
    repeats = Repeats()
    summaries = 0
    for now in range(3600):
        repeats.admit(line(LineKind.WARNING, "a.b"), float(now))
        summaries += repeats.summary(float(now)) is not None
    assert summaries == 3


def test_what_the_caller_knows_to_be_over_is_summed_up_at_once() -> None:
    repeats = Repeats()
    times_written(repeats, LineKind.WARNING, 1.0, 10.0)
    assert repeats.summary(10.0, is_over=True) is not None


def test_the_two_directions_of_a_state_are_bounded_together() -> None:
    lost, found = (
        line_of(level, {"event": event})
        for level, event in (("warning", "doorbell.lost"), ("info", "doorbell.listening"))
    )
    assert lost is not None
    assert found is not None
    assert (lost.key, lost.event != found.event) == (found.key, True)


def test_summaries_are_a_minute_apart_except_the_last() -> None:
    repeats = Repeats()
    times_written(repeats, LineKind.WARNING, 1.0, 10.0)
    assert repeats.summary(10.0, is_over=True) is not None
    repeats.admit(line(LineKind.WARNING, "a.b", "sekorm"), 20.0)
    assert repeats.summary(20.0, is_over=True) is None
    assert repeats.summary(20.0, is_last=True) is not None


@pytest.mark.parametrize("changing", [False, True])
def test_an_hour_of_an_outage_with_many_loops_stays_within_its_budget(*, changing: bool) -> None:
    """Every loop there is, each with its own pauses; two channels, requests of many SKUs, states that come and go, and
    errors, whose words may be `changing`."""
    chance = random.Random(7)
    repeats = Repeats()
    loops = [(f"loop.{n}_failed", channel) for n in range(20) for channel in CHANNELS]
    states = [(f"state.{n}", channel) for n in range(4) for channel in CHANNELS]
    written: deque[tuple[float, LineKind]] = deque()
    worst = worst_warnings = lines = 0
    news: set[tuple[object, ...]] = set()
    moments = sorted(
        [(chance.uniform(n * pause, (n + 1) * pause), loop, LineKind.WARNING)
         for loop in loops for pause in (chance.choice((1.0, 5.0, 15.0, 60.0)),) for n in range(int(3600 / pause))]
        + [(chance.uniform(0, 3600), ("dispatch.delivery_in_doubt", channel), LineKind.ITEM)
           for channel in CHANNELS for _ in range(5000)]
        + [(chance.uniform(0, 3600), (f"error.{n % 9}", f"same {n if changing else ''}"), LineKind.ERROR)
           for n in range(3000)]
        + [(900.0 + n, state, LineKind.STATE) for state in states for n in range(0, 1800, 7)],
        key=lambda moment: moment[0],
    )  # fmt: skip
    for now, key, kind in moments:
        lines += 1
        if repeats.admit(line(kind, *key), now) is not None:
            news.add(key)
            written.append((now, kind))
            while now - written[0][0] >= MINUTE_S:
                written.popleft()
            worst = max(worst, len(written))
            warnings = sum(kind in (LineKind.WARNING, LineKind.ITEM) for _, kind in written)
            worst_warnings = max(worst_warnings, warnings)
    assert lines > 20_000
    assert (worst, worst_warnings) <= (MOST_LINES, MOST_WARNINGS)
    assert news >= {*states}, "a state was never written"
    if not changing:
        assert news >= {*loops}, "something that was new was never written"
