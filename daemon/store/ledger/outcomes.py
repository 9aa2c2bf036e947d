"""Outcomes of attempts, and what is due next."""

from collections.abc import Collection, Sequence
from datetime import timedelta

from daemon.core.types import AttemptId, ChannelName, Slot
from daemon.store import queries
from daemon.store.database import Database
from daemon.store.foreign_text import storable
from daemon.store.ledger import Backlog, Completion, Due, Owner, Written
from daemon.store.ledger.claimed import as_json

_SQL = queries.load("ledger")


class Outcomes:
    """Completes one channel's attempts, and counts its rows."""

    def __init__(self, database: Database, channel: ChannelName, *, is_guarded: bool) -> None:
        self.channel = channel
        self._database = database
        self._is_guarded = is_guarded

    async def complete(self, holder: str, completions: Sequence[Completion], settle: timedelta) -> Written:
        """Write the outcomes of attempts whose slots this holder still has under the attempts' epochs. Reasons that the
        database's encoding can't hold are spelled in ASCII. Raises StoreUnavailable: all or nothing was written, and
        trying again is safe."""
        rows = [
            {
                "sku": done.sku,
                "slot": done.slot,
                "attempt_id": done.attempt_id,
                "outcome": done.conclusion.outcome,
                "reason": done.conclusion.reason,
                "is_parked": done.conclusion.is_parked,
                "wait_s": done.conclusion.wait.total_seconds(),
                "duration_ms": None if done.duration is None else done.duration.total_seconds() * 1000,
            }
            for done in completions
        ]
        async with self._database.connection(f"{self.channel}: writing outcomes") as connection:
            text = as_json(await storable(connection, rows))
            written = await connection.fetch(_SQL["complete"], self.channel, holder, settle, text)
        return Written(
            any(row["is_due"] for row in written),
            [row["took_s"] for row in written if row["took_s"] is not None],
        )

    async def rescue(self, owner: Owner, in_flight: Collection[AttemptId], settle: timedelta) -> int:
        """Turn open attempts of these slots that no process waits for into doubt; return how many there were."""
        doing = f"{self.channel}: rescuing attempts"
        count: int = await self._database.fetch_value(
            doing, _SQL["rescue"], self.channel, *owner.columns, settle, list(in_flight)
        )
        return count

    async def has_acknowledged(self) -> bool:
        """Whether the marketplace is known to have taken any number of the channel."""
        doing = f"{self.channel}: looking for acknowledged numbers"
        found: bool = await self._database.fetch_value(doing, _SQL["has_acknowledged"], self.channel)
        return found

    async def next_due(self, slots: Collection[Slot]) -> Due:
        """Return when there is something to claim next in these slots."""
        doing = f"{self.channel}: looking for work"
        return await self._database.fetch_one(
            Due, doing, _SQL["next_due"], self.channel, list(slots), self._is_guarded
        )

    async def end_shadow(self, slots: Collection[Slot], most: int) -> int:
        """Make up to `most` rows of these slots due that were claimed in shadow, if the channel is live; return how
        many."""
        doing = f"{self.channel}: ending the shadow"
        count: int = await self._database.fetch_value(
            doing, _SQL["end_shadow"], self.channel, list(slots), most
        )
        return count

    async def is_backlog_above(self, rows: int, slots: Collection[Slot]) -> bool:
        """Whether more than that many rows are due in these slots."""
        doing = f"{self.channel}: looking at the backlog"
        return bool(
            await self._database.fetch_value(doing, _SQL["is_backlog_above"], self.channel, list(slots), rows)
        )

    async def end_sync(self) -> tuple[int | None, bool]:
        """End the channel's sync if no SKU is queued any more: its number, or None; and whether one is still open."""
        (row,) = await self._database.fetch(f"{self.channel}: ending a sync", _SQL["end_sync"], self.channel)
        return row["ended"], row["is_open"]

    async def backlog(self) -> Backlog:
        """Count this channel's rows: one pass over them, for a heartbeat and not for a loop."""
        doing = f"{self.channel}: counting the backlog"
        return await self._database.fetch_one(Backlog, doing, _SQL["backlog"], self.channel)
