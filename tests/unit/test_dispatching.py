"""The dispatcher's decisions, as tables."""

from datetime import timedelta

import pytest

from daemon.core.breaker import UNLIMITED
from daemon.core.dispatching import (
    ClaimSize,
    Share,
    next_claim,
    reason_to_give_back,
    rows_for_batches,
    rows_for_single_calls,
    share,
    should_begin_batches,
    should_end_batches,
    sync_pause_s,
    until_due_s,
    until_room_s,
)


@pytest.mark.parametrize(
    ("owned", "wanted"),
    [
        (16, Share(20.0, 2, 8, 500)),
        (8, Share(10.0, 1, 4, 250)),
        (5, Share(6.25, 1, 2, 156)),
        (1, Share(1.25, 1, 1, 31)),
        (0, Share(0.0, 1, 0, 1)),
    ],
)
def test_a_process_has_the_part_of_the_channels_limits_that_its_slots_are(owned: int, wanted: Share) -> None:
    assert share(owned, rate_per_s=20.0, concurrency=8, batch_above=500) == wanted


def test_skus_never_share_calls_where_the_threshold_is_0() -> None:
    assert share(16, rate_per_s=20.0, concurrency=8, batch_above=0).batch_above == 0


@pytest.mark.parametrize(
    ("rate", "concurrency", "single", "batches"),
    [
        (20.0, 8, 10, 1000),  # what is sent within half a second
        (10_000.0, 8, 128, 1000),  # a few rounds of requests
        (10_000.0, 256, 400, 1000),  # no more than a claim's most
        (1.0, 1, 1, 100),
        (100_000.0, 2, 32, 400),
    ],
)
def test_a_claim_takes_what_is_sent_soon(rate: float, concurrency: int, single: int, batches: int) -> None:
    own = Share(rate, 1, concurrency, 0)
    assert rows_for_single_calls(own) == single
    assert rows_for_batches(own, 100) == batches


@pytest.mark.parametrize(
    ("allowance", "queued", "in_flight", "is_urgent", "wanted"),
    [
        (UNLIMITED, 0, 0, False, ClaimSize(10, is_urgent_only=False)),
        (UNLIMITED, 5, 9, False, ClaimSize(5, is_urgent_only=False)),
        (UNLIMITED, 6, 9, False, None),
        (UNLIMITED, 6, 9, True, ClaimSize(10, is_urgent_only=True)),
        (UNLIMITED, 2, 9, True, ClaimSize(8, is_urgent_only=False)),
        (1, 0, 0, True, ClaimSize(1, is_urgent_only=False)),
        (1, 0, 1, True, None),
        (0, 0, 0, True, None),
    ],
)
def test_what_is_claimed_next(
    allowance: int, queued: int, in_flight: int, is_urgent: bool, wanted: ClaimSize | None
) -> None:
    found = next_claim(
        allowance=allowance, queued=queued, claim_size=10, in_flight=in_flight, is_urgent=is_urgent
    )
    assert found == wanted


@pytest.mark.parametrize(
    ("probe_at", "wanted"), [(None, 1.0), (100.0, 1.0), (10.5, 0.5), (10.0, 0.01), (3.0, 0.01)]
)
def test_room_is_looked_for_when_a_probe_may_go_out(probe_at: float | None, wanted: float) -> None:
    assert until_room_s(1.0, probe_at, 10.0) == wanted


@pytest.mark.parametrize(
    ("due_s", "wanted"), [(None, 1.0), (5.0, 1.0), (0.3, 0.3), (0.0, 0.02), (-60.0, 0.02)]
)
def test_the_next_claim_is_when_the_next_row_is_due(due_s: float | None, wanted: float) -> None:
    assert until_due_s(1.0, None if due_s is None else timedelta(seconds=due_s)) == wanted


@pytest.mark.parametrize(
    ("rate", "took_s", "wanted"), [(20.0, 0.0, 0.5), (1000.0, 0.0, 0.05), (20.0, 2.0, 6.0), (0.0, 0.0, 0.05)]
)
def test_a_sync_has_one_call_in_ten_or_a_quarter_of_the_time(
    rate: float, took_s: float, wanted: float
) -> None:
    assert sync_pause_s(rate, took_s) == wanted


@pytest.mark.parametrize(
    ("batch_above", "most", "is_more", "now", "wanted"),
    [
        (100, 10, True, 5.0, True),
        (0, 10, True, 5.0, False),
        (100, 1, True, 5.0, False),
        (100, 10, False, 5.0, False),
        (100, 10, True, 4.9, False),
    ],
)
def test_when_to_look_at_the_backlog(
    batch_above: int, most: int, is_more: bool, now: float, wanted: bool
) -> None:
    found = should_begin_batches(
        batch_above=batch_above, most_per_call=most, is_more=is_more, now=now, look_at=5.0
    )
    assert found is wanted


@pytest.mark.parametrize(
    ("is_more", "queued", "wanted"), [(False, 8, True), (False, 9, False), (True, 0, False)]
)
def test_batches_end_when_the_backlog_is_sent(is_more: bool, queued: int, wanted: bool) -> None:
    assert should_end_batches(is_more=is_more, queued=queued, concurrency=8) is wanted


@pytest.mark.parametrize(
    ("now", "is_trusted", "is_allowed", "wanted"),
    [
        (110.0, True, True, None),
        (110.1, True, True, "claimed too long ago"),
        (110.0, False, True, "the lease is not trusted any more"),
        (110.0, True, False, "the circuit breaker is open"),
        (111.0, False, False, "claimed too long ago"),
    ],
)
def test_what_may_be_sent_now(now: float, is_trusted: bool, is_allowed: bool, wanted: str | None) -> None:
    found = reason_to_give_back(
        now=now, claimed_at=100.0, max_age_s=10.0, is_trusted=is_trusted, is_allowed=is_allowed
    )
    assert found == wanted
