"""What the daemon does on a signal: SIGTERM and SIGINT stop it in order, nothing that is sent by habit ends it."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

import structlog

log = structlog.get_logger(__name__)

_STOPPING: Final = (signal.SIGTERM, signal.SIGINT)
_HARMLESS: Final = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


@contextmanager
def handling_signals(stop: asyncio.Event) -> Iterator[None]:
    """Set `stop` on SIGTERM and SIGINT, and say which other signal had no effect."""
    loop = asyncio.get_running_loop()

    def on_stop(name: str) -> None:
        log.info("run.stop_requested", signal=name)
        stop.set()

    def on_other(number: int, _frame: FrameType | None) -> None:
        # Not the loop's own handlers: when the loop is closed, it restores what ends the process.
        loop.call_soon_threadsafe(_tell_ignored, signal.Signals(number).name)

    for number in _STOPPING:
        loop.add_signal_handler(number, on_stop, number.name)
    before = {number: signal.signal(number, on_other) for number in _HARMLESS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tell_ignored(name: str) -> None:
    log.info("run.signal_ignored", signal=name)
