"""The pool of connections that the stores share: single queries, transactions, limits of reading the ERP's tables."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, TypeAlias

import asyncpg
from asyncpg.transaction import Transaction

from daemon.core.errors import ConfigError, StoreUnavailable
from daemon.store import pins, queries
from daemon.store.connecting import ConnectOptions, connecting, keep_alive, patience_s, reach
from daemon.store.driver_errors import translated
from daemon.store.rows import Connection, RawConnection, T, row_as

_READING_LIMITS = "SET LOCAL lock_timeout = '500ms'; SET LOCAL idle_in_transaction_session_timeout = '700ms'"
_SQL = queries.load("session")
_HIDES_ROWS = (
    "database.dsn: it leads through a pooler (database.listen_dsn is set), where the daemon cannot set row_security "
    "for itself; while it is on, a policy would hide rows, which would be sent as sold out. Run as a DBA, for the "
    "daemon's role (deploy/roles.sql does it): ALTER ROLE ... IN DATABASE ... SET row_security = off; then let the "
    "pooler reconnect"
)
_CLEAN_UP_S = 2.0
"""How long a server has to take back what a cancelled task left; then the connection is cut."""

_SPOILED = (asyncpg.ReadOnlySQLTransactionError, asyncpg.InFailedSQLTransactionError)
"""Of a session that will go on refusing: its server has become a standby, or a transaction was left open."""
OnConnect: TypeAlias = "Callable[[RawConnection], Awaitable[object]]"


def _consume_exception(task: "asyncio.Task[None]") -> None:
    """Consume the exception of a failed clean-up: the connection is closed anyway."""
    if not task.cancelled():
        task.exception()


async def _keep_session(_connection: object) -> None:
    """Skip the reset a pool does on release: nothing here leaves a setting behind, and it costs a round trip."""


class Database:
    """The pool that all stores share. `on_connect` looks at each new connection; what it raises is raised where the
    connection was wanted."""

    def __init__(
        self, options: ConnectOptions, pool_size: int, on_connect: "OnConnect | None" = None
    ) -> None:
        self._on_connect = on_connect
        self._options = options
        self._pool_size = pool_size
        self._patience_s = 0.0
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None

    async def open(self) -> None:
        """Open the pool; its connections are made when they are wanted. Raises StoreUnavailable, StoreRefused."""
        if self._pool is not None:
            return

        async def set_up(connection: RawConnection) -> None:
            keep_alive(connection)
            if self._on_connect is not None:
                await self._on_connect(connection)

        with connecting():
            arguments = self._options.arguments()
            self._patience_s = patience_s(arguments)
            pool = await asyncpg.create_pool(
                **arguments,
                # Keep no idle minimum: asyncpg logs every failed attempt to refill it.
                min_size=0,
                max_size=self._pool_size,
                max_inactive_connection_lifetime=300.0,
                init=set_up,
                reset=_keep_session,
                connect=reach,
            )
            # An address that does not work is found now.
            async with pool.acquire() as connection:
                hides_rows = self._options.is_pooled and await connection.fetchval(_SQL["hides_rows"])
            if hides_rows:
                await pool.close()
                raise ConfigError(_HIDES_ROWS)
            self._pool = pool

    def use(self, dsn: str) -> None:
        """Make new connections with this address; those there are stay as they are. Raises OSError as `for_driver`, and
        then has changed nothing."""
        options = replace(self._options, dsn=dsn)
        arguments = options.arguments()
        if self._pool is not None:
            self._pool.set_connect_args(**arguments)
        self._options, self._patience_s = options, patience_s(arguments)

    async def close(self) -> None:
        """Close the pool; after a few seconds the connections are cut."""
        if self._pool is None:
            return
        pool, self._pool = self._pool, None
        try:
            await asyncio.wait_for(pool.close(), timeout=5)
        except TimeoutError:
            pool.terminate()

    @asynccontextmanager
    async def connection(self, doing: str) -> AsyncIterator[Connection]:
        """Lend a connection; errors inside are translated. Raises StoreUnavailable, SchemaMismatch, StoreRefused."""
        if self._pool is None:
            raise StoreUnavailable(f"{doing}: the pool is closed")
        pool = self._pool
        with translated(doing):
            # Not the driver's own time limit: that makes a task.
            async with asyncio.timeout(self._patience_s):
                connection = await pool.acquire()
            try:
                yield connection
            except BaseException as error:
                if isinstance(error, _SPOILED) or self._is_spoiled(connection):
                    with contextlib.suppress(asyncpg.InterfaceError):
                        connection.terminate()
                releasing = asyncio.create_task(pool.release(connection, timeout=_CLEAN_UP_S))
                # Also where the await below was cancelled, which leaves the task alone.
                releasing.add_done_callback(_consume_exception)
                with contextlib.suppress(Exception):
                    await asyncio.shield(releasing)
                raise
            if self._is_spoiled(connection):
                connection.terminate()
            await pool.release(connection, timeout=_CLEAN_UP_S)

    def _is_spoiled(self, connection: Connection) -> bool:
        """Whether the next user of the connection would not find it as it was made. A pooler's settings are its own."""
        with contextlib.suppress(asyncpg.InterfaceError):  # it is closed, and not used again anyway
            return (
                not self._options.is_pooled
                and not connection.is_closed()
                and pins.is_spoiled(connection, is_read_only=self._options.is_read_only)
            )
        return False

    async def fetch(
        self, doing: str, query: str, *arguments: object, timeout: float | None = None
    ) -> list[asyncpg.Record]:
        """Run one query; return its rows. These methods raise as `connection` does."""
        async with self.connection(doing) as connection:
            rows: list[asyncpg.Record] = await connection.fetch(query, *arguments, timeout=timeout)
        return rows

    async def fetch_all(
        self, kind: type[T], doing: str, query: str, *arguments: object, timeout: float | None = None
    ) -> list[T]:
        """Run one query; return each row as a `kind`."""
        rows = await self.fetch(doing, query, *arguments, timeout=timeout)
        return [row_as(kind, row) for row in rows]

    async def fetch_row(
        self, doing: str, query: str, *arguments: object, timeout: float | None = None
    ) -> asyncpg.Record | None:
        """Run one query; return its first row, or None."""
        async with self.connection(doing) as connection:
            return await connection.fetchrow(query, *arguments, timeout=timeout)

    async def fetch_one(
        self, kind: type[T], doing: str, query: str, *arguments: object, timeout: float | None = None
    ) -> T:
        """Run one query that always has a row; return the first as a `kind`."""
        row = await self.fetch_row(doing, query, *arguments, timeout=timeout)
        assert row is not None
        return row_as(kind, row)

    async def fetch_value(
        self, doing: str, query: str, *arguments: object, timeout: float | None = None
    ) -> Any:  # noqa: ANN401 - whatever the query's first column is
        """Run one query; return the first column of its first row, or None."""
        async with self.connection(doing) as connection:
            return await connection.fetchval(query, *arguments, timeout=timeout)

    async def execute(self, doing: str, query: str, *arguments: object, timeout: float | None = None) -> None:
        async with self.connection(doing) as connection:
            await connection.execute(query, *arguments, timeout=timeout)

    @asynccontextmanager
    async def transaction(self, doing: str) -> AsyncIterator[Connection]:
        """Lend a connection with a transaction around it: committed at the end, rolled back by an exception."""
        async with self.connection(doing) as connection, transaction_on(connection):
            if self._options.is_pooled:
                await pins.pin_transaction(connection)
            yield connection

    @asynccontextmanager
    async def reading(self, connection: Connection) -> AsyncIterator[None]:
        """Around a statement that reads the ERP's tables: it waits for a locked one for less than `deadlock_timeout` (a
        second), after which the server might end the ERP's transaction; and a stalled process keeps its own locks for
        less than a second."""
        if self._options.is_for_listings and not self._options.is_pooled:
            yield  # the session is set up so
            return
        async with transaction_on(connection):
            if self._options.is_pooled:
                await pins.pin_transaction(connection)
            await self.limit_reading(connection)
            yield

    async def limit_reading(self, connection: Connection) -> None:
        """In a transaction that is to read the ERP's tables: the limits that `reading` speaks of."""
        await connection.execute(_READING_LIMITS)


