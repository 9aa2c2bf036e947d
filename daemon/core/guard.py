"""The bulk-zero guard's limits: how many zeroes at once are too many."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class GuardRule:
    """Zeroes of the last `window` are held when they are more than `zero_count` and more than `zero_share` of what
    was on sale, or when more than `row_share` of the listing's rows are gone."""

    zero_share: float
    zero_count: int
    row_share: float
    window: timedelta
