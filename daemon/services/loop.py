"""The loop of a service: it takes a step, reports that it is alive, waits, and backs off after failures."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from daemon import clock
from daemon.core.backoff import Interval, backoff
from daemon.core.errors import StockrelayError
from daemon.liveness import Watchdog

Step = Callable[[], Awaitable[Interval | None]]
"""Returns the pause until the next step; None: the usual one; DONE: there is none."""
OnFailure = Callable[[StockrelayError], Interval | None]
"""Logs the failure; returns the pause until the next step, None: the back-off. May raise the error to end the loop."""

DONE: Final = Interval(math.inf)
"""Ends the loop."""


@dataclass(frozen=True, slots=True)
class Pace:
    """`every_s` is the usual pause between two steps, and the shortest one after a failure; `first_s` comes before the
    first step. A step ends within `longest_step_s`, and within `every_s` where that is more, or the loop counts as
    stalled. After failures in a row the pause
    doubles from `base` up to `cap`."""

    every_s: float
    longest_step_s: float = 0.0
    first_s: float = 0.0
    base: timedelta = timedelta(0)
    cap: timedelta = timedelta(0)


async def run_loop(
    step: Step,
    stop: asyncio.Event,
    watchdog: Watchdog,
    pace: Pace,
    on_failure: OnFailure | None = None,
    *wakes: asyncio.Event,
) -> None:
    """Take steps until `stop`. A signal of `wakes` ends a pause early; the step clears it.

    Only StockrelayError counts as a failure of a step; any other error ends the loop and is raised, as is this one
    without `on_failure`.
    """
    failures = 0
    pause = Interval(pace.first_s)
    with closing(watchdog):
        while pause is not DONE:
            watchdog.beat(pause.seconds)
            await clock.wait_any(pause.seconds, stop, *(wakes if pause.is_wakeable else ()))
            if stop.is_set():
                return
            watchdog.beat(max(pace.every_s, pace.longest_step_s))
            try:
                pause = await step() or Interval(pace.every_s)
                failures = 0
            except StockrelayError as error:
                if on_failure is None:
                    raise
                failures += 1
                pause = on_failure(error) or _after(failures, pace)


def _after(failures: int, pace: Pace) -> Interval:
    pause = backoff(failures, pace.base, pace.cap, clock.jitter())
    return Interval(max(pace.every_s, pause.total_seconds()), is_wakeable=False)
