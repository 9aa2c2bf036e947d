"""Brings the schema to this version and the triggers to the configuration."""

import asyncio
import io
import json
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import asyncpg

from daemon.core.errors import SchemaMismatch, StoreRefused, StoreUnavailable
from daemon.store import queries
from daemon.store.connecting import ConnectOptions, connect, keep_alive, reach
from daemon.store.driver_errors import translated
from daemon.store.grants import daemon_grants
from daemon.store.locks import Blocker
from daemon.store.rows import RawConnection

# Alembic and SQLAlchemy take half of a second to load, and only a migration needs them: where one is made.
if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection

_PACKAGE: Final = Path(__file__).resolve().parent.parent
_SQL = queries.load("migrate")
_NOT_ALWAYS: Final = (
    "the triggers do not fire in replicated sessions (only the table's owner can enable that)"
)
_TRIES: Final = 20
_PAUSE_S: Final = 0.5


class FanOut(NamedTuple):
    """A watched table whose rows stand for many SKUs: `skus` is the query for them, over the row `changed`."""

    table: str
    skus: str


def scripts() -> Path:
    """Return the folder of the migrations: in the package, or beside it in the repository."""
    installed = _PACKAGE / "_migrations"
    return installed if installed.is_dir() else _PACKAGE.parent / "migrations"


def _config(**attributes: object) -> "Config":
    from alembic.config import Config

    config = Config(attributes=attributes)
    config.set_main_option("script_location", str(scripts()))
    config.set_main_option("path_separator", "os")
    return config


def head() -> str:
    """Return the schema version that this program wants: the newest of the migrations, whose folders begin with it."""
    return versions()[-1]


def versions() -> list[str]:
    """Return the schema versions that this program knows, oldest first."""
    return sorted(path.name.partition("_")[0] for path in (scripts() / "versions").glob("[0-9]*_*"))


async def migrate(
    options: ConnectOptions,
    watches: Sequence[tuple[str, str]],
    *,
    has_doorbell: bool,
    grant_to: str | None = None,
) -> list[str]:
    """Create or upgrade the schema, then set the triggers on the watched tables (name, SKU expression); return the
    lines to print. `grant_to`: a role of its own that gets the daemon's rights. It is one transaction, so that what
    fails leaves nothing behind, and replicas that start at once wait for each other. Raises StoreUnavailable,
    StoreRefused (rights, or a table or expression that does not work), SchemaMismatch (the schema is a newer
    program's)."""
    for is_first in (True, False):
        try:
            return await _migrate(options, watches, has_doorbell, grant_to)
        except StoreRefused as error:
            # Another first migration has made the schema or a table of it since we looked.
            if not (is_first and isinstance(error.__cause__, asyncpg.UniqueViolationError)):
                raise
    raise AssertionError("the second try has returned or raised")


async def _migrate(
    options: ConnectOptions, watches: Sequence[tuple[str, str]], has_doorbell: bool, grant_to: str | None
) -> list[str]:
    with translated("connecting to the database"):
        # No time limit for a statement: a migration takes as long as the tables are large.
        session = await reach(**(options.arguments() | {"command_timeout": None}))
    keep_alive(session)
    try:
        with translated("migrating the schema stockrelay"):
            async with session.transaction(isolation="read_committed"):
                before = await _begin(session)
                await _upgrade(session)
                if grant_to is not None:
                    with translated(f"granting rights to {grant_to}"):
                        await session.execute(daemon_grants(grant_to))
                prepared = await session.fetchval(_SQL["prepared"])
                # Last, as the ERP's writers wait from here to the commit.
                rows = await _set_watches(session, watches, has_doorbell)
    finally:
        session.terminate()
    lines = [f"schema stockrelay: version {head()}" + (" (unchanged)" if before == head() else "")]
    for row in rows:
        watched = f"watching {row['name']} ({_watched_by(row)})"
        lines.append(watched if row["is_always"] else f"{watched}; {_NOT_ALWAYS}")
    if has_doorbell and prepared:
        lines.append(
            f"the doorbell is on, and transactions can be prepared (max_prepared_transactions = {prepared}): "
            "one that is prepared does not ring, and its changes are found by polling"
        )
    return lines + ([] if grant_to is None else [f"{grant_to} may do what the daemon does"])


async def _begin(session: RawConnection) -> str | None:
    """Make the schema if it is not there, keep other migrations out until the end, and return the version it has."""
    with translated("creating the schema stockrelay"):
        await session.execute(_SQL["create_schema"])
        if await session.fetchval(_SQL["has_version_table"]) is None:
            return None
    try:
        async with session.transaction():
            await session.execute(_SQL["wait_long_for_locks"])
            await session.execute(_SQL["lock"])
    except asyncpg.LockNotAvailableError as error:
        holders = "; ".join([str(Blocker(**row)) for row in await session.fetch(_SQL["holders"])])
        raise StoreRefused(
            f"waiting for another migration: {holders or 'stockrelay.alembic_version is locked'}; run `stockrelay "
            "migrate` again when that has ended"
        ) from error
    await session.execute(_SQL["wait_briefly_for_locks"])
    before = await _current(session)
    if before is None:
        raise StoreRefused(
            "the schema stockrelay came here without its rows (pg_dump --schema-only leaves them out); restore them, "
            "or run `stockrelay uninstall` and then `stockrelay migrate` again"
        )
    _refuse_newer(before)
    return before


