"""Connections for `stockrelay check`: why there is none, and what to do about it."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Final

import asyncpg

from daemon.core.errors import ConfigError, StockrelayError
from daemon.store import queries
from daemon.store.connecting import ConnectOptions, connect
from daemon.store.driver_errors import translated
from daemon.store.inspect import Inspector

_SQL = queries.load("inspect")
_AT_ONCE: Final = 4
_ROUNDS: Final = 10
_MARGIN: Final = timedelta(seconds=5)

_UNREACHABLE: Final[Mapping[type[BaseException], tuple[str, str]]] = {
    asyncpg.InvalidPasswordError: (
        "the password is refused",
        "check the user and password in {key}; the password of a role is set with ALTER ROLE ... PASSWORD",
    ),
    asyncpg.InvalidAuthorizationSpecificationError: (
        "the login is refused",
        "check the user in {key}, that the role exists and may log in (ALTER ROLE ... LOGIN), and pg_hba.conf",
    ),
    asyncpg.InvalidCatalogNameError: (
        "the database does not exist",
        "check the name after the last slash of {key}",
    ),
    asyncpg.InsufficientPrivilegeError: (
        "the role may not connect",
        "GRANT CONNECT ON DATABASE ... TO ...; as the database's owner",
    ),
    asyncpg.TooManyConnectionsError: (
        "the server has no connection left",
        "raise max_connections, or see in pg_stat_activity who holds them",
    ),
    asyncpg.CannotConnectNowError: ("the server is not ready yet", "wait until it has started"),
    ssl.SSLCertVerificationError: (
        "the server's certificate is not trusted",
        "check that the host in {key} is the certificate's, and that sslrootcert there is the file of its authority",
    ),
    ConnectionRefusedError: (
        "nothing listens there",
        "check host and port in {key}, that PostgreSQL runs, and its listen_addresses",
    ),
    TimeoutError: (
        "no answer in time",
        "check host and port in {key}, and the firewalls between here and there",
    ),
    OSError: ("the server cannot be reached", "check the host in {key}, DNS and network"),
}
"""What was found, and what to do; the first class that fits counts."""


class Unreachable(StockrelayError):
    """There is no connection; `advice` says what to do about it. `{key}` in it stands for the setting."""

    def __init__(self, found: str, advice: str) -> None:
        super().__init__(found)
        self.advice = advice


@asynccontextmanager
async def inspecting(options: ConnectOptions, limit: timedelta) -> AsyncIterator[Inspector]:
    """Open a connection on which no statement takes longer than `limit`. Raises Unreachable, ConfigError."""
    # Unnamed statements work behind every pooler. The server's limit comes first, so that its words are heard.
    options = replace(options, statement_timeout=limit + _MARGIN, prepared_statements=False)
    try:
        connection = await connect(options)
    except ConfigError:
        raise
    except StockrelayError as error:
        raise _unreachable(error.__cause__ or error) from error
    try:
        yield Inspector(connection, limit, is_pooled=options.is_pooled)
    finally:
        connection.terminate()


async def keeps_prepared_statements(options: ConnectOptions) -> bool:
    """Return whether a prepared statement can be run again on its connection. Several connections are tried at once,
    since a pooler in transaction mode gives a single one the same server. Raises StoreUnavailable, StoreRefused,
    ConfigError."""

    async def use_one() -> None:
        connection = await connect(replace(options, prepared_statements=True))
        try:
            with translated("trying prepared statements"):
                for number in range(_ROUNDS):
                    await connection.fetchval(_SQL["echo"], number)
        finally:
            connection.terminate()

    results = await asyncio.gather(*(use_one() for _ in range(_AT_ONCE)), return_exceptions=True)
    failures = [result for result in results if isinstance(result, BaseException)]
    lost = (asyncpg.DuplicatePreparedStatementError, asyncpg.InvalidSQLStatementNameError)
    if any(isinstance(failure.__cause__, lost) for failure in failures):
        return False
    for failure in failures:
        raise failure
    return True


def _unreachable(error: BaseException) -> Unreachable:
    words = str(error).strip() or type(error).__name__
    if "unsupported startup parameter" in words:
        return Unreachable(
            words, "a pooler stands there: set database.listen_dsn to a direct address, past the pooler"
        )
    for kind, (found, advice) in _UNREACHABLE.items():
        if isinstance(error, kind):
            return Unreachable(f"{found}: {words}", advice)
    return Unreachable(words, "check {key}")
