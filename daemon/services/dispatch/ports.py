"""The dispatcher's ports, with only the calls that it makes."""

from collections.abc import Callable, Collection, Sequence
from datetime import timedelta
from typing import Protocol

from daemon.core.outcome import Outcome
from daemon.core.types import AttemptId, ChannelName, Push, Slot
from daemon.store.ledger import Claim, Completion, Due, Owner, Written


class DeliveryLedger(Protocol):
    """One channel's ledger. Every method raises StockrelayError."""

    @property
    def channel(self) -> ChannelName: ...

    async def claim(
        self,
        owner: Owner,
        limit: int,
        settle: timedelta,
        *,
        is_urgent_only: bool = False,
        is_sync: bool = False,
        is_shadow: bool = False,
        take_on: Callable[[Claim], None] | None = None,
    ) -> Claim: ...

    async def rescue(self, owner: Owner, in_flight: Collection[AttemptId], settle: timedelta) -> int: ...

    async def has_acknowledged(self) -> bool: ...

    async def next_due(self, slots: Collection[Slot]) -> Due: ...

    async def end_shadow(self, slots: Collection[Slot], most: int) -> int: ...

    async def is_backlog_above(self, rows: int, slots: Collection[Slot]) -> bool: ...

    async def end_sync(self) -> tuple[int | None, bool]: ...

    async def complete(
        self, holder: str, completions: Sequence[Completion], settle: timedelta
    ) -> Written: ...


class PushClient(Protocol):
    """The marketplace's write interface."""

    @property
    def most_per_call(self) -> int: ...

    async def push(self, push: Push, timeout: timedelta) -> Outcome: ...

    async def push_many(self, pushes: Sequence[Push], timeout: timedelta) -> list[Outcome]: ...


class Observer(Protocol):
    """Counts attempts and how long changes took; for metrics."""

    def attempted(self, channel: ChannelName, outcome: str, duration_s: float | None) -> None:
        """An attempt has ended after this many seconds; None: nothing was sent."""

    def delivered(self, channel: ChannelName, latency_s: float) -> None:
        """A number was acknowledged this many seconds after its oldest change was read."""
