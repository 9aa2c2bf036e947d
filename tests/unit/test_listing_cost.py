"""When a listing costs too much."""

import pytest

from daemon.core.finding import Verdict
from daemon.core.listing_cost import Reading, costliest, judge_cost

CHEAP = Reading(1, 8, 3, 0.0002, "erp.stock")
BATCH = Reading(10, 80, 30, 0.002, "erp.stock")


@pytest.mark.parametrize(
    ("one", "many", "verdict"),
    [
        (CHEAP, BATCH, Verdict.PASSED),
        (Reading(1, 200, 9_999, 0.01), BATCH, Verdict.PASSED),
        (Reading(1, 201, 1, 0.01), BATCH, Verdict.WARNING),
        (Reading(1, 8, 10_000, 0.01), BATCH, Verdict.WARNING),
        (CHEAP, Reading(10, 2_001, 30, 0.02), Verdict.WARNING),
        (CHEAP, Reading(10, 80, 100_000, 0.02), Verdict.WARNING),
        (Reading(1, 8, 3, 1.01), BATCH, Verdict.FAILED),
        (CHEAP, Reading(10, 80, 30, 0.51), Verdict.FAILED),
    ],
)
def test_pages_rows_and_the_rate_decide(one: Reading, many: Reading, verdict: Verdict) -> None:
    assert judge_cost("cost", one, many, rate_per_s=20).verdict is verdict


def test_what_it_means_is_said_in_numbers_a_second() -> None:
    one, many = Reading(1, 818, 0, 0.04), Reading(10, 8_180, 0, 6.9)
    found = judge_cost("cost", one, many, rate_per_s=20).found
    assert found == (
        "one SKU costs 818 pages and 0 rows, 40 ms; 10 at once 8180 pages, 6.9 s: 1.4 numbers a second at most, "
        "and rate_per_s is 20"
    )


def test_of_several_readings_the_one_with_most_pages_counts() -> None:
    assert costliest([CHEAP, Reading(1, 9, 0, 0.0), BATCH]) == BATCH
