"""Connections: how they are made, and how the driver's errors become ours."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy
from asyncpg.transaction import Transaction

from daemon.core.errors import BadRow, ConfigError, SchemaMismatch, StoreRefused, StoreUnavailable
from daemon.settings import addresses
from daemon.store import pins, queries
from daemon.store.passfile import password_for
from daemon.store.pins import PINS
from daemon.store.row_errors import is_of_server, may_be_of_a_row

CONNECT_TIMEOUT = timedelta(seconds=5)
_LOCK_TIMEOUT = "500ms"
_READING_LIMITS = "SET LOCAL lock_timeout = '500ms'; SET LOCAL idle_in_transaction_session_timeout = '700ms'"
_SQL = queries.load("session")
UNPREPARED = (
    "a pooler in transaction mode keeps no prepared statements: set database.prepared_statements = false"
)
_HIDES_ROWS = (
    "database.dsn: it leads through a pooler (database.listen_dsn is set), where the daemon cannot set row_security "
    "for itself; while it is on, a policy would hide rows, which would be sent as sold out. Run as a DBA, for the "
    "daemon's role (deploy/roles.sql does it): ALTER ROLE ... IN DATABASE ... SET row_security = off; then let the "
    "pooler reconnect"
)
_CLEAN_UP_S = 2.0
"""How long a server has to take back what a cancelled task left; then the connection is cut."""

ROW_SECURITY = (
    "; a policy may hide rows, and what is hidden would be sent as sold out: let the listing read a view whose owner "
    "no policy applies to (without security_invoker), such as the table's owner"
)

_UNAVAILABLE = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.exceptions.OperatorInterventionError,  # shutting down, starting up, terminated
    asyncpg.exceptions.IdleInTransactionSessionTimeoutError,  # this process stood still inside a transaction
    asyncpg.TooManyConnectionsError,
    asyncpg.exceptions.CrashShutdownError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.LockNotAvailableError,
    asyncpg.exceptions.InternalClientError,
)
_SPOILED = (asyncpg.ReadOnlySQLTransactionError, asyncpg.InFailedSQLTransactionError)
"""Of a session that will go on refusing: a server that has become a standby, a transaction that nobody ended."""
_NO_SCHEMA = (
    asyncpg.InvalidSchemaNameError,
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedFunctionError,
    asyncpg.UndefinedColumnError,
)


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turn the driver's errors into ours; `doing` says in a few words what was tried.

    Raises StoreUnavailable (try again), SchemaMismatch, or StoreRefused (a person has to look).
    """
    try:
        with _rows_errors(doing):
            yield
    except _NO_SCHEMA as error:
        if "stockrelay." in str(error) or 'schema "stockrelay"' in str(error):
            raise SchemaMismatch(
                f"{doing}: the schema stockrelay is missing or not of this version ({error}); "
                "run `stockrelay migrate`"
            ) from error
        raise StoreRefused(f"{doing}: {_words(error)}") from error
    except asyncpg.exceptions.ClientConfigurationError as error:
        # Its words name what is wrong with the address, and not the address.
        raise ConfigError(f"database.dsn: {_words(error)}") from error
    except ssl.SSLError as error:
        raise StoreUnavailable(
            f"{doing}: no encrypted connection to the database ({_words(error)}); the host in database.dsn must be the "
            "certificate's, and sslrootcert there the file of its authority"
        ) from error
    except _UNAVAILABLE as error:
        raise StoreUnavailable(f"{doing}: the database does not answer ({_words(error)})") from error
    except asyncpg.ReadOnlySQLTransactionError as error:
        raise StoreRefused(
            f"{doing}: {_words(error)}; if the server is a standby, let database.dsn lead to the primary"
        ) from error
    except asyncpg.InsufficientPrivilegeError as error:
        hint = ROW_SECURITY if "row-level security policy" in str(error) else ""
        raise StoreRefused(f"{doing}: {_words(error)}{hint}") from error
    except asyncpg.PostgresError as error:
        kind = StoreRefused if is_of_server(error) else BadRow
        raise kind(f"{doing}: {_words(error)}") from error


@contextmanager
def _rows_errors(doing: str) -> Iterator[None]:
    """Find the errors of the server's classes that a function of the ERP's may have raised for one row."""
    try:
        yield
    except asyncpg.PostgresError as error:
        if is_of_server(error) and may_be_of_a_row(error):
            raise BadRow(f"{doing}: {_words(error)}") from error
        raise


