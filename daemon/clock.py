"""The only place that reads a clock or chance, so that everything else takes them as arguments."""

import asyncio
import random
import time
from datetime import UTC, datetime


def monotonic() -> float:
    """Seconds of a clock that never goes back; for deadlines only."""
    return time.monotonic()


def now() -> datetime:
    """This machine's time, aware, UTC. The database's `clock_timestamp()` decides everything that is stored."""
    return datetime.now(UTC)


def jitter() -> float:
    """A number in [0, 1) for spreading retries."""
    return random.random()  # noqa: S311 - spreads load, protects nothing


async def wait_any(timeout_s: float | None, *events: asyncio.Event) -> bool:
    """Wait until one of the events is set, at most `timeout_s` seconds; say whether one is."""
    if any(event.is_set() for event in events):
        return True
    if timeout_s is not None and timeout_s <= 0:
        return False
    if len(events) == 1:
        try:
            await asyncio.wait_for(events[0].wait(), timeout_s)
        except TimeoutError:
            return events[0].is_set()
        return True
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
    return any(event.is_set() for event in events)
