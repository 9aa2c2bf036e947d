"""The log of what operators did. The daemon's role can append to it, and neither change nor delete a row."""

from collections.abc import Sequence
from datetime import timedelta

from daemon.core.operations import MOST_NAMED, Action, Operation, Operator
from daemon.core.types import ChannelName, Sku
from daemon.store import queries
from daemon.store.database import Database
from daemon.store.foreign_text import storable
from daemon.store.rows import Connection

_SQL = queries.load("operations")


async def log_operation(
    connection: Connection,
    operator: Operator | None,
    action: Action,
    channel: ChannelName | None,
    outcome: str | None,
    *,
    skus: Sequence[Sku] = (),
    sku_count: int | None = None,
    reason: str = "",
    ends: int | None = None,
) -> int | None:
    """Note what an operator did, in the transaction of the connection that did it; return the row's id. Without an
    operator the daemon did it by itself, and nothing is noted. `outcome` None: its end is noted later, with `ends`."""
    if operator is None:
        return None
    count = sku_count if sku_count is not None or not skus else len(skus)
    who, where, why, end = await storable(connection, [operator.name, operator.origin, reason, outcome])
    named = list(skus) if len(skus) <= MOST_NAMED else []
    row: int = await connection.fetchval(
        _SQL["log"], who, where, action, channel, named, count, why, end, ends
    )
    return row


class OperationLog:
    """Reads and trims the log, and notes what has no transaction of its own."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def log(
        self,
        operator: Operator,
        action: Action,
        channel: ChannelName | None,
        outcome: str | None,
        *,
        skus: Sequence[Sku] = (),
        reason: str = "",
        ends: int | None = None,
    ) -> int | None:
        """Note an operation; return the row's id."""
        async with self._database.transaction("noting an operation") as connection:
            return await log_operation(
                connection, operator, action, channel, outcome, skus=skus, reason=reason, ends=ends
            )

    async def recent(
        self, limit: int, channel: ChannelName | None = None, sku: Sku | None = None
    ) -> list[Operation]:
        """Return the last operations; of one channel; those that named a SKU, or its channel as a whole."""
        doing = "reading what operators did"
        return await self._database.fetch_all(Operation, doing, _SQL["recent"], channel, sku, limit)

    async def trim(self, keep: timedelta) -> int:
        """Delete what is older than `keep`, and than 90 days; return how many rows."""
        count: int = await self._database.fetch_value("trimming the operations", _SQL["trim"], keep)
        return count
