"""How many wrong numbers at once the guard lets pass, and how that is said."""

from datetime import timedelta

import pytest

from daemon.core.guard import GuardRule, is_large_change, limits_in_short, rises_from_zero, threshold

RULE = GuardRule(zero_share=0.3, zero_count=20, row_share=0.5, window=timedelta(minutes=5))


@pytest.mark.parametrize(
    ("on_sale", "zeroes", "moves"), [(0, 20, 20), (50, 20, 25), (100, 30, 50), (1000, 300, 500)]
)
def test_the_share_counts_once_it_is_more_than_the_count(on_sale: int, zeroes: int, moves: int) -> None:
    assert (RULE.most_zeroes(on_sale), RULE.most_moves(on_sale)) == (zeroes, moves)


def test_a_few_moves_pass_even_where_no_zero_does() -> None:
    assert GuardRule(0.0, 0, 0.5, timedelta(minutes=5), move_share=0.0).most_moves(100) == 5


def test_the_limits_are_said_for_what_is_on_sale_and_never_above_it() -> None:
    assert threshold(None, 10) == limits_in_short(None, 10) == "off"
    assert threshold(RULE, None) == "30% of what is on sale, at least 20, may fall to 0"
    assert threshold(RULE, 100) == "30 of 100 on sale may fall to 0 within 5 min, 50 may move 5 times over"
    assert threshold(RULE, 3).startswith("3 of 3 on sale")
    assert limits_in_short(RULE, 100) == "passes 30 zeroes, 50 moves of 100"
    assert limits_in_short(RULE, 3) == "passes 3 zeroes, 3 moves of 3"


@pytest.mark.parametrize(
    ("before", "after", "far", "risen"),
    [
        (10, 50, True, False),
        (50, 10, True, False),
        (10, 49, False, False),
        (0, 50, False, True),
        (50, 0, False, False),
        (0, 0, False, False),
        (None, 50, False, False),
        (0, None, False, False),
        (50, None, False, False),
    ],
)
def test_a_number_is_far_by_the_factor_and_risen_above_a_zero(
    before: int | None, after: int | None, far: bool, risen: bool
) -> None:
    assert (is_large_change(before, after, 5.0), rises_from_zero(before, after)) == (far, risen)
