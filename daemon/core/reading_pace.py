"""How much of the time a channel's intake may read: the ERP comes first, however fast it writes."""

from typing import Final, NamedTuple, Self

_SHARE: Final = 0.2
_BURST_S: Final = 0.05
"""Seconds of reading that may come at once: single changes are read as they come, a stream of them in portions."""
_LONGEST_PAUSE_S: Final = 0.25
_LEAST_S: Final = 0.002
"""What a reading costs at least, with its commit: in a stream of changes, readings are ten milliseconds apart."""


class ReadingPace(NamedTuple):
    """Readings take a fifth of the time at most in the long run, and a pause lasts a quarter of a second at most.

    Times are seconds of a monotonic clock. `owed_s`: seconds of reading beyond that share, as of `at`.
    """

    owed_s: float = 0.0
    at: float = 0.0

    def after(self, took_s: float, now: float) -> Self:
        """A reading of this duration has just ended."""
        owed_s = max(0.0, self.owed_s - _SHARE * max(0.0, now - self.at)) + max(took_s, _LEAST_S)
        return type(self)(min(owed_s, _BURST_S + _SHARE * _LONGEST_PAUSE_S), now)

    @property
    def pause_s(self) -> float:
        """Seconds to wait before the next reading; 0.0: none."""
        return max(0.0, self.owed_s - _BURST_S) / _SHARE
