"""Requests that bring nothing are acted on at a gap that doubles; after quiet at once."""

import asyncio

import pytest

from daemon import clock
from daemon.services.throttle import RequestThrottle
from tests.unit.virtual_time import in_virtual_time

LONGEST_S = 0.2


class Asked:
    """A throttle that is asked all the time, each action done at once. `times`: when it acted, from the start on."""

    def __init__(self) -> None:
        self._began = clock.monotonic()
        self.times: list[float] = []
        self.throttle = RequestThrottle(lambda: self.times.append(clock.monotonic() - self._began), LONGEST_S)

    async def ask(self, *, is_vain: bool, for_s: float = 0.6) -> None:
        for _ in range(int(for_s / 0.001)):
            before = len(self.times)
            self.throttle.request()
            await asyncio.sleep(0.001)
            if len(self.times) > before:
                self.throttle.done(is_vain=is_vain)


@in_virtual_time
async def test_requests_in_vain_are_acted_on_at_the_longest_gap_in_the_end() -> None:
    asked = Asked()
    await asked.ask(is_vain=True)
    assert asked.times == pytest.approx([0, 0.01, 0.03, 0.07, 0.15, 0.31, 0.51], abs=0.015)


@in_virtual_time
async def test_requests_that_bring_something_are_acted_on_at_once() -> None:
    asked = Asked()
    await asked.ask(is_vain=False)
    assert len(asked.times) == 600


@in_virtual_time
async def test_the_last_request_of_a_gap_is_acted_on_at_its_end() -> None:
    asked = Asked()
    await asked.ask(is_vain=True)
    before = len(asked.times)
    asked.throttle.request()
    await asyncio.sleep(2 * LONGEST_S)
    assert len(asked.times) == before + 1


@in_virtual_time
async def test_after_quiet_a_request_is_acted_on_at_once() -> None:
    asked = Asked()
    await asked.ask(is_vain=True)
    await asyncio.sleep(11 * LONGEST_S)
    before = len(asked.times)
    asked.throttle.request()
    assert len(asked.times) == before + 1
