"""How many SKUs share a call."""

from math import isqrt


def most_together(most: int, failures: int) -> int:
    """Return how many SKUs that have failed so often in a row may go in one call; `most` is for those that have not.

    One answer for a whole call does not say which SKU it is about. After it each goes in smaller company, then alone,
    so that the one that can't be taken is found in about 2 * sqrt(most) calls, and parked alone.
    """
    if failures == 0:
        return most
    return max(1, isqrt(most)) if failures == 1 else 1
