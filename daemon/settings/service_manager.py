"""The service manager's variables, such as systemd's (sd_notify(3), sd_watchdog_enabled(3))."""

import os
from collections.abc import MutableMapping
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class ServiceManager:
    """`address` is its datagram socket, a path or (with "@") an abstract name; `watchdog` is how long it waits for a
    sign of life before it restarts us; None: there is no watchdog."""

    address: str
    watchdog: timedelta | None


def take_service_manager(environ: MutableMapping[str, str] | None = None) -> ServiceManager | None:
    """Where to report the state; None: there is none. Its variables are removed: they are not for
    child processes."""
    environ = os.environ if environ is None else environ
    address = environ.pop("NOTIFY_SOCKET", "")
    microseconds = environ.pop("WATCHDOG_USEC", "")
    watched = environ.pop("WATCHDOG_PID", "")
    if not address:
        return None
    is_watched = microseconds.isdecimal() and int(microseconds) > 0 and watched in {"", str(os.getpid())}
    return ServiceManager(address, timedelta(microseconds=int(microseconds)) if is_watched else None)
