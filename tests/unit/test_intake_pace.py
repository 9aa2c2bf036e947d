"""Strangers who ring, or ask for comparisons, in a loop cost the database no more than polling does."""

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta
from typing import cast

import pytest

from daemon.core.errors import StoreUnavailable
from daemon.core.types import SEKORM
from daemon.services import intake
from daemon.services.intake import Intakes, IntakeService
from daemon.store.changelog import ChangeLog
from daemon.store.intake import Drained, Intake

POLL = timedelta(milliseconds=50)
LASTS_S = 0.6


class Reading:
    """A change log in which there is nothing, and whoever reads it is counted."""

    channel = SEKORM

    def __init__(self) -> None:
        self.looks = 0
        self.comparisons = 0

    async def drain(self, **_: object) -> Drained:
        self.looks += 1
        return Drained()

    async def resync(self, **_: object) -> Drained:
        self.comparisons += 1
        return Drained(is_read=True, is_compared=True)


async def _bothered(bother: Callable[[IntakeService], None]) -> tuple[Reading, float]:
    """Run an intake that is bothered all the time; return what it read, and for how long it ran."""
    reading = Reading()
    service = IntakeService(
        cast("Intake", reading),
        cast("ChangeLog", None),
        POLL,
        timedelta(hours=1),
        lambda _drained: None,
        lambda: True,
    )
    stop = asyncio.Event()
    running = asyncio.create_task(service.run(stop))
    began = time.monotonic()
    while time.monotonic() - began < LASTS_S:
        bother(service)
        await asyncio.sleep(0.001)
    took_s = time.monotonic() - began
    stop.set()
    await running
    return reading, took_s


async def test_bells_without_changes_are_followed_at_the_pace_of_polling() -> None:
    reading, took_s = await _bothered(lambda service: service.ring())
    # The first few are followed at once: whose they are is not known.
    assert reading.looks <= took_s / POLL.total_seconds() + 5


async def test_comparisons_that_are_asked_for_in_a_loop_are_made_a_second_apart() -> None:
    reading, took_s = await _bothered(lambda service: service.request_resync("a capture could not write"))
    assert reading.comparisons <= took_s / 1.0 + 1


async def test_comparisons_that_notifications_ask_for_in_vain_are_made_ever_further_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(intake, "_COMPARISON_GAP_S", 0.01)
    reading, _ = await _bothered(lambda service: service.heeding.hear())
    # That at the start, at once, and after 10, 20, 40, 80, 160, 320 ms.
    assert reading.comparisons <= 9


class Unreadable(Reading):
    """A change log that can never be read."""

    def __init__(self) -> None:
        super().__init__()
        self.has_been_asked = asyncio.Event()

    async def drain(self, **_: object) -> Drained:
        self.has_been_asked.set()
        raise StoreUnavailable("the listing's table is locked")


async def test_a_channel_that_has_never_read_counts_from_when_it_began() -> None:
    unreadable = Unreadable()
    service = IntakeService(
        cast("Intake", unreadable),
        cast("ChangeLog", None),
        POLL,
        timedelta(hours=1),
        lambda _drained: None,
        lambda: True,
    )
    stop, began = asyncio.Event(), time.time()
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        group.create_task(service.run(stop))
        await unreadable.has_been_asked.wait()
        stop.set()
    read_at = Intakes({SEKORM: service}).read_at
    assert read_at is not None
    assert began <= read_at <= time.time()
