"""The change log as a whole, and the attempt log: what is done to them for all channels."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from daemon.core.types import ChannelName
from daemon.store import queries
from daemon.store.database import Database
from daemon.store.locks import LockWatch
from daemon.store.rows import row_as

_SQL = queries.load("intake")


@dataclass(frozen=True, slots=True)
class ReadingState:
    """When a channel's listing was compared with the ledger as a whole (None: that is still due), how many changes it
    has not read, and how many SKUs that the ledger can't hold the last comparison found in the listing."""

    resynced_at: datetime | None
    unread: int
    refused: int


class ChangeLog:
    """Upkeep and state of the logs in our schema."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def stay_awake(self, how_long: timedelta) -> None:
        """Silence the bell for this long: this process polls quickly meanwhile. Zero: ring again."""
        await self._database.execute("setting the doorbell", _SQL["stay_awake"], how_long.total_seconds())

    async def rotate(self, min_age: timedelta) -> str:
        """Take one step of the change log's rotation; return what it was."""
        async with self._database.transaction("rotating the change log") as connection:
            step: str = await connection.fetchval(_SQL["rotate"], min_age)
        return step

    async def roll_attempts(self, keep: timedelta) -> int:
        """Make the attempt log's partitions; return how many old ones were dropped."""
        doing = "rolling the attempt log"
        async with self._database.transaction(doing) as connection:
            await LockWatch(self._database).exclude_others(connection, "attempt_log", doing)
            dropped: int = await connection.fetchval(_SQL["roll_attempts"], 3, keep)
        return dropped

    async def states(self, channels: Sequence[ChannelName]) -> dict[ChannelName, ReadingState]:
        """Return how far these channels have read; one that has never read has nothing."""
        rows = await self._database.fetch("reading the intake's state", _SQL["reading_state"], channels)
        return {ChannelName(row["channel"]): row_as(ReadingState, row) for row in rows}
