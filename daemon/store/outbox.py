"""Notices for the person in charge, on their way: posted by whoever finds something out, told by one replica."""

import json

from asyncpg import Record
from asyncpg.pool import PoolConnectionProxy

from daemon.core.notice import Notice, storable
from daemon.store import queries
from daemon.store.database import Database

_SQL = queries.load("outbox")


async def post_within(connection: "PoolConnectionProxy[Record]", notice: Notice) -> bool:
    """Post in the caller's transaction: told if and only if that commits. False: the key was posted already."""
    data = json.dumps(storable(notice.data), ensure_ascii=False, allow_nan=False)
    row = await connection.fetchrow(
        _SQL["post"], storable(notice.kind), storable(notice.key), notice.channel, data
    )
    return row is not None


class Outbox:
    """All notices, over all replicas."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def post(self, notice: Notice) -> bool:
        """Keep something to tell. False: the same key was posted already."""
        async with self._database.connection("posting a notice") as connection:
            return await post_within(connection, notice)
