"""Reads that viewers of the page share: one for all of them, bounded, and each failure for all who waited."""

import asyncio
from dataclasses import dataclass, field

import pytest

from daemon.core.errors import StoreUnavailable
from daemon.ops.shared_reads import MOST_KEPT, SharedReads


@dataclass
class Source:
    """Counts how often it is read, and lasts as long as `gate` is closed."""

    reads: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    fails: bool = False

    async def read(self) -> int:
        self.reads += 1
        await self.gate.wait()
        if self.fails:
            raise StoreUnavailable("away")
        return self.reads


async def test_all_who_ask_meanwhile_and_soon_after_share_one_read() -> None:
    time, source = [0.0], Source()
    shared: SharedReads[int] = SharedReads(2.0, now=lambda: time[0])
    asking = [asyncio.create_task(shared.get("a", source.read)) for _ in range(10)]
    await asyncio.sleep(0)
    asking[0].cancel()
    source.gate.set()
    results = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert results[1:] == [1] * 9
    time[0] = 1.9
    assert await shared.get("a", source.read) == 1
    time[0] = 2.0
    assert await shared.get("a", source.read) == 2


async def test_a_failure_is_shared_and_kept_and_a_slow_read_is_kept_longer() -> None:
    time, source = [0.0], Source(fails=True)
    shared: SharedReads[int] = SharedReads(2.0, duty=20.0, now=lambda: time[0])
    asking = asyncio.create_task(shared.get("a", source.read))
    await asyncio.sleep(0)
    time[0] = 1.0
    source.gate.set()
    with pytest.raises(StoreUnavailable):
        await asking
    time[0] = 20.9
    with pytest.raises(StoreUnavailable):
        await shared.get("a", source.read)
    assert source.reads == 1
    time[0], source.fails = 21.0, False
    assert await shared.get("a", source.read) == 2


async def test_neither_results_nor_reads_under_way_grow_without_bound() -> None:
    source = Source()
    source.gate.set()
    shared: SharedReads[int] = SharedReads(1e9)
    for key in range(3 * MOST_KEPT):
        await shared.get(key, source.read)
    assert await shared.get(3 * MOST_KEPT - 1, source.read) == 3 * MOST_KEPT, "the newest are kept"
    source.gate.clear()
    waiting = [asyncio.create_task(shared.get(-key, source.read)) for key in range(1, MOST_KEPT + 1)]
    await asyncio.sleep(0)
    with pytest.raises(StoreUnavailable, match="under way"):
        await shared.get("one more", source.read)
    await shared.close()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(one, asyncio.CancelledError) for one in results)
