"""Runs the services: one that fails unexpectedly is restarted alone, while the others go on."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import structlog

from daemon import clock
from daemon.core.backoff import Interval, backoff
from daemon.core.errors import ConfigError, ForeignDatabase, SchemaMismatch
from daemon.liveness import unwatched
from daemon.services.loop import DONE, Pace, run_loop
from daemon.services.readiness import Readiness

log = structlog.get_logger(__name__)

Run = Callable[[asyncio.Event], Awaitable[None]]

_FATAL: Final = (ConfigError, SchemaMismatch, ForeignDatabase)
"""Errors that a restart cannot fix: they end the process."""
_BASE: Final = timedelta(seconds=1)
_CAP: Final = timedelta(seconds=60)
_STEADY_S: Final = 60.0
"""A service that has run this long has recovered: the next failure counts as the first."""


@dataclass(eq=False)
class Supervisor:
    """Runs services by name. While one waits for its restart, the replica is not ready, and `reasons` names it."""

    readiness: Readiness
    base: timedelta = _BASE

    async def run(self, name: str, service: Run, stop: asyncio.Event) -> None:
        """Run the service until it ends by itself. Raises errors that a restart cannot fix."""
        failures = 0
        # Under another name than the service's own, which it may report by itself.
        what = f"service {name}"

        async def step() -> Interval:
            nonlocal failures
            self.readiness.has(what)
            began = clock.monotonic()
            try:
                await service(stop)
            except Exception as error:
                if is_fatal(error):
                    raise
                failures = 1 if clock.monotonic() - began > _STEADY_S else failures + 1
                pause = backoff(failures, self.base, _CAP, clock.jitter()).total_seconds()
                log.exception("run.service_failed", service=name, failures=failures, retry_s=round(pause, 1))
                why = f"it failed ({type(error).__name__}) and is restarted; the log has the traceback"
                self.readiness.lacks(what, why)
                return Interval(pause)
            return DONE

        await run_loop(step, stop, unwatched(), Pace(0.0))
        self.readiness.has(what)


def is_fatal(error: Exception) -> bool:
    """Whether a restart cannot fix the error, or one of a group."""
    if isinstance(error, ExceptionGroup):
        return any(is_fatal(one) for one in error.exceptions)
    return isinstance(error, _FATAL)
