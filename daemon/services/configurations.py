"""Detects replicas that are configured differently: which of two listings is sent would be a matter of chance."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

import structlog

from daemon.core.errors import StockrelayError
from daemon.liveness import Watchdog
from daemon.services.loop import Pace, run_loop
from daemon.settings.fingerprints import differing
from daemon.store.leases import Leases

log = structlog.get_logger(__name__)

_FIRST_LOOK_S: Final = 2.0
"""By then this replica is registered as alive."""


@dataclass(eq=False)
class ConfigurationWatch:
    """Publishes the fingerprints of this replica's settings (`ours`, which may change) and logs which replica's
    differ."""

    leases: Leases
    holder: str
    ours: Callable[[], Mapping[str, str]]
    every: timedelta
    watchdog: Watchdog
    _differing: dict[str, tuple[str, ...]] = field(default_factory=dict)

    async def run(self, stop: asyncio.Event) -> None:
        every_s = self.every.total_seconds()
        pace = Pace(every_s, first_s=min(_FIRST_LOOK_S, every_s))
        await run_loop(self._look, stop, self.watchdog, pace, self._on_failure)

    def _on_failure(self, error: StockrelayError) -> None:
        log.debug("run.configurations_unavailable", reason=str(error))

    async def _look(self) -> None:
        ours = self.ours()
        await self.leases.publish_configuration(self.holder, ours)
        theirs = await self.leases.configurations()
        theirs.pop(self.holder, None)
        found = {holder: sections for holder, their in theirs.items() if (sections := differing(ours, their))}
        for holder, sections in found.items():
            if self._differing.get(holder) != sections:
                log.warning("run.configurations_differ", replica=holder, sections=sections)
        if self._differing and not found:
            log.info("run.configurations_agree")
        self._differing = found
