"""Waiting for the first of several events, signals and plain ones."""

import asyncio

import pytest

from daemon import clock

KINDS = [clock.Signal, asyncio.Event]


@pytest.mark.parametrize("first", KINDS)
@pytest.mark.parametrize("second", KINDS)
async def test_any_of_them_ends_the_wait(first: type[asyncio.Event], second: type[asyncio.Event]) -> None:
    events = [first(), second()]
    for event in events:
        waiting = asyncio.create_task(clock.wait_any(None, *events))
        await asyncio.sleep(0)
        assert not waiting.done()
        event.set()
        assert await waiting
        event.clear()


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_set_already_is_not_waited_for(kind: type[asyncio.Event]) -> None:
    event = kind()
    event.set()
    assert await clock.wait_any(None, clock.Signal(), event)
    assert await clock.wait_any(0, event)


@pytest.mark.parametrize("kind", KINDS)
async def test_the_time_limit_ends_the_wait(kind: type[asyncio.Event]) -> None:
    assert not await clock.wait_any(0.01, kind(), kind())
    assert not await clock.wait_any(0, kind())


async def test_what_was_set_and_cleared_again_ends_the_wait_and_is_not_said() -> None:
    signal = clock.Signal()
    waiting = asyncio.create_task(clock.wait_any(5, signal))
    await asyncio.sleep(0)
    signal.set()
    signal.clear()
    assert not await waiting


async def test_a_wait_leaves_nothing_behind_however_it_ends() -> None:
    signal, plain = clock.Signal(), asyncio.Event()
    before = asyncio.all_tasks()
    cancelled = asyncio.create_task(clock.wait_any(5, signal, plain))
    await asyncio.sleep(0)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    await clock.wait_any(0.01, signal, plain)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
    signal.set()
    await asyncio.sleep(0)
    assert await signal.wait(), "it is an event for anybody else"


async def test_many_wait_for_one() -> None:
    signal = clock.Signal()
    waits = [asyncio.create_task(clock.wait_any(5, signal, clock.Signal())) for _ in range(5)]
    waits.append(asyncio.create_task(signal.wait()))
    await asyncio.sleep(0)
    signal.set()
    assert all(await asyncio.gather(*waits))
