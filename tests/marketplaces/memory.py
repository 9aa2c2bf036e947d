"""A token store in memory, shared by the clients of one test. The real one is tested with the database."""

from datetime import timedelta

from daemon import clock
from daemon.core.errors import StoreUnavailable
from daemon.core.types import StoredToken


class MemoryTokens:
    """Holds to the port's words. `is_down` makes every call fail; the counters tell what was asked of it."""

    def __init__(self) -> None:
        self.value: str | None = None
        self.generation = 0
        self.expires_at = 0.0
        self.held_until = 0.0
        self.is_down = False
        self.loads = 0
        self.refreshes = 0
        self.invalidations = 0
        self.retries: list[timedelta] = []

    async def load(self) -> StoredToken | None:
        self._check()
        self.loads += 1
        if self.value is None:
            return None
        remaining = timedelta(seconds=self.expires_at - clock.monotonic())
        return StoredToken(self.value, self.generation, remaining)

    async def begin_refresh(self, seen_generation: int, hold: timedelta) -> bool:
        self._check()
        now = clock.monotonic()
        is_newer = self.value is not None and self.expires_at > now and self.generation > seen_generation
        if now < self.held_until or is_newer:
            return False
        self.held_until = now + hold.total_seconds()
        self.refreshes += 1
        return True

    async def save(self, value: str, valid_for: timedelta) -> StoredToken:
        self._check()
        self.generation += 1
        self.value = value
        self.expires_at = clock.monotonic() + valid_for.total_seconds()
        self.held_until = 0.0
        return StoredToken(value, self.generation, valid_for)

    async def fail_refresh(self, retry_in: timedelta) -> None:
        self._check()
        self.retries.append(retry_in)
        self.held_until = clock.monotonic() + retry_in.total_seconds()

    async def invalidate(self, generation: int) -> None:
        self._check()
        self.invalidations += 1
        if generation == self.generation:
            self.value = None

    def _check(self) -> None:
        if self.is_down:
            raise StoreUnavailable("the database does not answer")
