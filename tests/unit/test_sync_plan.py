"""What a sync would send: each row of the listing counts once, and what is wrong has an example with its reason."""

from collections.abc import Sequence

import pytest

from daemon.core.plan import Listed
from daemon.core.sync_plan import SHOWN, SyncPlan
from daemon.core.types import Duplicates, Sku

A, B = Sku("A"), Sku("B")
NAME = ("PN-1", "AMS")


def problem(identifiers: Sequence[str | None]) -> str | None:
    return None if identifiers[0] else "pn_code is missing"


def plan(duplicates: Duplicates = "park") -> SyncPlan:
    return SyncPlan(problem, duplicates, ("pn_code", "brand_name"))


def test_rows_that_can_be_sent_are_counted_with_their_zeroes_and_shown() -> None:
    made = plan()
    made.add(A, Listed(1, NAME, 5))
    made.add(B, Listed(1, ("PN-2", "AMS"), 0))
    assert (made.rows, made.sendable, made.wrong, made.zeroes, made.summed) == (2, 2, 0, 1, 0)
    assert made.first[0] == {"sku": "A", "pn_code": "PN-1", "brand_name": "AMS", "quantity": 5}
    assert (made.calls(1), made.calls(2), made.calls(100)) == (2, 1, 1)


@pytest.mark.parametrize(
    ("listed", "reason"),
    [
        (Listed(2, NAME, None), "the listing has 2 rows for this SKU"),
        (Listed(1, NAME, None), "the listing's quantity is NULL"),
        (Listed(1, (None, "AMS"), 5), "pn_code is missing"),
        (Listed(1, NAME, 5, carrier=A), "other SKUs have the same identifiers"),
        (Listed(1, NAME, 5, carrier=B), '"B" has the same identifiers (PN-1 / AMS)'),
        (Listed(1, (None, "AMS"), 5, carrier=B), "pn_code is missing"),
        (Listed(1, (), None, fault="division by zero", carrier=B), '"B" has the same identifiers'),
    ],
)
def test_a_row_that_would_be_parked_is_wrong_and_says_why(listed: Listed, reason: str) -> None:
    made = plan()
    made.add(A, listed)
    assert (made.rows, made.wrong, made.sendable) == (1, 1, 0)
    assert reason in made.problems[0]["reason"]


def test_of_skus_that_are_sold_as_one_only_the_carrier_is_sent() -> None:
    made = plan("sum")
    made.add(A, Listed(1, NAME, 7, carrier=A))
    made.add(B, Listed(1, NAME, 7, carrier=A))
    assert (made.rows, made.summed, made.sendable, made.wrong) == (2, 1, 1, 0)
    made.add(Sku("C"), Listed(1, ("PN-3", "AMS"), None, carrier=Sku("C"), lacks=B))
    assert 'the quantity of "B", which is part of the sum' in made.problems[0]["reason"]


def test_blanks_at_the_ends_of_names_are_doubtful_and_still_sent() -> None:
    made = plan()
    made.add(Sku("A "), Listed(1, NAME, 5))
    assert (made.sendable, made.doubtful) == (1, [{"sku": "A ", "reason": '"A " has blanks at its ends'}])


def test_examples_of_a_kind_are_few_however_many_rows_there_are() -> None:
    made = plan()
    for number in range(50):
        made.add(Sku(f"{number} "), Listed(1, NAME, 5))
        made.add(Sku(f"n{number}"), Listed(1, NAME, None))
    assert (len(made.problems), len(made.first), len(made.doubtful)) == (SHOWN, SHOWN, 2 * SHOWN)
    assert (made.rows, made.wrong) == (100, 50)
