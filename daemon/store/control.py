"""What an operator switches: channels that are paused."""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from daemon.core.errors import StoreUnavailable
from daemon.core.operations import Action, Operator
from daemon.core.types import ChannelName
from daemon.store import queries
from daemon.store.database import Database
from daemon.store.leases import NOTIFY_OWNERS
from daemon.store.operations import log_operation
from daemon.store.rows import row_as

_SQL = queries.load("control")

_LOOK_S: Final = 0.02
_LONGEST_CLAIM_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Pause:
    """A paused channel. `reason` is empty when none was given."""

    channel: ChannelName
    since: datetime
    by: str
    reason: str


class Pauses:
    """Which channels are paused. Every claim looks for itself (`capture` in ledger.sql): all replicas obey at once."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def pause(
        self, channel: ChannelName, by: str, reason: str, operator: Operator | None = None
    ) -> tuple[Pause, int]:
        """Pause the channel; return the pause, and how many requests are still in flight. By then no claim can begin,
        and those that had begun are committed. Raises StoreUnavailable, with the channel paused, when one takes very
        long."""
        doing = f"{channel}: pausing"
        async with self._database.transaction(doing) as connection:
            row = await connection.fetchrow(_SQL["pause"], channel, by, reason)
            assert row is not None
            await log_operation(connection, operator, Action.PAUSE, channel, "paused", reason=reason)
        async with self._database.connection(doing) as connection:
            try:
                async with asyncio.timeout(_LONGEST_CLAIM_S):
                    # Nothing notifies us when a claim ends.
                    while not await connection.fetchval(_SQL["has_no_claim"], channel):  # noqa: ASYNC110
                        await asyncio.sleep(_LOOK_S)
            except TimeoutError as error:
                raise StoreUnavailable(
                    f"{channel} is paused, but a claim that began before still runs: it may send some more numbers"
                ) from error
            in_flight: int = await connection.fetchval(_SQL["in_flight"], channel)
        return row_as(Pause, row), in_flight

    async def resume(self, channel: ChannelName, operator: Operator | None = None) -> Pause | None:
        """End the channel's pause and wake its owner; return the pause that was, None if there was none."""
        async with self._database.transaction(f"{channel}: resuming") as connection:
            row = await connection.fetchrow(_SQL["resume"], channel)
            if row is not None:
                await log_operation(connection, operator, Action.RESUME, channel, "resumed")
                await connection.execute(NOTIFY_OWNERS, channel)
        return None if row is None else row_as(Pause, row)

    async def all(self) -> dict[ChannelName, Pause]:
        doing = "reading which channels are paused"
        pauses = await self._database.fetch_all(Pause, doing, _SQL["pauses"])
        return {pause.channel: pause for pause in pauses}
