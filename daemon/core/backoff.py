"""How long a loop waits between two steps, and after a failure."""

from datetime import timedelta
from typing import NamedTuple

_MOST_DOUBLINGS = 40  # beyond any cap in use; keeps the power from overflowing


class Interval(NamedTuple):
    """A wait between two steps of a loop. `is_wakeable`: a signal ends it early; otherwise only a stop does."""

    seconds: float
    is_wakeable: bool = True


AT_ONCE = Interval(0.0)


def backoff(failures: int, base: timedelta, cap: timedelta, jitter: float) -> timedelta:
    """Return the pause after the `failures`-th failure in a row (1 for the first). It doubles from `base` up to `cap`;
    `jitter` in [0, 1) spreads it over its upper half, so that loops that failed together do not come back together."""
    if failures < 1:
        return timedelta(0)
    whole = min(cap.total_seconds(), base.total_seconds() * 2.0 ** min(failures - 1, _MOST_DOUBLINGS))
    return timedelta(seconds=whole / 2 + whole / 2 * jitter)
