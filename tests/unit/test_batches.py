"""How many SKUs share a call after failures."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.core.batches import most_together


@pytest.mark.parametrize(
    ("most", "failures", "expected"),
    [(100, 0, 100), (100, 1, 10), (100, 2, 1), (100, 9, 1), (1, 0, 1), (1, 1, 1), (3, 1, 1), (200, 1, 14)],
)
def test_each_failure_makes_the_company_smaller(most: int, failures: int, expected: int) -> None:
    assert most_together(most, failures) == expected


@given(most=st.integers(1, 1000), failures=st.integers(0, 1000))
def test_a_sku_that_fails_again_and_again_is_soon_alone_so_that_it_can_be_parked(
    most: int, failures: int
) -> None:
    assert 1 <= most_together(most, failures + 1) <= most_together(most, failures) <= most
    assert most_together(most, failures + 2) == 1
