"""Beats with the event loop itself, and measures how late it is."""

import asyncio
from collections.abc import Callable
from typing import Final

from daemon import clock
from daemon.progress import Pulse

EVERY_S: Final = 0.5
_PATIENCE_S: Final = 10.0


class LoopWatch:
    """`observe(lag_s)` is told twice a second how late the loop woke it: what every other task waits, too."""

    def __init__(self, pulse: Pulse, observe: Callable[[float], None], every_s: float = EVERY_S) -> None:
        self._pulse = pulse
        self._observe = observe
        self._every_s = every_s

    async def run(self) -> None:
        """Beat until cancelled."""
        with self._pulse as pulse:
            while True:
                pulse.beat(self._every_s + _PATIENCE_S)
                due = clock.monotonic() + self._every_s
                await asyncio.sleep(self._every_s)
                self._observe(max(0.0, clock.monotonic() - due))
