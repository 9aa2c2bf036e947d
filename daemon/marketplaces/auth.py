"""A token that is fetched seldom and shared by tasks, replicas and restarts."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final, Protocol

import structlog

from daemon import clock
from daemon.core.backoff import backoff
from daemon.core.errors import StockrelayError
from daemon.core.outcome import Kind, Outcome, Trouble
from daemon.core.types import ChannelName, StoredToken
from daemon.marketplaces.transport import not_sent

log = structlog.get_logger(__name__)

AHEAD: Final = timedelta(seconds=60)
AHEAD_SHARE: Final = 0.1
"""A token is renewed when less than 60 s of it are left, a short one when less than a tenth is: never so
early that it costs more than one call per validity period."""
LONGEST_LIFE: Final = timedelta(hours=24)
"""A longer validity is not believed."""

_RETRY_BASE: Final = timedelta(seconds=1)
_RETRY_CAP: Final = timedelta(seconds=60)
_SLOW_BASE: Final = timedelta(seconds=30)
_SLOW_CAP: Final = timedelta(minutes=5)
_SHARED_CAP: Final = timedelta(seconds=5)
_POLL_S: Final = 0.2
_MARGIN: Final = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class Grant:
    """What the marketplace gave: a token and how long it is valid from now."""

    value: str = field(repr=False)
    valid_for: timedelta


class TokenStore(Protocol):
    """Where the token outlives the process. The database's clock rules, so that only durations cross.

    Every method may raise StockrelayError.
    """

    async def load(self) -> StoredToken | None:
        """The token, or None when there is none, or none that is valid."""
        ...

    async def begin_refresh(self, seen_generation: int, hold: timedelta) -> bool:
        """Begin a refresh, one at a time over all replicas. False: another process is refreshing, a refresh has just
        failed, or the token is newer already.

        A token that was dropped or has expired never counts as newer.
        """
        ...

    async def save(self, value: str, valid_for: timedelta) -> StoredToken:
        """Keep a new token, generation + 1; ends the refresh."""
        ...

    async def fail_refresh(self, retry_in: timedelta) -> None:
        """End the refresh; no task tries before `retry_in` has passed."""
        ...

    async def invalidate(self, generation: int) -> None:
        """Drop the token, but only if it is still that one."""
        ...


class TokenSource:
    """The token of one channel in memory, kept fresh.

    `fetch` asks the marketplace for a token within the given seconds. An outcome that it returns instead is the
    outcome of all pushes until the next try.
    """

    def __init__(
        self,
        channel: ChannelName,
        store: TokenStore,
        fetch: Callable[[float], Awaitable[Grant | Outcome]],
        fetch_timeout: timedelta,
    ) -> None:
        self._channel = channel
        self._store = store
        self._fetch = fetch
        self._fetch_timeout = fetch_timeout
        self._token: StoredToken | None = None
        self._dropped = 0
        """The newest generation that the marketplace no longer takes."""
        self._refresh_at = 0.0
        self._expires_at = 0.0
        self._failure: Outcome | None = None
        self._failures = 0
        self._retry_at = 0.0
        self._task: asyncio.Task[StoredToken | Outcome] | None = None

    def current(self) -> StoredToken | None:
        """The token in memory, if it is valid. Starts to renew it before it expires, but does not wait."""
        now = clock.monotonic()
        if self._token is None or now >= self._expires_at:
            return None
        if now >= self._refresh_at and now >= self._retry_at:
            self._start()
        return self._token

    @property
    def held(self) -> str:
        """The token in memory, valid or not, or an empty text: for masking."""
        return self._token.value if self._token is not None else ""

    @property
    def remaining_s(self) -> float | None:
        """For how many seconds the token in memory is still valid; None without one."""
        if self._token is None:
            return None
        return max(0.0, self._expires_at - clock.monotonic())

    async def obtain(self, deadline: float) -> StoredToken | Outcome:
        """The token, waiting for it until `deadline` (monotonic) if necessary; or why there is none."""
        token = self.current()
        if token is not None:
            return token
        now = clock.monotonic()
        if self._failure is not None and now < self._retry_at:
            return replace(self._failure, retry_after=timedelta(seconds=self._retry_at - now))
        return await self._wait(self._start(), deadline)

    async def renew(self, deadline: float) -> StoredToken | Outcome:
        """A new token from the marketplace, even if the store holds one: it proves the credential."""
        return await self._wait(self._start(is_renewal=True), deadline)

    async def invalidate(self, generation: int) -> None:
        """Drop the token of this generation, which the marketplace refused. Callers may repeat this."""
        if self._token is None or self._token.generation != generation:
            return
        self._token = None
        self._dropped = generation
        log.info("marketplace.token_dropped", channel=self._channel, generation=generation)
        try:
            await self._store.invalidate(generation)
        except StockrelayError as error:
            # It is not used again here; another process that does will drop it itself.
            log.warning("marketplace.token_store_failed", channel=self._channel, error=str(error))

    async def close(self) -> None:
        """Give up a refresh under way; its hold in the store ends by itself."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    def _start(self, *, is_renewal: bool = False) -> asyncio.Task[StoredToken | Outcome]:
        """The one refresh of this process. It is a task of its own, because any of its waiters may be cancelled."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._refresh(is_renewal), name=f"{self._channel}-token")
        return self._task

    async def _wait(
        self, task: asyncio.Task[StoredToken | Outcome], deadline: float
    ) -> StoredToken | Outcome:
        await asyncio.wait({task}, timeout=max(0.0, deadline - clock.monotonic()))
        if not task.done():
            return not_sent("no token in time")
        if task.cancelled():
            return not_sent("the channel is being stopped")
        return task.result()

    async def _refresh(self, is_renewal: bool) -> StoredToken | Outcome:
        try:
            return await self._adopt_or_fetch(is_renewal)
        except StockrelayError as error:
            return self._failed(not_sent(f"no token: its store failed: {error}"))

    async def _adopt_or_fetch(self, is_renewal: bool) -> StoredToken | Outcome:
        hold = self._fetch_timeout + _MARGIN
        # Longer than a hold: when the one who holds it died, this one takes over.
        give_up_at = clock.monotonic() + (hold + _MARGIN).total_seconds()
        stored = await self._store.load()
        known = self._token.generation if self._token is not None else self._dropped
        if is_renewal and stored is not None:
            known = stored.generation
        while True:
            if stored is not None and stored.generation > known and stored.remaining > timedelta(0):
                return self._adopt(stored)
            seen = max(known, stored.generation if stored is not None else 0)
            if await self._store.begin_refresh(seen, hold):
                return await self._fetch_and_save()
            if clock.monotonic() >= give_up_at:
                return self._failed(
                    not_sent("no token: another process is fetching it, or has just failed to")
                )
            await asyncio.sleep(_POLL_S)
            stored = await self._store.load()

    async def _fetch_and_save(self) -> StoredToken | Outcome:
        began_at = clock.monotonic()
        grant = await self._fetch(self._fetch_timeout.total_seconds())
        if isinstance(grant, Outcome):
            if grant.kind is Kind.UNKNOWN:
                # The push itself was not sent, even if the token call may have arrived.
                grant = not_sent(f"no token: {grant.reason}", grant.advice)
            self._failed(grant)
            retry_in = timedelta(seconds=self._retry_at - clock.monotonic())
            # This process waits that long. Others, such as an operator's check, need not.
            await self._store.fail_refresh(retry_in if grant.retry_after else min(retry_in, _SHARED_CAP))
            return grant
        # The marketplace counts from when it made the token, which was before its answer arrived.
        spent = timedelta(seconds=clock.monotonic() - began_at)
        stored = await self._store.save(grant.value, max(grant.valid_for - spent, timedelta(0)))
        log.info(
            "marketplace.token_refreshed",
            channel=self._channel,
            generation=stored.generation,
            valid_s=round(grant.valid_for.total_seconds()),
        )
        return self._adopt(stored)

    def _adopt(self, token: StoredToken) -> StoredToken:
        remaining = min(token.remaining, LONGEST_LIFE)
        self._token = token
        self._expires_at = clock.monotonic() + remaining.total_seconds()
        self._refresh_at = self._expires_at - min(AHEAD, remaining * AHEAD_SHARE).total_seconds()
        self._failure, self._failures, self._retry_at = None, 0, 0.0
        return token

    def _failed(self, failure: Outcome) -> Outcome:
        """Remember a failure and when the next try may be: a queue of pushes makes none before."""
        self._failures += 1
        is_passing = failure.trouble in (None, Trouble.UNREACHABLE, Trouble.THROTTLED)
        base, cap = (_RETRY_BASE, _RETRY_CAP) if is_passing else (_SLOW_BASE, _SLOW_CAP)
        retry_in = max(
            backoff(self._failures, base, cap, clock.jitter()), failure.retry_after or timedelta(0)
        )
        self._failure = failure
        self._retry_at = clock.monotonic() + retry_in.total_seconds()
        write = log.warning if is_passing else log.error
        write(
            "marketplace.token_refresh_failed",
            channel=self._channel,
            reason=failure.reason,
            advice=failure.advice,
            failures=self._failures,
            retry_s=round(retry_in.total_seconds(), 1),
        )
        return failure
