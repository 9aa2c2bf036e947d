"""Throttles reactions to NOTIFY, which any role with CONNECT can send."""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from daemon import clock

_SHORTEST_GAP_S: Final = 0.01
_MOST_DOUBLINGS: Final = 20
_QUIET_GAPS: Final = 10


@dataclass(eq=False)
class RequestThrottle:
    """Calls `act` for a request: at once, or after a gap that doubles while acting finds nothing to do.

    The gap is `longest_s` at most. After ten gaps without a request the next one is acted on at once again.
    """

    act: Callable[[], None]
    longest_s: float
    _in_vain: int = 0
    _gap_s: float = 0.0
    _requested_at: float = -math.inf
    _next_at: float = -math.inf
    _is_acting: bool = False
    _timer: asyncio.TimerHandle | None = None

    def request(self) -> None:
        now = clock.monotonic()
        if now - self._requested_at > _QUIET_GAPS * self._gap_s:
            self._in_vain = 0
            self._next_at = now
        self._requested_at = now
        if now >= self._next_at:
            self._begin()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._next_at - now, self._begin)

    def _begin(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._is_acting = True
        self.act()

    def done(self, *, is_vain: bool, shortest_gap_s: float = _SHORTEST_GAP_S) -> None:
        """What `act` started has ended. `is_vain`: it found nothing to do."""
        if not is_vain:
            self._in_vain = 0
            self._gap_s = 0.0
            self._next_at = -math.inf
        elif self._is_acting:
            self._in_vain = min(self._in_vain + 1, _MOST_DOUBLINGS)
            self._gap_s = min(self.longest_s, shortest_gap_s * 2 ** (self._in_vain - 1))
            self._next_at = clock.monotonic() + self._gap_s
        self._is_acting = False
