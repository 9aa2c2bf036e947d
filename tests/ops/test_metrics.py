"""The metrics: what is told arrives, and docs/metrics.md says of each what it is."""

import re
from pathlib import Path

import pytest

from daemon.ops.metrics import GAUGES, LATENCY_S, LIVE, OUTCOMES, Metrics
from tests.channels import CHANNELS
from tests.ops.scrape import Scrape, parse

DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"
ROW = re.compile(r"\| `(\w+)` \| (\w+) \| ([\w, ]*) ?\| ([\w ×]*) ?\| ([\w, ]+) \| (.+) \|")


def scraped(metrics: Metrics) -> Scrape:
    return parse(metrics.page().decode())


def with_every_sample() -> Metrics:
    metrics = Metrics(CHANNELS)
    for name, (_, labels) in LIVE.items():
        metrics.live.follow(name, lambda: 1.0, *("sekorm" for _ in labels))
    for name, (_, labels) in GAUGES.items():
        metrics.set(name, 1.0, *("sekorm" for _ in labels))
    return metrics


def documented() -> dict[str, tuple[str, set[str]]]:
    lines = [line for line in DOCUMENT.read_text("utf-8").splitlines() if line.startswith("| `")]
    rows = [ROW.fullmatch(line) for line in lines]
    assert all(rows), [line for line, row in zip(lines, rows, strict=True) if row is None]
    names = [row[1] for row in rows if row]
    assert names == sorted(set(names)), "each once, in the order of their names"
    return {
        row[1]: (row[2], {label.strip() for label in row[3].split(",") if label.strip()})
        for row in rows
        if row
    }


def test_the_document_names_every_metric_with_its_type_and_labels() -> None:
    scrape = scraped(with_every_sample())
    assert documented() == {name: (kind, scrape.labels(name)) for name, kind in scrape.types.items()}


def test_every_metric_can_have_a_sample() -> None:
    scrape = scraped(with_every_sample())
    empty = [name for name in scrape.types if not ({name, f"{name}_count"} & scrape.samples.keys())]
    assert empty == []


def test_nothing_grows_with_the_skus() -> None:
    scrape = scraped(with_every_sample())
    labels = {"channel", "check", "kind", "outcome", "reason", "version"}
    assert set().union(*(scrape.labels(name) for name in scrape.types)) == labels


def test_what_is_counted_begins_at_zero_for_every_channel_and_outcome() -> None:
    scrape = scraped(Metrics(CHANNELS))
    values = [
        scrape.value("stockrelay_attempts_total", channel=channel, outcome=outcome)
        for channel in CHANNELS
        for outcome in OUTCOMES
    ]
    assert values == [0.0] * 12


def test_an_attempt_counts_by_its_outcome_and_takes_its_time() -> None:
    metrics = Metrics(CHANNELS)
    metrics.attempted("sekorm", "applied", 0.02)
    metrics.attempted("sekorm", "applied", 0.2)
    metrics.attempted("sekorm", "not_sent", None)
    scrape = scraped(metrics)
    assert scrape.value("stockrelay_attempts_total", channel="sekorm", outcome="applied") == 2
    assert scrape.value("stockrelay_attempts_total", channel="sekorm", outcome="not_sent") == 1
    assert scrape.value("stockrelay_attempts_total", channel="ymatou", outcome="applied") == 0
    assert scrape.value("stockrelay_attempt_duration_seconds_count", channel="sekorm") == 2
    assert scrape.value("stockrelay_attempt_duration_seconds_sum", channel="sekorm") == pytest.approx(0.22)


def test_a_latency_falls_into_its_bucket_from_five_milliseconds_to_ten_minutes() -> None:
    assert (LATENCY_S[0], LATENCY_S[-1]) == (0.005, 600)
    metrics = Metrics(CHANNELS)
    metrics.delivered("ymatou", 2.2)
    scrape = scraped(metrics)
    bucket = "stockrelay_delivery_latency_seconds_bucket"
    assert scrape.value(bucket, channel="ymatou", le="1.0") == 0
    assert scrape.value(bucket, channel="ymatou", le="2.5") == 1
    assert scrape.value(bucket, channel="ymatou", le="+Inf") == 1


def test_a_gauge_has_a_sample_of_each_channel_that_was_counted() -> None:
    metrics = Metrics(CHANNELS)
    assert scraped(metrics).value("stockrelay_backlog_skus", channel="sekorm") is None
    metrics.set("stockrelay_backlog_skus", 8, "sekorm")
    metrics.set("stockrelay_backlog_skus", 9, "ymatou")
    metrics.set("stockrelay_notices_waiting", 2)
    scrape = scraped(metrics)
    assert scrape.value("stockrelay_backlog_skus", channel="sekorm") == 8
    assert scrape.value("stockrelay_backlog_skus", channel="ymatou") == 9
    assert scrape.value("stockrelay_notices_waiting") == 2


def test_what_is_not_known_has_no_sample() -> None:
    metrics = Metrics(CHANNELS)
    remaining: list[float | None] = [None]
    metrics.live.follow("stockrelay_token_remaining_seconds", lambda: remaining[0], "sekorm")
    name = "stockrelay_token_remaining_seconds"
    assert scraped(metrics).value(name, channel="sekorm") is None
    remaining[0] = 60.0
    assert scraped(metrics).value(name, channel="sekorm") == 60.0


def test_two_registries_do_not_know_of_each_other() -> None:
    first, second = Metrics(CHANNELS), Metrics(CHANNELS)
    first.delivered("sekorm", 1.0)
    assert scraped(second).value("stockrelay_delivery_latency_seconds_count", channel="sekorm") == 0
