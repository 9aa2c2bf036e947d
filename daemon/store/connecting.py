"""Connections: how they are made."""

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import asyncpg

from daemon.core.errors import BadRow, ConfigError, StoreRefused
from daemon.settings import addresses
from daemon.store import pins
from daemon.store.driver_errors import UNAVAILABLE, translated, words
from daemon.store.passfile import password_for
from daemon.store.pins import PINS
from daemon.store.rows import RawConnection

CONNECT_TIMEOUT = timedelta(seconds=5)
_LOCK_TIMEOUT = "500ms"
_OF_A_PARAMETER = (
    asyncpg.UndefinedObjectError,
    asyncpg.CantChangeRuntimeParamError,
    asyncpg.DataError,
    asyncpg.PostgresSyntaxError,
)


@contextmanager
def connecting() -> Iterator[None]:
    """What the server refuses of the address itself, no other try can mend."""
    try:
        with translated("connecting to the database"):
            yield
    except (BadRow, StoreRefused) as error:
        if isinstance(error.__cause__, _OF_A_PARAMETER):
            raise ConfigError(
                f"database.dsn: the server refuses one of its parameters ({words(error.__cause__)}); leave it out"
            ) from error
        raise


@dataclass(frozen=True, slots=True)
class ConnectOptions:
    """How to reach the database. `dsn` holds a password: it is not shown. `is_for_listings`: the sessions read the
    ERP's tables (see `Database.reading`). `is_read_only`: the server refuses their writes;
    not behind a pooler."""

    dsn: str
    statement_timeout: timedelta
    is_pooled: bool = False
    prepared_statements: bool = True
    is_for_listings: bool = False
    is_read_only: bool = False

    def __repr__(self) -> str:
        return "ConnectOptions(...)"

    def arguments(self) -> dict[str, Any]:
        settings = {"application_name": "stockrelay"}
        # A transaction-mode pooler refuses start-up parameters: there, each transaction pins them.
        if not self.is_pooled:
            settings |= PINS
            if self.is_read_only:
                settings["default_transaction_read_only"] = "on"
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
) -> RawConnection:
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
            connection: RawConnection = await asyncpg.connect(one, **arguments)
            if PINS.keys() <= arguments.get("server_settings", {}).keys():
                try:
                    await pins.pin(connection)
                except BaseException:
                    connection.terminate()
                    raise
        except asyncpg.exceptions.ClientConfigurationError:
            raise
        except UNAVAILABLE as error:
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


async def connect(options: ConnectOptions) -> RawConnection:
    """Open one connection with TCP keepalive. Raises StoreUnavailable, StoreRefused, ConfigError."""
    with connecting():
        connection: RawConnection = await reach(**options.arguments())
    keep_alive(connection)
    return connection


def keep_alive(connection: RawConnection) -> None:
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