_OF_A_PARAMETER = (
    asyncpg.UndefinedObjectError,
    asyncpg.CantChangeRuntimeParamError,
    asyncpg.DataError,
    asyncpg.PostgresSyntaxError,
)


@contextmanager
def _connecting() -> Iterator[None]:
    """What the server refuses of the address itself, no other try can mend."""
    try:
        with translated("connecting to the database"):
            yield
    except (BadRow, StoreRefused) as error:
        if isinstance(error.__cause__, _OF_A_PARAMETER):
            raise ConfigError(
                f"database.dsn: the server refuses one of its parameters ({_words(error.__cause__)}); leave it out"
            ) from error
        raise


def _words(error: BaseException) -> str:
    words = str(error).strip().splitlines()
    text = words[0] if words else type(error).__name__
    if isinstance(error, asyncpg.DuplicatePreparedStatementError | asyncpg.InvalidSQLStatementNameError):
        # The driver's hint names an argument of its own.
        return f"{text}; {UNPREPARED}"
    hint = " ".join((getattr(error, "hint", None) or "").split())
    return f"{text}; {hint}" if hint else text


OnConnect: TypeAlias = "Callable[[asyncpg.Connection[asyncpg.Record]], Awaitable[object]]"


@dataclass(frozen=True, slots=True)
class ConnectOptions:
    """How to reach the database. `dsn` holds a password: it is not shown. `is_for_listings`: the sessions read the
    ERP's tables (see `Database.reading`)."""

    dsn: str
    statement_timeout: timedelta
    is_pooled: bool = False
    prepared_statements: bool = True
    is_for_listings: bool = False

    def __repr__(self) -> str:
        return "ConnectOptions(...)"

    def arguments(self) -> dict[str, Any]:
        """Return the driver's arguments."""
        settings = {"application_name": "stockrelay"}
        # A transaction-mode pooler refuses start-up parameters: there, each transaction pins them.
        if not self.is_pooled:
            settings |= PINS
            if self.is_for_listings:
                settings["lock_timeout"] = _LOCK_TIMEOUT
        address = addresses.for_driver(self.dsn)
        return {
            "dsn": address.dsn,
            "timeout": CONNECT_TIMEOUT.total_seconds(),
            "command_timeout": self.statement_timeout.total_seconds(),
            "server_settings": settings,
            "statement_cache_size": 100 if self.prepared_statements else 0,
            **address.arguments,
        }


async def reach(
    dsn: str | None = None,
    **arguments: Any,  # noqa: ANN401 - the driver's own
) -> "asyncpg.Connection[asyncpg.Record]":
    """Connect to the first host of the address that will do: of several, that can be written, unless the address says
    otherwise. Each has the time limit to itself: the driver lets a host that is frozen use it up for all of them."""
    last: BaseException | None = None
    hosts = each_host(dsn or "")
    if len(hosts) > 1 and "target_session_attrs=" not in (dsn or ""):
        arguments["target_session_attrs"] = "primary"
    for one in hosts:
        try:
            if (password := password_for(one)) is not None:
                arguments["password"] = password
            connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(one, **arguments)
            if PINS.keys() <= arguments.get("server_settings", {}).keys():
                try:
                    await pins.pin(connection)
                except BaseException:
                    connection.terminate()
                    raise
        except asyncpg.exceptions.ClientConfigurationError:
            raise
        except _UNAVAILABLE as error:
            last = error
        except UnicodeDecodeError as error:
            # The server's words, before it knows which encoding we want.
            last = OSError(f"it answered in another encoding than UTF-8 ({error.reason})")
        except (OverflowError, ValueError) as error:
            # The driver's words may hold the whole address, with its password.
            raise ConfigError(
                "database.dsn: this is not a PostgreSQL address; write postgresql://USER@HOST:PORT/DATABASE, and look "
                "at the environment's PGHOST, PGPORT and PGSSL... variables, which fill in what it leaves out"
            ) from error
        else:
            return connection
    assert last is not None
    raise last


def each_host(dsn: str) -> list[str]:
    """The address once for each of its hosts."""
    before, after = dsn.find("//") + 2, len(dsn)
    for end in "/?#":
        if (place := dsn.find(end, before)) >= 0:
            after = min(after, place)
    user, at, hosts = dsn[before:after].rpartition("@")
    return [f"{dsn[:before]}{user}{at}{host}{dsn[after:]}" for host in hosts.split(",")]


