"""A token bucket as a value: how many requests a channel may start now, and when the next ones."""

from math import floor
from typing import NamedTuple, Self

# A caller that slept exactly `wait_s` must find its request allowed, but binary fractions fall short of whole tokens
# by less than this. What is borrowed stays a debt, so it does not add up.
_ROUNDING = 1e-6


class RateLimit(NamedTuple):
    """At most `rate_per_s * t + burst` requests in any window of t seconds.

    Times are seconds of a monotonic clock. It starts empty: a process that takes slots over does not know what their
    last owner has just sent, and must not add a burst to it.
    """

    rate_per_s: float
    burst: int
    tokens: float
    at: float

    @classmethod
    def starting(cls, rate_per_s: float, burst: int, now: float) -> Self:
        """Return an empty bucket. Raises ValueError when rate or burst could never let a request pass."""
        if rate_per_s <= 0 or burst < 1:
            raise ValueError(f"a rate limit needs rate > 0 and burst >= 1, not {rate_per_s} and {burst}")
        return cls(rate_per_s, burst, 0.0, now)

    def at_rate(self, rate_per_s: float, burst: int, now: float) -> Self:
        """Return the bucket with another rate from now on, and no more tokens."""
        return type(self)(rate_per_s, burst, min(float(burst), self._level(now)), max(now, self.at))

    def available(self, now: float) -> int:
        """Return how many requests may start now."""
        return max(0, floor(self._level(now) + _ROUNDING))

    def take(self, now: float, n: int = 1) -> Self:
        """Return the bucket after `n` requests have started. Raises ValueError when fewer may."""
        level = self._level(now)
        if not 0 <= n <= level + _ROUNDING:
            raise ValueError(f"{n} requests taken where {self.available(now)} may start")
        return type(self)(self.rate_per_s, self.burst, level - n, max(now, self.at))

    def wait_s(self, now: float, n: int = 1) -> float:
        """Return the seconds until `n` requests may start together; 0.0 when they may now. `n` is at most `burst`."""
        if n > self.burst:
            raise ValueError(f"{n} requests never start together with a burst of {self.burst}")
        level = self._level(now)
        return 0.0 if n <= level + _ROUNDING else (n - level) / self.rate_per_s

    def _level(self, now: float) -> float:
        return min(float(self.burst), self.tokens + max(0.0, now - self.at) * self.rate_per_s)
