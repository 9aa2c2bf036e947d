"""Tells the service manager how the daemon stands: ready, alive, stopping (sd_notify(3)).

Alive means that every loop makes liveness, not that this one does: a daemon whose dispatcher hangs is restarted. The
database and the marketplaces have no say in it, or an outage of theirs would become a storm of restarts.
"""

import asyncio
import socket
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Final, Self

import structlog

from daemon import clock
from daemon.core.errors import StockrelayError
from daemon.liveness import Stalled, unwatched
from daemon.logs import visible
from daemon.services.loop import Pace, run_loop
from daemon.settings import ServiceManager

log = structlog.get_logger(__name__)

_LOOK_S: Final = 0.5
"""How often it is looked at whether something has changed; reading a few dictionaries costs nothing."""
_LONGEST_STATUS: Final = 500


class SystemdNotifier:
    """Says READY=1 when `reasons()` against it are first empty, and gives a sign of life while nothing is `stalled()`.

    `stop_within` is how long the daemon may take to stop; the manager waits as long, whatever its unit says.
    """

    def __init__(
        self,
        manager: ServiceManager,
        reasons: Callable[[], Mapping[str, str]],
        stalled: Callable[[], Sequence[Stalled]],
        stop_within: timedelta,
    ) -> None:
        self._manager = manager
        self._reasons = reasons
        self._stalled = stalled
        self._stop_within = stop_within
        self._look_s = _LOOK_S
        if manager.watchdog is not None:
            self._look_s = min(_LOOK_S, manager.watchdog.total_seconds() / 8)
        self._is_ready = False
        self._status = ""
        self._fed_at = float("-inf")

    async def run(self, stop: asyncio.Event) -> None:
        """Tell until stopped."""
        with _Line(self._manager.address) as line:

            async def step() -> None:
                self._look(line, clock.monotonic())

            await run_loop(step, stop, unwatched(), Pace(self._look_s, self._look_s), _raise)
            line.tell("STOPPING=1", "STATUS=finishing what is in flight", _extended(self._stop_within))

    def _look(self, line: "_Line", now: float) -> None:
        reasons, stalled = self._reasons(), self._stalled()
        if not self._is_ready and not reasons and not stalled and line.tell("READY=1"):
            self._is_ready = True
            log.info("systemd.readiness_reported")
        status = _status(reasons, stalled)
        if status != self._status and line.tell(f"STATUS={status}"):
            self._status = status
        watchdog = self._manager.watchdog
        if watchdog is None or stalled or now - self._fed_at < watchdog.total_seconds() / 2:
            return
        # Before READY=1 no watchdog looks; the time that a start may take is extended on the same condition.
        if line.tell("WATCHDOG=1" if self._is_ready else _extended(watchdog)):
            self._fed_at = now


def _status(reasons: Mapping[str, str], stalled: Sequence[Stalled]) -> str:
    """One line for `systemctl status`."""
    if stalled:
        return visible(f"stalled: {', '.join(one.name for one in stalled)}")[:_LONGEST_STATUS]
    if reasons:
        told = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        return visible(f"not ready: {told}")[:_LONGEST_STATUS]
    return "serving"


def _raise(error: StockrelayError) -> None:
    raise error


def _extended(time: timedelta) -> str:
    return f"EXTEND_TIMEOUT_USEC={time // timedelta(microseconds=1)}"


class _Line:
    """The way to the manager. It never blocks: what does not go through now is said again at the next look."""

    def __init__(self, address: str) -> None:
        # An abstract name begins with a zero byte, and is written with "@".
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._shown = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(0)
        self._is_broken = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def tell(self, *assignments: str) -> bool:
        """Say all of it at once; return whether it went through."""
        try:
            self._socket.sendto("\n".join(assignments).encode(), self._address)
        except OSError as error:
            if not self._is_broken:
                log.warning("systemd.socket_unreachable", address=self._shown, reason=str(error))
            self._is_broken = True
            return False
        self._is_broken = False
        return True