async def _set_watches(
    session: RawConnection, watches: Sequence[tuple[str, str]], has_doorbell: bool
) -> list[asyncpg.Record]:
    """Try for a while: a table that stays locked by a writer is not waited for, as other writers would wait too."""
    for tries in count(1):
        try:
            with translated("setting the triggers"):
                async with session.transaction():
                    await session.execute(_SQL["limit_idle_time"])
                    await session.execute(_SQL["set_doorbell"], has_doorbell)
                    return await session.fetch(_SQL["set_watches"], watches_json(watches))
        except StoreRefused as error:
            # The server names the table, and neither the key that it stands in nor what may be wrong with it.
            if not isinstance(error.__cause__, (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError)):
                raise
            raise StoreRefused(
                f"{error}; correct watch.table: with its schema, and in quotes if it has capitals"
            ) from error
        except StoreUnavailable as error:
            if not isinstance(error.__cause__, asyncpg.LockNotAvailableError):
                raise
            if tries == _TRIES:
                raise StoreRefused(
                    "setting the triggers: a watched table stayed locked by another session; see pg_locks, "
                    "and run `stockrelay migrate` again when it has ended"
                ) from error
        await asyncio.sleep(_PAUSE_S)
    raise AssertionError("counting has no end")


async def _upgrade(session: RawConnection) -> None:
    """Run the migrations inside the transaction of `session`: each is a savepoint of it."""
    from alembic import command
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.ext.asyncio import create_async_engine
    from sqlalchemy.pool import StaticPool

    async def ours() -> RawConnection:
        return session

    # Never disposed of, which would close the connection: it is the caller's.
    engine = create_async_engine("postgresql+asyncpg://", async_creator=ours, poolclass=StaticPool)

    def run(connection: "Connection") -> None:
        command.upgrade(_config(connection=connection), "head")

    # What the migrations name without a schema is the server's own: not what a stranger has put into the owner's path.
    await session.execute(_SQL["servers_path"])
    try:
        async with engine.connect() as connection:
            await connection.run_sync(run)
    except DBAPIError as error:
        if error.orig is not None and isinstance(error.orig.__cause__, asyncpg.PostgresError):
            raise error.orig.__cause__ from error
        raise
    await session.execute(_SQL["own_path"])


def migration_sql(
    watches: Sequence[tuple[str, str]], *, has_doorbell: bool, grant_to: str | None = None
) -> str:
    """Return everything `migrate` would run on an empty database, for review or for another tool to run."""
    from alembic import command

    buffer = io.StringIO()
    config = _config()
    config.output_buffer = buffer
    command.upgrade(config, "head", sql=True)
    set_up = _SQL["set_up_offline"].replace("@doorbell@", str(has_doorbell).lower())
    set_up = set_up.replace("@watches@", watches_json(watches).replace("'", "''"))
    grants = "" if grant_to is None else f"\n{daemon_grants(grant_to)}\n"
    return buffer.getvalue() + set_up + "\n" + grants


def _watched_by(row: asyncpg.Record) -> str:
    return f"sku: {row['sku']}" if row["skus"] is None else f"skus: {' '.join(row['skus'].split())}"


def watches_json(watches: Sequence[tuple[str, str]]) -> str:
    """Return the watches as `set_watches` takes them."""
    return json.dumps(
        [{"table": each[0], "skus" if isinstance(each, FanOut) else "sku": each[1]} for each in watches],
        ensure_ascii=False,
    )


async def _current(connection: RawConnection) -> str | None:
    if await connection.fetchval(_SQL["has_version_table"]) is None:
        return None
    version: str | None = await connection.fetchval(_SQL["version"])
    return version


async def check_version(options: ConnectOptions) -> None:
    """Raise SchemaMismatch unless the schema is of this program's version."""
    connection = await connect(options)
    try:
        with translated("reading the schema's version"):
            current = await _current(connection)
    finally:
        connection.terminate()
    if current is None:
        raise SchemaMismatch("the schema stockrelay is missing; run `stockrelay migrate` as its owner")
    _refuse_newer(current)
    if current != head():
        raise SchemaMismatch(f"{_versions(current)}; run `stockrelay migrate` as its owner")


def _refuse_newer(current: str | None) -> None:
    """A newer program's schema is not touched, and not worked with: what it means is not known here."""
    if current is not None and current not in versions():
        raise SchemaMismatch(f"{_versions(current)}; this program is older: upgrade it")


def _versions(current: str) -> str:
    return f"the schema stockrelay has version {current}, this program wants {head()}"
