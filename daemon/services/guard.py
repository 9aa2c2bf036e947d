"""The guard's voice: asks the person once, sees when the numbers are back, lets go what was released.

Holding is decided where numbers are marked and claimed; nothing here has to run for a held number to stay.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import structlog

from daemon import clock
from daemon.core.backoff import backoff
from daemon.core.errors import StockrelayError
from daemon.core.guard import GuardRule
from daemon.core.types import ChannelName
from daemon.progress import Pulse, unwatched
from daemon.store.guard import Guard, GuardState, Released

log = structlog.get_logger(__name__)

_TIDY_EVERY_S: Final = 60.0
_CALM: Final = 0.1
"""The part of the window for which the number of held ones must have stood still before it counts as recovered."""
_ASK_AFTER_S: Final = 10.0
_LONGEST_REST: Final = timedelta(seconds=30)
_LONGEST_LOOK_S: Final = 900.0
"""A look at a channel counts and lets go, and each of its statements may take two minutes."""
_DUTY: Final = 20.0
"""A look that takes long is followed by a pause of so many times as long."""


@dataclass(slots=True)
class _Watch:
    """What this replica knows of one channel: how many are held, since when it is that many, when to look again."""

    held: int | None = None
    held_at: float = 0.0
    since: float | None = None
    look_at: float = 0.0


class GuardService:
    """Runs in every replica; the database sees to it that a person is asked once. `rule` None: switched off."""

    def __init__(
        self,
        guard: Guard,
        channels: Sequence[ChannelName],
        rule: GuardRule | None,
        every: timedelta,
        pulse: Pulse | None = None,
    ) -> None:
        self._guard = guard
        self._rule = rule
        self._every_s = every.total_seconds()
        self._pulse = pulse or unwatched()
        self._watches: Mapping[ChannelName, _Watch] = {channel: _Watch() for channel in channels}
        self._tidy_at = clock.monotonic()

    async def run(self, stop: asyncio.Event) -> None:
        """Look every so often until told to stop."""
        failures = 0
        with self._pulse:
            while not stop.is_set():
                failures = 0 if await self._look_at_all() else failures + 1
                rest = backoff(failures, timedelta(seconds=1), _LONGEST_REST, clock.jitter())
                pause_s = self._every_s + rest.total_seconds()
                self._pulse.beat(pause_s)
                await clock.wait_any(pause_s, stop)

    async def _look_at_all(self) -> bool:
        """Look at every channel; say whether the database answered each time."""
        is_answered = True
        for channel, watch in self._watches.items():
            self._pulse.beat(_LONGEST_LOOK_S)
            try:
                await self._look(channel, watch)
            except StockrelayError as error:
                is_answered = False
                log.warning("guard.look_delayed", channel=channel, reason=str(error))
        self._pulse.beat(_LONGEST_LOOK_S)
        try:
            await self._tidy()
        except StockrelayError as error:
            is_answered = False
            log.warning("guard.look_delayed", reason=str(error))
        return is_answered

    async def _tidy(self) -> None:
        if self._rule is not None and clock.monotonic() >= self._tidy_at:
            for channel in self._watches:
                await self._guard.tidy(channel, self._rule)
            self._tidy_at = clock.monotonic() + _TIDY_EVERY_S

    async def _look(self, channel: ChannelName, watch: _Watch) -> None:
        began = clock.monotonic()
        if began < watch.look_at:
            return
        state = await self._guard.state(channel)
        if state.held_since is None:
            watch.held = watch.since = None
            if state.held:
                await self._guard.let_go(channel)
        elif self._rule is None:
            await self._guard.disable(channel)
        else:
            await self._follow(channel, watch, state, self._rule, began)
        if not (state.held_since is None and state.released_at is None):
            await self._tell(channel)
        now = clock.monotonic()
        watch.look_at = now + _DUTY * (now - began) if now - began > self._every_s / _DUTY else now

    async def _follow(
        self, channel: ChannelName, watch: _Watch, state: GuardState, rule: GuardRule, now: float
    ) -> None:
        watch.since = now if watch.since is None else watch.since
        if state.held != watch.held:
            watch.held, watch.held_at = state.held, now
        is_calm = now - watch.held_at >= _CALM * rule.window.total_seconds()
        # Asked with numbers that stand still, or soon anyway.
        if state.asked_at is None and (now > watch.held_at or now - watch.since > _ASK_AFTER_S):
            question = await self._guard.ask(channel, f"stockrelay release {channel}")
            if question is not None:
                log.error("guard.numbers_held", channel=channel, **question.data)
        if is_calm or not state.held:
            found = await self._guard.recover(channel, rule, watch.held)
            if isinstance(found, Released):
                await self._guard.let_go(channel)

    async def _tell(self, channel: ChannelName) -> None:
        news = await self._guard.take_news(channel)
        if news is not None:
            log.info("guard.numbers_released", channel=channel, numbers=news.numbers, by=news.by)
