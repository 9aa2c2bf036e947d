"""Measures how late the event loop is."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from daemon import clock
from daemon.liveness import Watchdog
from daemon.services.loop import Pace, run_loop

EVERY_S: Final = 0.5
_LONGEST_STEP_S: Final = 10.0


@dataclass(eq=False)
class LoopWatch:
    """Calls `observe(lag_s)` twice a second with how late the loop woke it: every other task waits as long."""

    watchdog: Watchdog
    observe: Callable[[float], None]
    every_s: float = EVERY_S
    _due_at: float = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        self._due_at = clock.monotonic() + self.every_s
        pace = Pace(self.every_s, _LONGEST_STEP_S, first_s=self.every_s)
        await run_loop(self._measure, stop, self.watchdog, pace)

    async def _measure(self) -> None:
        self.observe(max(0.0, clock.monotonic() - self._due_at))
        self._due_at = clock.monotonic() + self.every_s
