"""Notifications that bring nothing are followed at a gap that doubles; after quiet at once."""

import asyncio
import time

import pytest

from daemon import clock
from daemon.services.heeding import Heeding

LONGEST_S = 0.2
LASTS_S = 0.6


async def _bothered(*, is_vain: bool) -> tuple[Heeding, list[float]]:
    """Send notifications all the time, each follow-up done at once; return when they were followed."""
    times: list[float] = []
    heeded = Heeding(lambda: times.append(time.monotonic()), LONGEST_S)
    began = time.monotonic()
    while time.monotonic() - began < LASTS_S:
        before = len(times)
        heeded.hear()
        await asyncio.sleep(0.001)
        if len(times) > before:
            heeded.followed(is_vain=is_vain)
    return heeded, times


async def test_notifications_in_vain_are_followed_at_the_longest_gap_in_the_end() -> None:
    _, times = await _bothered(is_vain=True)
    # At once, after 10, 20, 40, 80, 160 ms, and every 200 ms from then on.
    assert 2 <= len(times) <= 8


async def test_notifications_that_bring_something_are_followed_at_once() -> None:
    _, times = await _bothered(is_vain=False)
    assert len(times) > 20


async def test_the_last_notification_of_a_gap_is_followed_at_its_end_at_the_latest() -> None:
    heeded, times = await _bothered(is_vain=True)
    before = len(times)
    heeded.hear()
    await asyncio.sleep(2 * LONGEST_S)
    assert len(times) == before + 1


async def test_after_quiet_a_notification_is_followed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    heeded, times = await _bothered(is_vain=True)
    later = time.monotonic() + 11 * LONGEST_S
    monkeypatch.setattr(clock, "monotonic", lambda: later)
    before = len(times)
    heeded.hear()
    assert len(times) == before + 1
