"""The pages of the ops port. Only the status waits for the database, and it is cached."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import structlog

from daemon import clock
from daemon.core.errors import StockrelayError, StoreUnavailable
from daemon.liveness import Liveness
from daemon.ops.messages import HttpReply, Page, as_json
from daemon.ops.metrics import CONTENT_TYPE, Metrics

log = structlog.get_logger(__name__)

STATUS_KEPT_S: Final = 5.0
_STATUS_TIMEOUT_S: Final = 8.0
"""Less than a connection lives."""
STATUS_DUTY: Final = 20.0
"""A status that takes long is kept for this many times as long."""


def alive(liveness: Liveness) -> Page:
    """200 with the loops while each meets its deadline; 503 names those that do not: only a restart helps."""

    async def livez() -> HttpReply:
        stalled = liveness.stalled()
        if not stalled:
            return as_json(200, {"status": "alive", "loops": liveness.watched()})
        loops = [{"loop": one.name, "overdue_s": round(one.overdue_s, 1)} for one in stalled]
        return as_json(503, {"status": "stalled", "stalled": loops})

    return livez


def ready(reasons: Callable[[], Mapping[str, str]]) -> Page:
    """200 while there is no reason against it; 503 with the reasons, by what is missing."""

    async def readyz() -> HttpReply:
        against = reasons()
        if not against:
            return as_json(200, {"status": "ready"})
        return as_json(503, {"status": "not ready", "reasons": dict(against)})

    return readyz


def measured(metrics: Metrics) -> Page:
    """The metrics, for Prometheus."""

    async def page() -> HttpReply:
        return HttpReply(200, metrics.page(), CONTENT_TYPE)

    return page


@dataclass(eq=False)
class StatusPage:
    """The state of every channel, as `stockrelay status --json` prints it.

    Simultaneous requests share one reading, which is cached for some seconds, longer if it was slow: requests cannot
    load the database. `now` returns monotonic seconds.
    """

    read: Callable[[], Awaitable[Mapping[str, Any]]]
    keep_s: float = STATUS_KEPT_S
    now: Callable[[], float] = clock.monotonic
    _until: float = 0.0
    _reading: asyncio.Task[HttpReply] | None = None
    _facts: Mapping[str, Any] | None = None

    async def __call__(self) -> HttpReply:
        """200 with the status; 503 when it could not be read, which is cached as well."""
        reading = self._reading
        if reading is None or (reading.done() and self.now() >= self._until):
            reading = self._reading = asyncio.create_task(self._fresh(), name="ops-status")
        # A client that disconnects does not end it for the others.
        return await asyncio.shield(reading)

    async def facts(self) -> Mapping[str, Any]:
        """Return the status itself, cached in the same way. Raises StoreUnavailable when it could not be read."""
        await self()
        if self._facts is None:
            raise StoreUnavailable("the status could not be read; see ops.status_unavailable in the log")
        return self._facts

    async def close(self) -> None:
        """Cancel a reading that is under way."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait({self._reading})

    async def _fresh(self) -> HttpReply:
        began = self.now()
        try:
            async with asyncio.timeout(_STATUS_TIMEOUT_S):
                self._facts = await self.read()
            reply = as_json(200, self._facts)
        except (StockrelayError, TimeoutError) as error:
            reason = str(error) or f"no answer within {_STATUS_TIMEOUT_S:g} s"
            log.warning("ops.status_unavailable", reason=reason)
            self._facts = None
            reply = as_json(
                503, {"error": "the database does not answer; see ops.status_unavailable in the log"}
            )
        ended = self.now()
        self._until = ended + max(self.keep_s, STATUS_DUTY * (ended - began))
        return reply
