"""How the driver's errors become ours, and which of them one row of a listing may have raised."""

import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import asyncpg

from daemon.core.errors import BadRow, ConfigError, SchemaMismatch, StoreRefused, StoreUnavailable

UNPREPARED = (
    "a pooler in transaction mode keeps no prepared statements: set database.prepared_statements = false"
)
ROW_SECURITY = (
    "; a policy may hide rows, and what is hidden would be sent as sold out: let the listing read a view whose owner "
    "no policy applies to (without security_invoker), such as the table's owner"
)

UNAVAILABLE = (
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
_NO_SCHEMA = (
    asyncpg.InvalidSchemaNameError,
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedFunctionError,
    asyncpg.UndefinedColumnError,
)

_OF_SERVER: Final = frozenset({"08", "25", "26", "28", "40", "42", "53", "55", "57", "58", "XX"})
"""Classes of errors that the server raises by itself, as in stockrelay.is_class_of_server."""
_REPEATABLE: Final = frozenset({"40", "42", "53"})
"""Of these, reading SKU by SKU tells whether the server, the query or a row is the cause. It does not for the others:
locks, cancelling and lost connections pass."""
_ENDED: Final = "another operation (2) is in progress"
"""What the driver says when the server has ended the session between two statements, and why has not been read yet."""
_STOOD_STILL: Final = (
    "the server has ended the session, most often because this process stood still inside a transaction (too little "
    "processor time?)"
)
_FRAME: Final = re.compile(r"PL/pgSQL.*\(", re.IGNORECASE)
"""A context line about a function, in any language of the server; a DO block has no signature."""


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turn the driver's errors into StoreUnavailable (try again), SchemaMismatch or StoreRefused (a person has to act);
    `doing` says in a few words what was tried."""
    try:
        try:
            yield
        except asyncpg.PostgresError as error:
            # Of the server's classes, but raised by a function of the ERP's, perhaps for one row.
            if is_of_server(error) and may_be_of_a_row(error):
                raise BadRow(f"{doing}: {words(error)}") from error
            raise
    except _NO_SCHEMA as error:
        if "stockrelay." in str(error) or 'schema "stockrelay"' in str(error):
            raise SchemaMismatch(
                f"{doing}: the schema stockrelay is missing or not of this version ({error}); "
                "run `stockrelay migrate`"
            ) from error
        raise StoreRefused(f"{doing}: {words(error)}") from error
    except asyncpg.exceptions.ClientConfigurationError as error:
        # Its words name what is wrong with the address, and not the address.
        raise ConfigError(f"database.dsn: {words(error)}") from error
    except ssl.SSLError as error:
        raise StoreUnavailable(
            f"{doing}: no encrypted connection to the database ({words(error)}); the host in database.dsn must be the "
            "certificate's, and sslrootcert there the file of its authority"
        ) from error
    except UNAVAILABLE as error:
        is_ended = isinstance(
            error, asyncpg.exceptions.IdleInTransactionSessionTimeoutError
        ) or _ENDED in str(error)
        what = _STOOD_STILL if is_ended else f"the database does not answer ({words(error)})"
        raise StoreUnavailable(f"{doing}: {what}") from error
    except asyncpg.ReadOnlySQLTransactionError as error:
        raise StoreRefused(
            f"{doing}: {words(error)}; if the server is a standby, let database.dsn lead to the primary"
        ) from error
    except asyncpg.InsufficientPrivilegeError as error:
        hint = ROW_SECURITY if "row-level security policy" in str(error) else ""
        raise StoreRefused(f"{doing}: {words(error)}{hint}") from error
    except asyncpg.PostgresError as error:
        kind = StoreRefused if is_of_server(error) else BadRow
        raise kind(f"{doing}: {words(error)}") from error


def words(error: BaseException) -> str:
    """Return the first line of the driver's message, with its hint."""
    lines = str(error).strip().splitlines()
    text = lines[0] if lines else type(error).__name__
    if isinstance(error, asyncpg.DuplicatePreparedStatementError | asyncpg.InvalidSQLStatementNameError):
        # The driver's hint names an argument of its own.
        return f"{text}; {UNPREPARED}"
    hint = " ".join((getattr(error, "hint", None) or "").split())
    return f"{text}; {hint}" if hint else text


def is_of_server(error: asyncpg.PostgresError) -> bool:
    """Whether the error is of a class that the server raises by itself."""
    return _kind(error) in _OF_SERVER


def may_be_of_a_row(error: asyncpg.PostgresError) -> bool:
    """Whether a row may have raised the error, so that reading in portions finds it; as stockrelay.may_be_of_a_row."""
    if not is_of_server(error):
        return True
    lines = (getattr(error, "context", None) or "").splitlines()
    frames = [line for line in lines if _FRAME.search(line) and "stockrelay." not in line]
    if not frames:
        return False
    # A RAISE statement makes an error by itself: no lock, no cancelling and no shutdown is its cause.
    return _kind(error) in _REPEATABLE or (lines[0] == frames[0] and lines[0].endswith("RAISE"))


def _kind(error: asyncpg.PostgresError) -> str:
    return (error.sqlstate or "XX")[:2]
