"""How many SKUs share a call, and which."""

from collections.abc import Collection
from math import isqrt


def most_together(most: int, failures: int) -> int:
    """Return how many SKUs that have failed so often in a row may go in one call; `most` is for those that have not.

    One answer for a whole call does not say which SKU it is about. After it each goes in a smaller call, then alone,
    so that the one that can't be taken is found in about 2 * sqrt(most) calls, and parked alone.
    """
    if failures == 0:
        return most
    return max(1, isqrt(most)) if failures == 1 else 1


def may_join(
    most: int,
    call: Collection[tuple[str, ...]],
    call_failures: int,
    identifiers: tuple[str, ...],
    failures: int,
) -> bool:
    """Say whether a SKU may share a call: with others that failed as often, and never twice under the same identifiers.
    `call` has the identifiers of those in it, `call_failures` is how often the first of them failed."""
    together = most_together(most, failures)
    return len(call) < together and together == most_together(most, call_failures) and identifiers not in call
