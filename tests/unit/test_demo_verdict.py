"""The demo's verdict: what counts as agreement, and how long a change took."""

from collections.abc import Mapping

import pytest

from daemon.demo.records import RENAME, ActivityLog, Holdings, Key, StockChange, Write
from daemon.demo.report import report, seconds
from daemon.demo.verdict import ChannelVerdict, Latency, judge, percentile
from tests.channels import SEKORM, YMATOU

A: Key = ("RC0402FR-0710KL", "YAGEO")
B: Key = ("1211LL的ON2", "世强")


def changed(at: float, quantity: int, key: Key = A) -> StockChange:
    return StockChange(at, "sale", SEKORM, key, quantity)


def wrote(at: float, quantity: int, key: Key = A) -> Write:
    return Write(at, SEKORM, key, quantity)


def verdict(
    changes: list[StockChange],
    writes: list[Write],
    wanted: Mapping[Key, int] | None = None,
    held: Mapping[Key, int] | None = None,
) -> ChannelVerdict:
    initial: Holdings = {SEKORM: {A: 100, B: 100}}
    return judge(
        SEKORM,
        initial,
        changes,
        writes,
        {SEKORM: dict(wanted or {})},
        {SEKORM: dict(held or {})},
        len(writes),
    )


def took(found: ChannelVerdict) -> tuple[int, float, float] | None:
    latency = found.others
    return (latency.count, latency.p50, latency.worst) if latency else None


def test_a_change_takes_until_its_number_is_at_the_marketplace() -> None:
    assert took(verdict([changed(10, 99)], [wrote(10.5, 99)])) == (1, 0.5, 0.5)


def test_a_newer_number_confirms_the_changes_before_it() -> None:
    found = verdict([changed(10, 99), changed(11, 98), changed(12, 97)], [wrote(13, 97)])
    assert took(found) == (3, 2, 3)
    assert found.coalesced == 2


def test_an_older_number_confirms_nothing_that_came_after_it() -> None:
    found = verdict([changed(10, 99), changed(11, 98)], [wrote(12, 99), wrote(14, 98)])
    assert took(found) == (2, 2, 3)


def test_a_number_that_was_written_before_the_commit_confirms_nothing() -> None:
    assert took(verdict([changed(10, 99)], [wrote(9, 99)])) is None


def test_a_change_there_and_back_needs_no_write() -> None:
    found = verdict([changed(10, 99), changed(10.1, 100)], [], wanted={A: 100}, held={A: 100})
    assert found.agrees
    assert found.coalesced == 2
    assert took(found) is None


def test_a_change_that_led_back_is_not_timed_by_the_write_of_a_later_one() -> None:
    found = verdict([changed(10, 99), changed(10.1, 100), changed(50, 98)], [wrote(51, 98)])
    assert took(found) == (1, 1, 1)


def test_stock_outs_are_timed_apart() -> None:
    found = verdict([changed(10, 0), changed(10, 5, B)], [wrote(10.25, 0), wrote(12, 5, B)])
    assert found.stock_outs == Latency(count=1, p50=0.25, p99=0.25, worst=0.25)
    assert took(found) == (1, 2, 2)


def test_the_old_name_of_a_renamed_product_is_no_stock_out() -> None:
    found = verdict([StockChange(10, RENAME, SEKORM, A, 0)], [wrote(11, 0)])
    assert found.stock_outs is None
    assert took(found) == (1, 1, 1)


def test_changes_of_another_channel_do_not_count() -> None:
    other = StockChange(10, "sale", YMATOU, A, 7)
    found = verdict([other], [Write(11, YMATOU, A, 7)], wanted={A: 100}, held={A: 100})
    assert (found.changes, found.writes, found.agrees) == (0, 0, True)


@pytest.mark.parametrize(
    ("wanted", "held", "kind"),
    [
        ({A: 5}, {}, "missing"),
        ({A: 5}, {A: 6}, "different"),
        ({A: 0}, {A: 6}, "different"),
        ({}, {A: 6}, "extra"),
    ],
)
def test_every_product_must_hold_the_erps_number(
    wanted: dict[Key, int], held: dict[Key, int], kind: str
) -> None:
    found = verdict([], [], wanted, held)
    assert not found.agrees
    assert [name for name in ("missing", "extra", "different") if getattr(found, name)] == [kind]


def test_a_product_that_is_sold_no_more_is_right_at_zero() -> None:
    assert verdict([], [], {}, {A: 0}).agrees


def test_a_number_that_was_never_committed_is_found() -> None:
    found = verdict([changed(10, 99)], [wrote(11, 987_654), wrote(12, 99)], {A: 99}, {A: 99})
    assert found.invented == (wrote(11, 987_654),)
    assert not found.agrees


@pytest.mark.parametrize(("share", "expected"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.001, 1)])
def test_percentiles_are_values_that_occurred(share: float, expected: int) -> None:
    assert percentile(range(1, 101), share) == expected


@pytest.mark.parametrize(("value", "text"), [(0.0351, "35 ms"), (0.9999, "1000 ms"), (2.345, "2.35 s")])
def test_durations_are_told_in_the_unit_that_reads_best(value: float, text: str) -> None:
    assert seconds(value) == text


def test_the_report_names_what_differs_and_ends_with_the_verdict() -> None:
    wrong = verdict([changed(10, 99)], [wrote(11, 99)], {A: 99, B: 3}, {A: 98})
    lines = list(report(ActivityLog(transactions=1, rows=1), [wrong]))
    assert "  the numbers differ for RC0402FR-0710KL YAGEO: ERP 99, marketplace 98" in lines
    assert "  the marketplace lacks 1211LL的ON2 世强: ERP 3, marketplace nothing" in lines
    assert lines[-1].startswith("ERP and marketplaces DISAGREE: 2 findings")
    right = verdict([], [], {A: 1}, {A: 1})
    assert list(report(ActivityLog(), [right]))[-1] == "ERP and both marketplaces agree for every SKU."
