"""Reads that several viewers share, so that what they cost does not grow with the number of viewers."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from daemon import clock
from daemon.core.errors import StoreUnavailable

MOST_KEPT: Final = 32
_LONGEST_S: Final = 8.0
"""Less than a connection lives."""

Found = TypeVar("Found")


@dataclass(eq=False)
class _Read(Generic[Found]):
    task: asyncio.Task[Found]
    until: float = float("inf")


@dataclass(eq=False)
class SharedReads(Generic[Found]):
    """The results of reads by key, each for `keep_s` seconds after it ended; failures too. A read that took long is
    kept for `duty` times as long. `now` returns monotonic seconds.
    """

    keep_s: float
    duty: float = 0.0
    now: Callable[[], float] = clock.monotonic
    _reads: dict[Hashable, _Read[Found]] = field(default_factory=dict)

    async def get(self, key: Hashable, read: Callable[[], Awaitable[Found]]) -> Found:
        """Return what `read` returned for this key. Raises what it raised, and StoreUnavailable
        after a timeout or where too many reads are under way."""
        found = self._reads.get(key)
        if found is None or self.now() >= found.until:
            self._make_room()
            found = self._reads[key] = _Read(asyncio.create_task(_limited(read), name="ops-shared-read"))
            found.task.add_done_callback(self._ender(found))
        # A client that disconnects does not end it for the others.
        return await asyncio.shield(found.task)

    async def close(self) -> None:
        """Cancel the reads that are under way."""
        tasks = [one.task for one in self._reads.values()]
        self._reads.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ender(self, read: _Read[Found]) -> Callable[[asyncio.Task[Found]], None]:
        began = self.now()

        def end(task: asyncio.Task[Found]) -> None:
            ended = self.now()
            read.until = ended + max(self.keep_s, self.duty * (ended - began))
            if not task.cancelled():
                # Who waits gets it too. Where nobody does any more, asyncio would log that it was not looked at.
                task.exception()

        return end

    def _make_room(self) -> None:
        """Forget outdated results and, of too many, the oldest. Raises StoreUnavailable where all are awaited."""
        now = self.now()
        self._reads = {key: one for key, one in self._reads.items() if now < one.until}
        ended = (key for key, one in self._reads.items() if one.task.done())
        if len(self._reads) >= MOST_KEPT:
            oldest = next(ended, None)
            if oldest is None:
                raise StoreUnavailable(f"{MOST_KEPT} reads for pages are under way")
            del self._reads[oldest]


async def _limited(read: Callable[[], Awaitable[Found]]) -> Found:
    try:
        async with asyncio.timeout(_LONGEST_S):
            return await read()
    except TimeoutError as error:
        raise StoreUnavailable(f"no answer within {_LONGEST_S:g} s") from error
