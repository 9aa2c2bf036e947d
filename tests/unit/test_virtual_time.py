"""Virtual time passes at once and in order; what can never happen fails the test."""

import asyncio
import time

import pytest
import structlog

from daemon import clock
from tests.unit.signals import Signals, log_signals
from tests.unit.virtual_time import START, Stuck, in_virtual_time


@in_virtual_time
async def test_hours_pass_at_once_and_every_clock_agrees() -> None:
    real, virtual = time.monotonic(), clock.monotonic()
    await asyncio.sleep(7200)
    assert clock.monotonic() - virtual == pytest.approx(7200)
    assert (clock.now() - START).total_seconds() == pytest.approx(7200)
    assert time.monotonic() - real < 5


@in_virtual_time
async def test_timers_fire_in_the_order_of_their_times() -> None:
    fired: list[str] = []
    loop = asyncio.get_running_loop()
    loop.call_later(3, fired.append, "third")
    loop.call_later(1, fired.append, "first")
    loop.call_later(2, fired.append, "second")
    await asyncio.sleep(2.5)
    assert fired == ["first", "second"]


@in_virtual_time
async def test_a_wait_for_an_event_ends_at_its_time_limit() -> None:
    assert not await clock.wait_any(600, clock.Signal(), asyncio.Event())


def test_waiting_for_what_never_comes_fails() -> None:
    @in_virtual_time
    async def waits() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Stuck):
        waits()


@in_virtual_time
async def test_a_signal_is_waited_for_and_each_is_returned_once() -> None:
    signals = Signals()
    asyncio.get_running_loop().call_later(60, lambda: signals.note("drained", changes=2))
    signals.note("drained", changes=1)
    assert [await signals.next("drained"), await signals.next("drained")] == [{"changes": 1}, {"changes": 2}]


@in_virtual_time
async def test_a_line_of_the_log_is_a_signal() -> None:
    with log_signals() as lines:
        structlog.get_logger().warning("intake.listing_locked", channel="sekorm")
        assert await lines.next("intake.listing_locked") == {"log_level": "warning", "channel": "sekorm"}
