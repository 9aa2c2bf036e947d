"""Reports to the service manager that the daemon is ready, alive or stopping (sd_notify(3)).

Alive means that every loop makes progress, not that this one does: a daemon whose dispatcher hangs is restarted. The
database and the marketplaces do not count, or an outage of theirs would become a storm of restarts.
"""

import asyncio
import math
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final

import structlog

from daemon import clock
from daemon.liveness import Stalled, unwatched
from daemon.logs import visible
from daemon.services.loop import Pace, run_loop
from daemon.settings import ServiceManager

log = structlog.get_logger(__name__)

_LOOK_S: Final = 0.5
"""How often the state is checked; it reads a few dictionaries."""
_LONGEST_STATUS: Final = 500


@dataclass(eq=False)
class SystemdNotifier:
    """Says READY=1 when `reasons()` against it are first empty, and gives a sign of life while nothing is `stalled()`.

    `stop_within` is how long the daemon may take to stop; the manager waits as long, whatever its unit says.
    """

    manager: ServiceManager
    reasons: Callable[[], Mapping[str, str]]
    stalled: Callable[[], Sequence[Stalled]]
    stop_within: timedelta
    _is_ready: bool = False
    _status: str = ""
    _fed_at: float = -math.inf

    async def run(self, stop: asyncio.Event) -> None:
        watchdog = self.manager.watchdog
        look_s = _LOOK_S if watchdog is None else min(_LOOK_S, watchdog.total_seconds() / 8)
        with closing(_Line(self.manager.address)) as line:
            await run_loop(partial(self._look, line), stop, unwatched(), Pace(look_s))
            line.send("STOPPING=1", "STATUS=finishing what is in flight", _extended(self.stop_within))

    async def _look(self, line: "_Line") -> None:
        reasons, stalled, now = self.reasons(), self.stalled(), clock.monotonic()
        if not self._is_ready and not reasons and not stalled and line.send("READY=1"):
            self._is_ready = True
            log.info("systemd.readiness_reported")
        status = _status(reasons, stalled)
        if status != self._status and line.send(f"STATUS={status}"):
            self._status = status
        watchdog = self.manager.watchdog
        if watchdog is None or stalled or now - self._fed_at < watchdog.total_seconds() / 2:
            return
        # Before READY=1 no watchdog looks; the time that a start may take is extended on the same condition.
        if line.send("WATCHDOG=1" if self._is_ready else _extended(watchdog)):
            self._fed_at = now


def _status(reasons: Mapping[str, str], stalled: Sequence[Stalled]) -> str:
    """One line for `systemctl status`."""
    if stalled:
        return visible(f"stalled: {', '.join(one.name for one in stalled)}")[:_LONGEST_STATUS]
    if reasons:
        missing = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        return visible(f"not ready: {missing}")[:_LONGEST_STATUS]
    return "serving"


def _extended(time: timedelta) -> str:
    return f"EXTEND_TIMEOUT_USEC={time // timedelta(microseconds=1)}"


class _Line:
    """The socket of the service manager. It never blocks: what could not be sent is sent again at the next check."""

    def __init__(self, address: str) -> None:
        # An abstract name begins with a zero byte, and is written with "@".
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._shown = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(0)
        self._is_broken = False

    def close(self) -> None:
        self._socket.close()

    def send(self, *assignments: str) -> bool:
        """Send the assignments in one datagram; return whether that worked."""
        try:
            self._socket.sendto("\n".join(assignments).encode(), self._address)
        except OSError as error:
            if not self._is_broken:
                log.warning("systemd.socket_unreachable", address=self._shown, reason=str(error))
            self._is_broken = True
            return False
        self._is_broken = False
        return True
