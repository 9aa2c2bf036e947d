"""Virtual time: a test of a service waits for hours in no time, and fails at once where nothing can happen any more.

    @in_virtual_time
    async def test_a_failed_look_is_repeated_after_a_pause() -> None:
        ...
        await asyncio.sleep(3600)  # takes no time; everything that is due before then runs in order

The loop runs whatever is ready. When nothing is, it moves its clock to the next timer. `clock.monotonic()` and
`clock.now()` follow it, and `clock.jitter()` is 0.
"""

import asyncio
import functools
import selectors
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Final, ParamSpec

import pytest

from daemon import clock

P = ParamSpec("P")

START: Final = datetime(2026, 11, 28, 0, 0, tzinfo=UTC)
"""`clock.now()` when a test begins."""
_START_S: Final = 1000.0
_LIMIT_S: Final = timedelta(days=2).total_seconds()


class Stuck(Exception):
    """Nothing is ready and no timer is set, or two days have passed: what the test waits for never comes."""


class _JumpingSelector(selectors.DefaultSelector):
    """Moves the clock instead of waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.now = _START_S
        self.has_io = True
        """Whether anything outside the loop is looked for; threads wake it so."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0) if self.has_io else []
        if ready:
            return ready
        if timeout is None or self.now - _START_S > _LIMIT_S:
            raise Stuck(f"after {self.now - _START_S:.1f} s")
        self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """Jumps to the next timer when nothing is ready."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


def follow(
    patch: pytest.MonkeyPatch, loop: asyncio.AbstractEventLoop, jitter: Callable[[], float] = lambda: 0.0
) -> None:
    """Have every clock of the daemon follow this loop's time."""
    patch.setattr(clock, "monotonic", loop.time)
    patch.setattr(clock, "now", lambda: START + timedelta(seconds=loop.time() - _START_S))
    patch.setattr(clock, "jitter", jitter)


def in_virtual_time(test: Callable[P, Awaitable[None]]) -> Callable[P, None]:
    """Run the test on a loop with virtual time."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        async def body() -> None:
            await test(*args, **kwargs)

        with pytest.MonkeyPatch.context() as patch, asyncio.Runner(loop_factory=VirtualLoop) as runner:
            loop = runner.get_loop()
            follow(patch, loop)
            runner.run(body())

    return run


async def settle() -> None:
    """Let everything run that is ready now."""
    await asyncio.sleep(1e-6)
