"""Lines that repeat themselves: what is new at once, the rest with growing pauses, all of it bounded and counted."""

import random
from collections import deque

import pytest

from daemon.core.repeats import MINUTE_S, MOST_WARNINGS, Kind, Repeats, kind_of

CHANNELS = ("sekorm", "ymatou")


def times_written(repeats: Repeats, kind: Kind, every_s: float, until_s: float) -> list[float]:
    """When a line is written that comes `every_s`."""
    moments = [n * every_s for n in range(int(until_s / every_s))]
    return [now for now in moments if repeats.admit(("a.b", "sekorm"), kind, now) is not None]


def test_a_warning_is_written_three_times_and_then_with_growing_pauses() -> None:
    assert times_written(Repeats(), Kind.WARNING, 1.0, 4000.0) == [
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
    assert times_written(Repeats(), Kind.ERROR, 1.0, 1000.0) == [0, 1, 2, 62, 182, 422, 902]


def test_lines_of_single_skus_are_written_five_times_a_minute() -> None:
    written = times_written(Repeats(), Kind.ITEM, 1.0, 300.0)
    assert len(written) == 5 * 5
    assert written[:6] == [0, 1, 2, 3, 4, 60]


def test_what_comes_again_after_a_calm_is_new() -> None:
    repeats = Repeats()
    times_written(repeats, Kind.WARNING, 1.0, 10.0)
    assert repeats.admit(("a.b", "sekorm"), Kind.WARNING, 200.0) == 0
    assert repeats.admit(("a.b", "sekorm"), Kind.WARNING, 201.0) == 0


def test_lines_that_differ_in_their_key_do_not_hold_each_other_back() -> None:
    repeats = Repeats()
    for sku in range(100):
        assert repeats.admit(("a.parked", f"SKU-{sku}"), Kind.ERROR, 1.0) == 0


def test_a_line_says_how_many_of_its_like_were_not_written() -> None:
    repeats = Repeats()
    times_written(repeats, Kind.WARNING, 1.0, 60.0)
    assert repeats.admit(("a.b", "sekorm"), Kind.WARNING, 62.0) == 57


def test_many_warnings_at_once_leave_room_for_what_is_new() -> None:
    repeats = Repeats()
    for _ in range(3):
        for loop in range(8):
            repeats.admit(("a.b", loop), Kind.WARNING, 0.0)
    assert repeats.admit(("a.new",), Kind.WARNING, 1.0) == 0


def test_a_change_of_state_has_room_whatever_else_repeats_itself() -> None:
    repeats = Repeats()
    for loop in range(100):
        repeats.admit(("a.b", loop), Kind.WARNING, 0.0)
    assert [repeats.admit(("a.lost",), Kind.STATE, second) for second in range(6)] == [0, 0, 0, 0, 0, None]


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
    first, second = (kind_of(level, {"event": "a.b", **fields}) for fields in (one, other))
    assert (first == second) is is_same


@pytest.mark.parametrize(
    ("level", "event", "kind"),
    [
        ("info", "a.b", None),
        ("warning", "log.lines_dropped", None),
        ("warning", "doorbell.lost", Kind.STATE),
        ("warning", "a.b", Kind.WARNING),
        ("error", "a.b", Kind.ERROR),
    ],
)
def test_only_warnings_and_errors_are_looked_at(level: str, event: str, kind: Kind | None) -> None:
    found = kind_of(level, {"event": event})
    assert (found and found[1]) == kind


def test_the_summary_comes_once_it_is_over_and_counts_from_then_on_anew() -> None:
    repeats = Repeats()
    times_written(repeats, Kind.WARNING, 1.0, 50.0)
    assert repeats.summary(60.0) is None
    summary = repeats.summary(109.0)
    assert summary is not None
    assert (summary.of, summary.lasted_s) == ({"a.b": 47}, 46.0)
    assert repeats.summary(500.0) is None


def test_while_it_goes_on_the_summary_comes_from_time_to_time() -> None:
    repeats = Repeats()
    summaries = 0
    for now in range(3600):
        repeats.admit(("a.b",), Kind.WARNING, float(now))
        summaries += repeats.summary(float(now)) is not None
    assert summaries == 3


def test_what_the_caller_knows_to_be_over_is_summed_up_at_once() -> None:
    repeats = Repeats()
    times_written(repeats, Kind.WARNING, 1.0, 10.0)
    assert repeats.summary(10.0, is_over=True) is not None


def test_an_hour_of_an_outage_with_many_loops_stays_within_its_budget() -> None:
    """Every loop there is, each with its own pauses; two channels, and requests of many SKUs among them."""
    chance = random.Random(7)
    repeats = Repeats()
    loops = [(f"loop.{n}_failed", channel) for n in range(20) for channel in CHANNELS]
    written: deque[float] = deque()
    worst = lines = 0
    news: set[tuple[str, str]] = set()
    moments = sorted(
        [(chance.uniform(n * pause, (n + 1) * pause), loop, Kind.WARNING)
         for loop in loops for pause in (chance.choice((1.0, 5.0, 15.0, 60.0)),) for n in range(int(3600 / pause))]
        + [(chance.uniform(0, 3600), ("dispatch.delivery_in_doubt", channel), Kind.ITEM)
           for channel in CHANNELS for _ in range(5000)],
        key=lambda moment: moment[0],
    )  # fmt: skip
    for now, key, kind in moments:
        lines += 1
        if repeats.admit(key, kind, now) is not None:
            news.add(key)
            written.append(now)
            while now - written[0] >= MINUTE_S:
                written.popleft()
            worst = max(worst, len(written))
    assert lines > 20_000
    assert worst <= MOST_WARNINGS
    assert news >= set(loops), "something that was new was never written"
