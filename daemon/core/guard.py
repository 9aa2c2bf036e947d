"""When the guard holds numbers: too many are wrong at once to be sent before an operator releases them."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class GuardRule:
    """How much is too much at once.

    Zeroes of the last `window` are held when they are more than `zero_count` and more than `zero_share` of what was on
    sale, or when at least 10 rows and more than `row_share` of the listing's rows are gone. Numbers that moved by
    `move_factor`, up or down, and those of SKUs that got other identifiers while they were on sale, are held when they
    are more than `zero_count` and more than 5 and, counted with the zeroes, more than `move_share` of what was on sale.
    Numbers that rise from 0 are held only with these, in the same bulk. Zeroes of the last `drip_window` are held when
    they are more than 10 and more than `drip_share` of what was on sale. A first filling is held when more than
    `zero_share` of what can be sent of it, and more than `zero_count`, are zero.
    """

    zero_share: float
    zero_count: int
    row_share: float
    window: timedelta
    move_factor: float = 5.0
    move_share: float = 0.5
    drip_share: float = 0.6
    drip_window: timedelta = timedelta(days=1)

    def most_zeroes(self, of: int) -> int:
        """Return how many zeroes are not held of those `of` on sale."""
        return max(self.zero_count, int(self.zero_share * of))

    def most_moves(self, of: int) -> int:
        """Return how many moved numbers are not held of those `of` on sale."""
        return max(self.zero_count, 5, int(self.move_share * of))


def threshold(rule: GuardRule | None, on_sale: int | None) -> str:
    """Say what the guard lets pass; `on_sale` is None before the first count."""
    if rule is None:
        return "off"
    if on_sale is None:
        return f"{rule.zero_share:.0%} of what is on sale, at least {rule.zero_count}, may fall to 0"
    minutes = f"{rule.window.total_seconds() / 60:g} min"
    return (
        f"{min(rule.most_zeroes(on_sale), on_sale)} of {on_sale} on sale may fall to 0 within {minutes}, "
        f"{min(rule.most_moves(on_sale), on_sale)} may move {rule.move_factor:g} times over"
    )


def limits_in_short(rule: GuardRule | None, on_sale: int) -> str:
    """Say the same in a few words, for a table."""
    if rule is None:
        return "off"
    zeroes, moves = (min(limit, on_sale) for limit in (rule.most_zeroes(on_sale), rule.most_moves(on_sale)))
    return f"passes {zeroes} zeroes, {moves} moves of {on_sale}"


def is_large_change(before: int | None, after: int | None, factor: float) -> bool:
    """Say whether one number is at least `factor` times the other; a zero never is."""
    if not before or not after:
        return False
    return after >= factor * before or before >= factor * after


def rises_from_zero(before: int | None, after: int | None) -> bool:
    """Say whether a number comes after a zero."""
    return before == 0 and after is not None and after > 0
