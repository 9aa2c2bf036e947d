"""One channel's guard: asks an operator once, detects recovery and releases held rows.

Holding is decided where numbers are marked and claimed; nothing here has to run for a held number to stay.
"""

import asyncio
import math
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, Protocol

import structlog

from daemon import clock
from daemon.core.errors import StockrelayError
from daemon.core.guard import GuardRule
from daemon.core.types import ChannelName
from daemon.liveness import Watchdog, unwatched
from daemon.services.loop import Pace, run_loop
from daemon.store.guard import GuardState, Released

log = structlog.get_logger(__name__)

_TIDY_EVERY_S: Final = 60.0
_CALM: Final = 0.1
"""The part of the window for which the number of held rows must not change before recovery is checked."""
_ASK_AFTER_S: Final = 10.0
_BACKOFF_BASE: Final = timedelta(seconds=1)
_BACKOFF_CAP: Final = timedelta(seconds=30)
_LONGEST_LOOK_S: Final = 900.0
"""A check counts and releases, and each of its statements may take two minutes."""
_DUTY: Final = 20.0
"""A slow check is followed by a pause of twenty times its duration."""


class Holds(Protocol):
    """What the database keeps of held numbers; each step is taken once, however many replicas ask for it."""

    async def state(self, channel: ChannelName) -> GuardState: ...

    async def ask(self, channel: ChannelName, command: str) -> dict[str, Any] | None: ...

    async def recover(
        self, channel: ChannelName, rule: GuardRule, last_held: int | None
    ) -> Released | int | None: ...

    async def release_held(self, channel: ChannelName) -> int: ...

    async def disable(self, channel: ChannelName) -> None: ...

    async def take_unlogged_release(self, channel: ChannelName) -> Released | None: ...

    async def tidy(self, channel: ChannelName, rule: GuardRule) -> None: ...


@dataclass(eq=False)
class GuardService:
    """Runs in every replica, one for each channel. The database makes sure that an operator is asked once. `rule` None:
    switched off."""

    guard: Holds
    channel: ChannelName
    rule: GuardRule | None
    every: timedelta
    watchdog: Watchdog = field(default_factory=unwatched)
    # How many are held, since when it is that many, and since when any are.
    _held: int | None = None
    _held_at: float = 0.0
    _since: float | None = None

    _tidy_at: float = -math.inf
    _look_at: float = -math.inf

    async def run(self, stop: asyncio.Event) -> None:
        pace = Pace(self.every.total_seconds(), _LONGEST_LOOK_S, base=_BACKOFF_BASE, cap=_BACKOFF_CAP)
        await run_loop(self._step, stop, self.watchdog, pace, self._on_failure)

    async def _step(self) -> None:
        await self._look()
        if self.rule is not None and clock.monotonic() >= self._tidy_at:
            await self.guard.tidy(self.channel, self.rule)
            self._tidy_at = clock.monotonic() + _TIDY_EVERY_S

    def _on_failure(self, error: StockrelayError) -> None:
        log.warning("guard.check_delayed", channel=self.channel, reason=str(error))

    async def _look(self) -> None:
        began = clock.monotonic()
        if began < self._look_at:
            return
        state = await self.guard.state(self.channel)
        if state.held_since is None:
            self._held = self._since = None
            if state.held:
                await self.guard.release_held(self.channel)
        elif self.rule is None:
            await self.guard.disable(self.channel)
        else:
            await self._follow(state, self.rule, began)
        if not (state.held_since is None and state.released_at is None):
            await self._log_release()
        took_s = clock.monotonic() - began
        if took_s > self.every.total_seconds() / _DUTY:
            self._look_at = began + took_s + _DUTY * took_s

    async def _follow(self, state: GuardState, rule: GuardRule, now: float) -> None:
        channel = self.channel
        self._since = now if self._since is None else self._since
        if state.held != self._held:
            self._held, self._held_at = state.held, now
        is_calm = now - self._held_at >= _CALM * rule.window.total_seconds()
        # Ask once the numbers no longer change, and after ten seconds in any case.
        if state.asked_at is None and (now > self._held_at or now - self._since > _ASK_AFTER_S):
            question = await self.guard.ask(channel, f"stockrelay release {channel}")
            if question is not None:
                log.error("guard.numbers_held", channel=channel, **question)
        if is_calm or not state.held:
            found = await self.guard.recover(channel, rule, self._held)
            if isinstance(found, Released):
                await self.guard.release_held(channel)

    async def _log_release(self) -> None:
        released = await self.guard.take_unlogged_release(self.channel)
        if released is not None:
            log.info("guard.numbers_released", channel=self.channel, numbers=released.numbers, by=released.by)
