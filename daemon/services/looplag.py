"""Measures how late the event loop is."""

import asyncio
from collections.abc import Callable
from typing import Final

from daemon import clock
from daemon.core.errors import StockrelayError
from daemon.liveness import Watchdog
from daemon.services.loop import Pace, run_loop

EVERY_S: Final = 0.5
_PATIENCE_S: Final = 10.0


class LoopWatch:
    """Calls `observe(lag_s)` twice a second with how late the loop woke it: every other task waits as long."""

    def __init__(
        self, watchdog: Watchdog, observe: Callable[[float], None], every_s: float = EVERY_S
    ) -> None:
        self._watchdog = watchdog
        self._observe = observe
        self._every_s = every_s
        self._due_at = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Measure until stopped."""
        pace = Pace(self._every_s, longest_step_s=_PATIENCE_S, first_s=self._every_s)
        self._due_at = clock.monotonic() + self._every_s
        await run_loop(self._measure, stop, self._watchdog, pace, _raise)

    async def _measure(self) -> None:
        self._observe(max(0.0, clock.monotonic() - self._due_at))
        self._due_at = clock.monotonic() + self._every_s


def _raise(error: StockrelayError) -> None:
    raise error
