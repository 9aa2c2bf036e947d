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


class Signal(asyncio.Event):
    """An event that `wait_any` waits for without a task: on a change's way, tasks cost as much as a database query."""

    def __init__(self) -> None:
        super().__init__()
        self._followers: set[asyncio.Future[None]] = set()

    def set(self) -> None:
        super().set()
        for follower in self._followers:
            _wake(follower)

    def follow(self, follower: asyncio.Future[None]) -> None:
        """Have `follower` done when the event is set."""
        self._followers.add(follower)

    def unfollow(self, follower: asyncio.Future[None]) -> None:
        self._followers.discard(follower)


async def wait_any(timeout_s: float | None, *events: asyncio.Event) -> bool:
    """Wait until one of the events is set, at most `timeout_s` seconds; say whether one is."""
    if any(event.is_set() for event in events):
        return True
    if timeout_s is not None and timeout_s <= 0:
        return False
    loop = asyncio.get_running_loop()
    woken: asyncio.Future[None] = loop.create_future()
    timer = None if timeout_s is None else loop.call_later(timeout_s, _wake, woken)
    signals = [event for event in events if isinstance(event, Signal)]
    tasks = [loop.create_task(event.wait()) for event in events if not isinstance(event, Signal)]
    for signal in signals:
        signal.follow(woken)
    for task in tasks:
        task.add_done_callback(lambda _task: _wake(woken))
    try:
        await woken
    finally:
        for signal in signals:
            signal.unfollow(woken)
        for task in tasks:
            task.cancel()
        if timer is not None:
            timer.cancel()
    return any(event.is_set() for event in events)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