@asynccontextmanager
async def transaction_on(connection: Connection) -> AsyncIterator[None]:
    """A transaction on a connection that is lent already."""
    async with _committing(connection, connection.transaction(isolation="read_committed")):
        yield


@asynccontextmanager
async def savepoint(connection: Connection) -> AsyncIterator[None]:
    """Inside a transaction: a failure within rolls back only what was done within."""
    async with _committing(connection, connection.transaction()):
        yield


@asynccontextmanager
async def rolled_back(connection: Connection) -> AsyncIterator[None]:
    """Inside a transaction: what is done within is rolled back at the end, and its locks are released."""
    with contextlib.suppress(_Rollback):
        async with savepoint(connection):
            yield
            raise _Rollback


class _Rollback(Exception):
    """Ends `rolled_back`."""


@asynccontextmanager
async def _committing(connection: Connection, transaction: "Transaction") -> AsyncIterator[None]:
    """Commit at the end; after an exception, roll back and raise that exception, even if the rollback fails. (The
    driver's own context manager waits long for a silent server and raises the rollback's error: a cancelled task would
    go on.)"""
    await transaction.start()
    try:
        yield
    except BaseException:
        with contextlib.suppress(Exception):
            try:
                async with asyncio.timeout(_CLEAN_UP_S):
                    await transaction.rollback()
            except BaseException:
                connection.terminate()
                raise
        raise
    await transaction.commit()
