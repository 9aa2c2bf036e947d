"""What the shops hold: a journal of accepted writes, in the order of application, and the numbers."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Final, NamedTuple

from daemon import clock

Key = str | tuple[str, str]
"""A marketplace's name of a product: one identifier, or two."""


class Entry(NamedTuple):
    """One accepted write.

    `n` rises by one with each write and is never used twice. Times are unix seconds of this machine's clock,
    without the simulated offset. `request` is the number of the request that carried it.
    """

    n: int
    applied_at: float
    received_at: float
    shop: str
    key: Key
    quantity: int
    request: int
    endpoint: str


class Journal:
    """Accepted writes in the order of application. Keeps the newest `limit`; `dropped` counts the rest."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.dropped = 0
        self._entries: list[Entry] = []
        self._last = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)

    @property
    def last(self) -> int:
        """The number of the newest write there ever was; 0 before the first."""
        return self._last

    def append(self, shop: str, key: Key, quantity: int, origin: "Origin") -> None:
        self._last += 1
        applied_at = clock.now().timestamp()
        self._entries.append(
            Entry(
                self._last,
                applied_at,
                origin.received_at,
                shop,
                key,
                quantity,
                origin.request,
                origin.endpoint,
            )
        )
        # Cut in blocks, so that a long run does not move the whole list for every write.
        if len(self._entries) > self.limit + self.limit // 4 + 1_000:
            surplus = len(self._entries) - self.limit
            self.dropped += surplus
            del self._entries[:surplus]

    def since(self, n: int = 0, shop: str | None = None, limit: int | None = None) -> list[Entry]:
        """Writes with a number above `n`, oldest first, at most `limit`."""
        if not self._entries:
            return []
        start = max(0, n + 1 - self._entries[0].n)
        found: list[Entry] = []
        for entry in self._entries[start:]:
            if limit is not None and len(found) >= limit:
                break
            if shop is None or entry.shop == shop:
                found.append(entry)
        return found

    def of(self, shop: str, key: Key) -> list[Entry]:
        """The writes of one product, oldest first."""
        return [entry for entry in self._entries if entry.shop == shop and entry.key == key]

    def drain(self) -> list[Entry]:
        """All that is kept, which is then forgotten; numbers go on rising."""
        entries, self._entries = self._entries, []
        return entries


class Origin(NamedTuple):
    """Where a write came from."""

    request: int
    received_at: float
    endpoint: str


class State:
    """The current number of every product."""

    def __init__(self) -> None:
        self._numbers: defaultdict[str, dict[Key, int]] = defaultdict(dict)
        self.generation = 0
        """Rises whenever a product comes or goes."""

    def quantity(self, shop: str, key: Key) -> int | None:
        """What the shop holds; None when nothing was ever sent."""
        return self._numbers[shop].get(key)

    def of(self, shop: str) -> dict[Key, int]:
        """All numbers of one shop, in the order in which the products were first seen. A copy."""
        return dict(self._numbers[shop])

    def count(self, shop: str) -> int:
        return len(self._numbers[shop])

    def put(self, shop: str, key: Key, quantity: int) -> None:
        """Sets a number without a journal entry: what somebody does in the marketplace's back office."""
        numbers = self._numbers[shop]
        if key not in numbers:
            self.generation += 1
        numbers[key] = quantity

    def remove(self, shop: str, key: Key) -> None:
        """Takes a product out, as somebody in the back office would; one that is not held is no matter."""
        if self._numbers[shop].pop(key, None) is not None:
            self.generation += 1

    def clear(self) -> None:
        self.generation += 1
        for numbers in self._numbers.values():
            numbers.clear()


class ShopData:
    """Journal and state, written together."""

    def __init__(self, journal_limit: int) -> None:
        self.journal: Final = Journal(journal_limit)
        self.state: Final = State()

    def write(self, shop: str, key: Key, quantity: int, origin: Origin) -> None:
        self.journal.append(shop, key, quantity, origin)
        self.state.put(shop, key, quantity)


class ChangeSignal:
    """Lets tests wait for what happens instead of sleeping. Ringing costs nothing while nobody waits."""

    def __init__(self) -> None:
        self._waiting: dict[asyncio.Future[None], Callable[[], bool]] = {}
        self._is_scheduled = False

    def notify(self) -> None:
        """Something happened: conditions are looked at once, soon."""
        if self._waiting and not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        self._is_scheduled = False
        for future, condition in list(self._waiting.items()):
            if future.done():
                continue
            try:
                if condition():
                    future.set_result(None)
            except Exception as error:  # noqa: BLE001 - belongs to the one who waits, not to the request that rang
                future.set_exception(error)

    async def wait_until(self, condition: Callable[[], bool], timeout: timedelta) -> None:
        """Returns once `condition()` is true; it is looked at after every event. Raises TimeoutError."""
        if condition():
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[future] = condition
        try:
            await asyncio.wait_for(future, timeout.total_seconds())
        finally:
            del self._waiting[future]
