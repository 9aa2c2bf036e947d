"""What `stockrelay check` reads from the database, each time in a read-only transaction of its own."""

import json
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import asyncpg

from daemon import clock
from daemon.core.errors import StoreRefused
from daemon.store import held_rows, one_message, queries
from daemon.store.capture_health import Capturing
from daemon.store.driver_errors import may_be_of_a_row, translated
from daemon.store.grants import daemon_rights
from daemon.store.rows import RawConnection, looked_up, row_as

_SQL = queries.load("inspect")
_SESSION = queries.load("session")
_IDENTITY: Final = queries.load("intake")["identity"]
_VERSION: Final = queries.load("migrate")["version"]
_CONFIGURATIONS: Final = queries.load("leases")["configurations"]
_FAN_OUT: Final = queries.load("fanout")
_PLAIN_PATH: Final = queries.load("capture_health")["plain_path"]
_PAGE: Final = 1000


class Denied(StoreRefused):
    """This role may not do that."""


class TookTooLong(StoreRefused):
    """The time limit cut it off."""


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """Which server answers, and as whom; the quoted names fit into SQL. `ahead` is its clock against this machine's,
    measured to within `accuracy`."""

    major: int
    version: str
    role: str
    quoted_role: str
    database: str
    encoding: str
    is_standby: bool
    ahead: timedelta
    accuracy: timedelta


@dataclass(frozen=True, slots=True)
class Line:
    """The connection itself. `peer` is the server's address, None for a socket of this machine."""

    peer: str | None
    is_encrypted: bool
    is_verified: bool


@dataclass(frozen=True, slots=True)
class DatabaseIdentity:
    """Whether this is the database that is pushed from, and what it is called."""

    is_ours: bool
    system_identifier: int


@dataclass(frozen=True, slots=True)
class Table:
    """A table as it is found under a name; `columns` are unquoted."""

    relation: int
    is_table: bool
    name: str
    columns: tuple[str, ...]


