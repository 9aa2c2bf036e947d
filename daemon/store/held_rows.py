"""Reading a long result in portions without keeping the ERP's tables locked in between."""

from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import asyncpg

from daemon import clock
from daemon.core.errors import TableLocked
from daemon.store import queries
from daemon.store.driver_errors import may_be_of_a_row
from daemon.store.rows import AnyConnection

if TYPE_CHECKING:
    from asyncpg.prepared_stmt import PreparedStatement

_SQL = queries.load("held_rows")
_PATIENCE_S: Final = 60.0
"""How long a table that the ERP has locked is asked for; each try waits half a second."""


async def held_rows(
    connection: AnyConnection, statement: str, size: int, timeout: timedelta
) -> "AsyncGenerator[list[asyncpg.Record], None]":
    """Yield the rows of `statement`, which has no parameters, `size` at a time. The server works the result out and
    gives its locks back, in one message, before it sends the first portion: a stalled or slow process keeps nothing
    locked. Raises TableLocked. The session must be ours alone meanwhile: no pooler in transaction mode."""
    await _hold(connection, statement.rstrip("; \n"), timeout)
    try:
        while rows := await connection.fetch(_SQL["next"].replace("@size@", str(size))):
            yield rows
    finally:
        if not connection.is_closed():
            await connection.execute(_SQL["release"])


async def columns(
    connection: AnyConnection, statement: str, timeout: timedelta
) -> tuple[tuple[str, str], ...]:
    """Return the columns of a statement without parameters, with their types' names. Raises TableLocked."""
    await _hold(connection, statement.rstrip("; \n"), timeout)
    try:
        return columns_of(await connection.prepare(_SQL["next"].replace("@size@", "0"), name=""))
    finally:
        await connection.execute(_SQL["release"])


def columns_of(statement: "PreparedStatement[asyncpg.Record]") -> tuple[tuple[str, str], ...]:
    """Return the columns of a prepared statement."""
    return tuple((each.name, each.type.name) for each in statement.get_attributes())


async def _hold(connection: AnyConnection, statement: str, timeout: timedelta) -> None:
    text = _SQL["hold"].replace("@statement@", statement)
    give_up_at = clock.monotonic() + _PATIENCE_S
    while True:
        try:
            await connection.execute(text, timeout=timeout.total_seconds())
        except asyncpg.LockNotAvailableError as error:
            await connection.execute("ROLLBACK")
            if may_be_of_a_row(error):
                raise
            if clock.monotonic() > give_up_at:
                raise TableLocked(
                    "reading the listing: another session has locked a table (see pg_locks)"
                ) from error
        except asyncpg.PostgresError:
            await connection.execute("ROLLBACK")
            raise
        else:
            return
