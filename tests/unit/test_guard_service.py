"""One channel's guard beside scripted holds: when it asks, recovers, releases and rests."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from daemon import clock
from daemon.core.errors import StoreUnavailable
from daemon.core.guard import GuardRule
from daemon.core.types import ChannelName
from daemon.services.guard import GuardService
from daemon.store.guard import GuardState, Released
from tests.channels import SEKORM
from tests.unit.signals import Signals, log_signals
from tests.unit.virtual_time import START, in_virtual_time

RULE = GuardRule(0.5, 10, 0.5, timedelta(seconds=100), 10.0, 0.5, 0.5, timedelta(hours=1))
EVERY = timedelta(seconds=1)
QUIET = GuardState(SEKORM)


def _holding(held: int, *, was_asked: bool = False) -> GuardState:
    return GuardState(SEKORM, held=held, held_since=START, asked_at=START if was_asked else None)


class Holds:
    """What the database keeps of one channel's held numbers. A test sets the state; each call is noted."""

    def __init__(self, state: GuardState) -> None:
        self.now = state
        self.signals = Signals()
        self.is_down = False
        self.takes_s = 0.0
        self.question: dict[str, Any] | None = {"held": 5}
        self.recovery: Released | int | None = 5
        self.news: Released | None = None

    async def state(self, channel: ChannelName) -> GuardState:
        self.signals.note("state", channel=channel, at=clock.monotonic())
        await asyncio.sleep(self.takes_s)
        if self.is_down:
            raise StoreUnavailable("the database does not answer")
        return self.now

    async def ask(self, channel: ChannelName, command: str) -> dict[str, Any] | None:
        self.signals.note("ask", channel=channel, at=clock.monotonic(), command=command)
        question, self.question = self.question, None
        return question

    async def recover(
        self, channel: ChannelName, rule: GuardRule, last_held: int | None
    ) -> Released | int | None:
        self.signals.note("recover", channel=channel, at=clock.monotonic(), last_held=last_held, rule=rule)
        return self.recovery

    async def release_held(self, channel: ChannelName) -> int:
        self.signals.note("release_held", channel=channel)
        return 0

    async def disable(self, channel: ChannelName) -> None:
        self.signals.note("disable", channel=channel)

    async def take_unlogged_release(self, channel: ChannelName) -> Released | None:
        self.signals.note("take_unlogged_release", channel=channel)
        news, self.news = self.news, None
        return news

    async def tidy(self, channel: ChannelName, rule: GuardRule) -> None:
        self.signals.note("tidy", channel=channel, rule=rule, at=clock.monotonic())


@asynccontextmanager
async def guarding(
    state: GuardState, rule: GuardRule | None = RULE, *, takes_s: float = 0.0
) -> AsyncIterator[tuple[Holds, Signals]]:
    with log_signals() as logged:
        holds, stop = Holds(state), clock.Signal()
        holds.takes_s = takes_s
        running = asyncio.create_task(GuardService(holds, SEKORM, rule, EVERY).run(stop))
        try:
            yield holds, logged
        finally:
            stop.set()
            await running


@in_virtual_time
async def test_an_operator_is_asked_once_when_the_held_numbers_stand_still() -> None:
    async with guarding(_holding(5)) as (holds, logged):
        line = await logged.next("guard.numbers_held")
        assert line == {"log_level": "error", "channel": SEKORM, "held": 5}
        assert holds.signals.count("state") == 2, "one look does not show that they stand still"
        holds.now = _holding(5, was_asked=True)
        await asyncio.sleep(60)
        assert logged.count("guard.numbers_held") == 1
        assert holds.signals.all("ask")[0]["command"] == "stockrelay release sekorm"


@in_virtual_time
async def test_an_operator_is_asked_after_ten_seconds_although_more_is_held_all_the_time() -> None:
    began = clock.monotonic()
    async with guarding(_holding(1)) as (holds, _):
        for held in range(2, 100):
            holds.now = _holding(held)
            await asyncio.sleep(0.4)
            if holds.signals.count("ask"):
                break
        assert 10 < holds.signals.all("ask")[0]["at"] - began < 13


@in_virtual_time
async def test_recovery_is_looked_for_when_the_number_of_held_ones_has_stood_still_for_a_tenth_of_the_window() -> (
    None
):
    began = clock.monotonic()
    async with guarding(_holding(5, was_asked=True)) as (holds, _):
        first = await holds.signals.next("recover")
        assert first["at"] - began == 10.0
        assert first["last_held"] == 5


@in_virtual_time
async def test_when_all_is_right_again_the_rest_is_released() -> None:
    async with guarding(_holding(5, was_asked=True)) as (holds, logged):
        holds.recovery, holds.news = Released(5, "recovery"), Released(5, "recovery")
        await holds.signals.next("release_held")
        line = await logged.next("guard.numbers_released")
    assert line == {"log_level": "info", "channel": SEKORM, "numbers": 5, "by": "recovery"}


@in_virtual_time
async def test_what_is_marked_as_held_after_a_release_is_released_too() -> None:
    async with guarding(GuardState(SEKORM, held=3)) as (holds, _):
        await holds.signals.next("release_held")
        assert holds.signals.count("ask") == 0


@in_virtual_time
async def test_a_guard_that_is_switched_off_holds_nothing_and_counts_nothing() -> None:
    async with guarding(_holding(5), None) as (holds, _):
        await holds.signals.next("disable")
        await asyncio.sleep(600)
        assert holds.signals.count("tidy") == holds.signals.count("ask") == 0


@in_virtual_time
async def test_it_tidies_once_a_minute() -> None:
    began = clock.monotonic()
    async with guarding(QUIET) as (holds, _):
        at = [(await holds.signals.next("tidy"))["at"] - began for _ in range(3)]
    assert at == [0, 60, 120]


@in_virtual_time
async def test_a_look_that_takes_long_is_followed_by_a_pause_of_twenty_times_as_long() -> None:
    async with guarding(QUIET, takes_s=2.0) as (holds, _):
        first, second = [(await holds.signals.next("state"))["at"] for _ in range(2)]
    assert 42 <= second - first <= 43


@in_virtual_time
async def test_a_database_that_is_away_is_asked_ever_more_seldom_until_it_is_back() -> None:
    async with guarding(QUIET) as (holds, logged):
        holds.is_down = True
        await logged.next("guard.check_delayed")
        await asyncio.sleep(300)
        asked = [fields["at"] for fields in holds.signals.all("state")]
        assert asked[-1] - asked[-2] == 15.0
        holds.is_down = False
        await holds.signals.next("tidy")
        await asyncio.sleep(10)
        asked = [fields["at"] for fields in holds.signals.all("state")]
        assert asked[-1] - asked[-2] == 1.0