class Inspector:
    """One connection's answers. All methods raise StoreUnavailable, StoreRefused, Denied, TookTooLong."""

    def __init__(self, connection: RawConnection, limit: timedelta, *, is_pooled: bool = False) -> None:
        self._connection = connection
        self._is_pooled = is_pooled
        self._limit = limit
        self._milliseconds = str(max(1, round(limit.total_seconds() * 1000)))
        self.capturing = Capturing(self.look)

    async def server(self) -> ServerInfo:
        """Return who answers. The clock is read half-way through the round trip."""
        async with self.look("asking the server who it is") as connection:
            before, began = clock.now(), clock.monotonic()
            (row,) = await connection.fetch(_SQL["server"])
            half = timedelta(seconds=(clock.monotonic() - began) / 2)
        return row_as(ServerInfo, row, ahead=row["now"] - (before + half), accuracy=half)

    def line(self) -> Line:
        """Return how the server is reached."""
        # The driver shows neither. What a pooler does behind its back is not seen.
        transport = getattr(self._connection, "_transport", None)
        peer = transport.get_extra_info("peername") if transport is not None else None
        secured = transport.get_extra_info("ssl_object") if transport is not None else None
        return Line(
            str(peer[0]) if isinstance(peer, tuple) else None,
            secured is not None,
            secured is not None
            and secured.context.verify_mode is ssl.CERT_REQUIRED
            and secured.context.check_hostname,
        )

    async def writable_schemas_in_path(self) -> list[tuple[str, str]]:
        """Return the schemas of the search path in which others may create things, and who."""
        rows = await looked_up(self.look, "looking at the search path", _SQL["writable_schemas_in_path"])
        return [(row["schema"], "everybody" if row["is_open"] else ", ".join(row["roles"])) for row in rows]

    async def connections(self) -> tuple[int, int]:
        """Return how many more connections this role may make, and how many a daemon of ours holds."""
        (row,) = await looked_up(self.look, "counting connections", _SQL["connections"])
        return row["free"], row["ours"]

    async def is_schema_open(self) -> bool | None:
        """Return whether this role may use our schema; None: there is none."""
        found: bool | None = await self._value("looking for the schema", _SQL["schema"])
        return found

    async def is_version_readable(self) -> bool | None:
        """Return whether this role may read the schema's version; None: no migration has run."""
        found: bool | None = await self._value("looking for the schema's version", _SQL["has_version"])
        return found

    async def version(self) -> str | None:
        """Return the schema's version."""
        version: str | None = await self._value("reading the schema's version", _VERSION)
        return version

    async def missing_rights(self) -> tuple[list[str], list[str]]:
        """Return the GRANTs this role lacks for what the daemon does, and the objects that are missing altogether."""
        doing, rights = "looking at the rights in the schema", zip(*daemon_rights(), strict=True)
        rows = await looked_up(self.look, doing, _SQL["missing_rights"], *rights)
        grants = [row["command"] for row in rows if row["command"] is not None]
        return grants, [row["object"] for row in rows if row["command"] is None]

    async def identity(self) -> DatabaseIdentity:
        """Return which database this is."""
        (row,) = await looked_up(self.look, "reading the database's identity", _IDENTITY)
        return row_as(DatabaseIdentity, row)

    async def configurations(self) -> dict[str, dict[str, str]]:
        """Return the fingerprints of each living replica's sections, by its holder."""
        rows = await looked_up(self.look, "reading what replicas are configured with", _CONFIGURATIONS)
        return {row["holder"]: json.loads(row["sections"]) for row in rows}

    async def unemptied_since(self, age: timedelta) -> datetime | None:
        """Return of when the change log holds rows, where it has not been emptied for `age`."""
        oldest: datetime | None = await self._value("looking at the change log", _SQL["change_log"], age)
        return oldest

    async def table(self, name: str) -> Table | None:
        """Return the table of that name, spelled as in SQL."""
        rows = await looked_up(self.look, f"looking for {name}", _SQL["table"], name)
        return row_as(Table, rows[0]) if rows else None

    async def sample_skus(self, table: Table, sku: str, most: int, most_rows: int = 1_000) -> list[str]:
        """Return some of the SKUs that rows of a watched table have; `sku` is the expression."""
        statement = _SQL["sample_skus"].replace("@table@", table.name).replace("@sku@", sku)
        async with self.look(f"reading SKUs of {table.name}") as connection:
            await connection.execute(_PLAIN_PATH)
            rows = await one_message.fetch(connection, statement, table.relation, most, most_rows)
        return [row["sku"] for row in rows]

    async def policies(self, table: str) -> list[tuple[str, str]]:
        """Return the row-level security policies of tables of that name: (table, policy)."""
        rows = await looked_up(self.look, f"looking for policies of {table}", _SQL["policies"], table)
        return [(row["name"], row["policy"]) for row in rows]

    async def hides_rows(self) -> bool:
        """Return whether policies would hide rows from the daemon's sessions without an error."""
        return bool(await self._value("looking at row_security", _SESSION["hides_rows"]))

    async def sample_fan_out(self, table: Table, skus: str, most: int) -> list[str]:
        """Return some of the SKUs that some rows of a watched table stand for; `skus` is the query for them."""
        statement = _FAN_OUT["sample"].replace("@table@", table.name).replace("@skus@", skus)
        async with self.look(f"running the query skus of {table.name}") as connection:
            rows = await one_message.fetch(connection, statement, table.relation, most)
        return [row["sku"] for row in rows]

    async def listen(self, channel: str, on_ring: Callable[[], None]) -> None:
        """LISTEN; `on_ring` is called for each notification."""
        with translated("listening"):
            await self._connection.add_listener(channel, lambda *_: on_ring())

    async def backend(self, channel: str) -> tuple[int, bool]:
        """Return which server process answers now, and whether it knows of the LISTEN: a round trip of its own."""
        with translated("looking at what is listened to"):
            (row,) = await self._connection.fetch(_SQL["backend"], channel)
        return row["pid"], row["is_listening"]

    async def notify(self, channel: str) -> None:
        """Ring a bell that only this connection listens to."""
        with translated("ringing a bell of our own"):
            await self._connection.execute(_SQL["notify"], channel)

    async def _value(self, doing: str, query: str, *arguments: object) -> Any:  # noqa: ANN401 - of any column
        async with self.look(doing) as connection:
            return await connection.fetchval(query, *arguments)

    async def rows(self, doing: str, statement: str) -> "AsyncGenerator[asyncpg.Record, None]":
        """Yield the rows of a query, which the server works out before it sends the first one. Behind a pooler, where
        the next transaction may get another session, rows are sent as they are found."""
        if self._is_pooled:
            async with self.look(doing) as connection:
                async for row in connection.cursor(statement, prefetch=_PAGE):
                    yield row
            return
        with translated(doing), _explained(doing):
            # What a commit has to work out, no time limit of the server's cuts; the driver's does.
            portions = held_rows.held_rows(self._connection, statement, _PAGE, self._limit)
            async with aclosing(portions):
                async for portion in portions:
                    for row in portion:
                        yield row

    async def columns(self, statement: str) -> tuple[tuple[str, str], ...]:
        """Return the columns of a query that gives no row, with their types' names."""
        doing = "looking at the columns"
        if self._is_pooled:
            async with self.look(doing) as connection:
                return held_rows.columns_of(await connection.prepare(statement, name=""))
        with translated(doing), _explained(doing):
            return await held_rows.columns(self._connection, statement, self._limit)

    @asynccontextmanager
    async def look(self, doing: str) -> AsyncIterator[RawConnection]:
        """Lend the connection, inside a read-only transaction with the time limit; errors are translated."""
        with translated(doing), _explained(doing):
            async with self._connection.transaction(readonly=True):
                await self._connection.fetch(_SQL["limit_time"], self._milliseconds)
                yield self._connection


@contextmanager
def _explained(doing: str) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise TookTooLong(f"{doing}: cut by the time limit") from error
    except (asyncpg.QueryCanceledError, asyncpg.InsufficientPrivilegeError) as error:
        if may_be_of_a_row(error):
            raise
        if isinstance(error, asyncpg.QueryCanceledError):
            raise TookTooLong(f"{doing}: cut by the time limit") from error
        raise Denied(f"{doing}: {error}") from error
