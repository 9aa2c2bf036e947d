"""Handles signals: SIGTERM and SIGINT stop the daemon in order, SIGHUP reloads the configuration, and neither SIGUSR1
nor SIGUSR2 ends it."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

import structlog

log = structlog.get_logger(__name__)

_STOPPING: Final = (signal.SIGTERM, signal.SIGINT)
_HARMLESS: Final = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


@contextmanager
def handling_signals(stop: asyncio.Event, reload: Callable[[], None]) -> Iterator[None]:
    """Set `stop` on SIGTERM and SIGINT, `reload` on SIGHUP, and say which other signal had no effect."""
    loop = asyncio.get_running_loop()

    def on_stop(name: str) -> None:
        log.info("run.stop_requested", signal=name)
        stop.set()

    def on_other(number: int) -> None:
        if number == signal.SIGHUP and not stop.is_set():
            reload()
        else:
            log.info("run.signal_ignored", signal=signal.Signals(number).name)

    def pass_on(number: int, _frame: FrameType | None) -> None:
        # Not the loop's own handlers: when the loop is closed, it restores what ends the process.
        loop.call_soon_threadsafe(on_other, number)

    for number in _STOPPING:
        loop.add_signal_handler(number, on_stop, number.name)
    before = {number: signal.signal(number, pass_on) for number in _HARMLESS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
