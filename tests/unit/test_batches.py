"""How many SKUs share a call after failures."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.core.dispatching import may_join, most_together


@pytest.mark.parametrize(
    ("most", "failures", "expected"),
    [(100, 0, 100), (100, 1, 10), (100, 2, 1), (100, 9, 1), (1, 0, 1), (1, 1, 1), (3, 1, 1), (200, 1, 14)],
)
def test_after_each_failure_fewer_skus_share_a_call(most: int, failures: int, expected: int) -> None:
    assert most_together(most, failures) == expected


@given(most=st.integers(1, 1000), failures=st.integers(0, 1000))
def test_a_sku_that_fails_again_and_again_is_soon_alone_so_that_it_can_be_parked(
    most: int, failures: int
) -> None:
    assert 1 <= most_together(most, failures + 1) <= most_together(most, failures) <= most
    assert most_together(most, failures + 2) == 1


@pytest.mark.parametrize(
    ("call", "call_failures", "name", "failures", "wanted"),
    [
        ([], 0, "A", 0, True),
        (["B"], 0, "A", 0, True),
        (["A"], 0, "A", 0, False),
        (["B"], 0, "A", 1, False),
        (["B"], 1, "A", 1, True),
        (["B", "C"], 1, "A", 1, False),
        (["B"], 2, "A", 2, False),
        (["B", "C", "D", "E"], 0, "A", 0, False),
    ],
)
def test_which_skus_share_a_call(
    call: list[str], call_failures: int, name: str, failures: int, wanted: bool
) -> None:
    assert may_join(4, {(one,) for one in call}, call_failures, (name,), failures) is wanted
