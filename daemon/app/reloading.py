"""Reads the configuration again on SIGHUP and applies what can change in a running daemon."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from daemon import clock
from daemon.app.building import receivers
from daemon.core.errors import StockrelayError
from daemon.logs import Log
from daemon.services.notify import Receiver
from daemon.settings import Settings
from daemon.settings.fingerprints import fingerprints
from daemon.settings.reload import reload
from daemon.threads import in_thread

log = structlog.get_logger(__name__)

_TIMEOUT_S: Final = 30.0
_UNFORESEEN: Final = (
    "it failed unexpectedly ({}): the old settings stay; send SIGHUP again, and report what `exception` says"
)

Take = Callable[[Settings, Sequence[Receiver]], None]
"""Applies new settings. If one of them raises, all are called again with the settings before."""


@dataclass(eq=False)
class Reloading:
    """The settings as they are now. `reread` reads the configuration again; it raises ConfigError."""

    settings: Settings
    reread: Callable[[], Settings]
    log_state: Log
    _takers: list[Take] = field(default_factory=list)
    _wanted: clock.Signal = field(default_factory=clock.Signal)

    def __post_init__(self) -> None:
        self.fingerprints = fingerprints(self.settings)

    def follow(self, take: Take) -> None:
        """Have `take` called with what has changed."""
        self._takers.append(take)

    def request(self) -> None:
        """Read the configuration as soon as possible."""
        self._wanted.set()

    async def run(self) -> None:
        """Reload on request until cancelled. A failed reload leaves the settings as they were."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            reason = ""
            try:
                async with asyncio.timeout(_TIMEOUT_S):
                    self._take(*await in_thread(self._look, "reload"))
            except StockrelayError as error:
                reason = str(error)
            except TimeoutError:
                reason = f"it could not be read within {_TIMEOUT_S:g} s"
            except Exception as error:
                # The loop must survive: the next SIGHUP brings the correction.
                log.exception("run.configuration_refused", reason=_UNFORESEEN.format(type(error).__name__))
            if reason:
                log.error("run.configuration_refused", reason=reason)

    def _look(self) -> tuple[Settings, Sequence[Receiver]]:
        new = self.reread()
        return new, receivers(new)

    def _take(self, new: Settings, recipients: Sequence[Receiver]) -> None:
        done = reload(self.settings, new)
        # First: from here on a line may hold the new secrets.
        self.log_state.change(done.settings.log.level, done.settings.secrets())
        try:
            self._apply(done.settings, recipients)
        except Exception:
            self.log_state.change(self.settings.log.level, ())
            self._apply(self.settings, receivers(self.settings))
            raise
        self.settings = done.settings
        self.fingerprints = fingerprints(done.settings)
        write = log.warning if done.needs_restart else log.info
        write("run.configuration_reloaded", changed=done.changed, needs_restart=done.needs_restart)

    def _apply(self, settings: Settings, recipients: Sequence[Receiver]) -> None:
        for take in self._takers:
            take(settings, recipients)