def patience_s(arguments: Mapping[str, Any]) -> float:
    """How long making a connection may take: each host has its time limit to itself."""
    limit_s: float = arguments["timeout"]
    return len(each_host(arguments["dsn"])) * limit_s + 1


async def connect(options: ConnectOptions) -> "asyncpg.Connection[asyncpg.Record]":
    """Open one connection with TCP keepalive. Raises StoreUnavailable, StoreRefused, ConfigError."""
    with _connecting():
        connection: asyncpg.Connection[asyncpg.Record] = await reach(**options.arguments())
    keep_alive(connection)
    return connection


def keep_alive(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Let TCP notice a peer that is gone: a network partition sends no event to the driver."""
    transport = getattr(connection, "_transport", None)
    sock = transport.get_extra_info("socket") if transport is not None else None
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", 5),
        ("TCP_KEEPINTVL", 3),
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", 15_000),
    ):
        option = getattr(socket, name, None)
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


def _heard(task: "asyncio.Task[None]") -> None:
    """Ignore a failed clean-up: the connection is closed anyway."""
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

        async def set_up(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
            keep_alive(connection)
            if self._on_connect is not None:
                await self._on_connect(connection)

        with _connecting():
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
    async def connection(self, doing: str) -> AsyncIterator["PoolConnectionProxy[asyncpg.Record]"]:
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
                releasing.add_done_callback(_heard)
                with contextlib.suppress(Exception):
                    await asyncio.shield(releasing)
                raise
            if self._is_spoiled(connection):
                connection.terminate()
            await pool.release(connection, timeout=_CLEAN_UP_S)

    def _is_spoiled(self, connection: "PoolConnectionProxy[asyncpg.Record]") -> bool:
        """Whether the next user of the connection would not find it as it was made. A pooler's settings are its own."""
        with contextlib.suppress(asyncpg.InterfaceError):  # it is closed, and not used again anyway
            return not self._options.is_pooled and not connection.is_closed() and pins.is_spoiled(connection)
        return False

    @asynccontextmanager
    async def transaction(self, doing: str) -> AsyncIterator["PoolConnectionProxy[asyncpg.Record]"]:
        """Lend a connection with a transaction around it: committed at the end, rolled back by an exception."""
        async with self.connection(doing) as connection, transaction_on(connection):
            if self._options.is_pooled:
                await pins.pin_transaction(connection)
            yield connection

    @asynccontextmanager
    async def reading(self, connection: "PoolConnectionProxy[asyncpg.Record]") -> AsyncIterator[None]:
        """Around a statement that reads the ERP's tables, on a connection of this pool: a locked one is not waited for
        as long as the server waits before it looks for deadlocks (a second), as it might end the ERP's transaction; and
        a process that stands still keeps its own locks for less than a second."""
        if self._options.is_for_listings and not self._options.is_pooled:
            yield  # the session is set up so
            return
        async with transaction_on(connection):
            await self.limit_reading(connection)
            yield

    async def limit_reading(self, connection: "PoolConnectionProxy[asyncpg.Record]") -> None:
        """In a transaction that is to read the ERP's tables: the limits that `reading` speaks of."""
        await connection.execute(_READING_LIMITS)


@asynccontextmanager
async def transaction_on(connection: "PoolConnectionProxy[asyncpg.Record]") -> AsyncIterator[None]:
    """A transaction on a connection that is lent already."""
    async with _rolled_back(connection, connection.transaction(isolation="read_committed")):
        yield


@asynccontextmanager
async def savepoint(connection: "PoolConnectionProxy[asyncpg.Record]") -> AsyncIterator[None]:
    """Inside a transaction: what fails within takes back only what was done within."""
    async with _rolled_back(connection, connection.transaction()):
        yield


@asynccontextmanager
async def taken_back(connection: "PoolConnectionProxy[asyncpg.Record]") -> AsyncIterator[None]:
    """Inside a transaction: what is done within is taken back at the end, and the locks it took are given back."""
    with contextlib.suppress(_TakenBack):
        async with savepoint(connection):
            yield
            raise _TakenBack


class _TakenBack(Exception):
    """The end of `taken_back`."""


@asynccontextmanager
async def _rolled_back(
    connection: "PoolConnectionProxy[asyncpg.Record]", transaction: "Transaction"
) -> AsyncIterator[None]:
    """Commit at the end; after an exception, roll back and let that exception pass, whatever becomes of the rollback.

    The driver's own context manager waits for a silent server as long as for a statement, and raises the rollback's
    error instead: a task that was cancelled would go on as if it had not been.
    """
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
