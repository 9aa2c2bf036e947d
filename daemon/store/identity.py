"""Which database this is: ours, ours after a failover, or a copy that nothing is pushed from."""

from datetime import timedelta
from typing import Final

import asyncpg

from daemon.core.errors import ForeignDatabase
from daemon.core.types import ChannelName
from daemon.store import queries
from daemon.store.database import Database
from daemon.store.rows import AnyConnection

_SQL = queries.load("intake")

EVERY_ROW: Final = timedelta(minutes=15)
"""For a statement that writes every row of the ledger."""


async def refuse_copy(connection: AnyConnection) -> asyncpg.Record:
    """Return the database's identity. The daemon's pools ask it of each new connection: their address may have come to
    lead to a copy. Raises ForeignDatabase when it was not adopted."""
    row = await connection.fetchrow(_SQL["identity"])
    assert row is not None
    if not row["is_ours"]:
        raise ForeignDatabase(
            f"this database (system identifier {row['system_identifier']}) is a copy of the one that is pushed from: "
            "nothing is sent. If it takes over for good, run `stockrelay adopt`"
        )
    return row


async def doubt_everything(
    connection: AnyConnection, channel: ChannelName | None, confirmed_per_s: float, settle: timedelta
) -> None:
    """Have every number of the channel (None: of all) confirmed, at that rate, and again after `settle`."""
    timeout_s = EVERY_ROW.total_seconds()
    await connection.execute(_SQL["doubt_everything"], confirmed_per_s, settle, channel, timeout=timeout_s)


class Identity:
    """The database's identity, as one process remembers it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._timeline: int | None = None

    async def check(self, confirmed_per_s: float, settle: timedelta) -> bool:
        """Return whether a failover has happened since the last check of any process, and remember it. The standby may
        lack the last transactions, and with them acknowledgements, so every number is confirmed, at `confirmed_per_s`
        SKUs per second and channel, and again after `settle`, when no older request can land any more. Raises
        ForeignDatabase when this is a copy that was not adopted."""
        async with self._database.connection("reading the database's identity") as connection:
            row = await refuse_copy(connection)
        has_failed_over = not row["is_same_timeline"] or self._timeline not in (None, row["timeline"])
        if not row["is_same_timeline"]:
            async with self._database.transaction("confirming every number after a failover") as connection:
                if await connection.fetchval(_SQL["note_timeline"]):
                    await doubt_everything(connection, None, confirmed_per_s, settle)
        self._timeline = row["timeline"]
        return has_failed_over

    async def adopt(self, confirmed_per_s: float, settle: timedelta) -> int:
        """Make this database the one that is pushed from; return its system identifier. It lacks what was acknowledged
        after the copy was made, so every number is confirmed, as in `check`."""
        async with self._database.transaction("adopting the database") as connection:
            identifier: int = await connection.fetchval(_SQL["adopt"], timeout=EVERY_ROW.total_seconds())
            await doubt_everything(connection, None, confirmed_per_s, settle)
        return identifier
