"""Takes our triggers and our schema out of a database that the ERP goes on writing to.

A DROP SCHEMA alone locks every watched table and our own in one transaction, in an order of its own, and deadlocks with
the ERP's transactions. Here every step locks one of the ERP's tables at most, waits for it only briefly and is tried
again. Each leaves a database that works: without some triggers at first, then without the schema.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import Final

import asyncpg

from daemon.core.errors import StoreRefused
from daemon.store import queries
from daemon.store.connecting import ConnectOptions, connect
from daemon.store.driver_errors import translated
from daemon.store.locks import Blocker
from daemon.store.rows import RawConnection

_SQL: Final = queries.load("uninstall")
_PHASES: Final = (("triggers", 1_000), ("partitions", 10_000), ("schema", 60_000))
"""What is removed, in this order, and how many milliseconds a step may take. A step of the first kind has a table of
the ERP locked."""
_MARGIN_S: Final = 5.0
_TRIES: Final = 30
_PAUSE_S: Final = 1.0
_LATER: Final = (
    asyncpg.LockNotAvailableError,
    asyncpg.QueryCanceledError,
    asyncpg.DeadlockDetectedError,
    asyncpg.ObjectInUseError,
)
"""Errors that are worth a retry."""


@dataclass(frozen=True, slots=True)
class Installation:
    """What of ours stands in a database, and why it must not be removed now (None: it may be)."""

    database: str
    parts: Sequence[str]
    refusal: str | None


@dataclass(frozen=True, slots=True)
class Removed:
    """What was removed, and the SQL with which a DBA removes our roles (None: they own something else)."""

    parts: Sequence[str]
    roles_sql: str | None


async def inspect(options: ConnectOptions, *, is_forced: bool) -> Installation | None:
    """Return what would be removed; None where nothing of ours is. `is_forced`: even while daemons run."""
    async with _session(options) as session:
        return await _inspect(session, is_forced=is_forced)


async def uninstall(options: ConnectOptions, *, is_forced: bool) -> Removed:
    """Remove the triggers, then the schema; may be repeated after a failure. Raises StoreUnavailable and StoreRefused
    (daemons run, the schema is another role's, something depends on it, a table stays locked)."""
    async with _session(options) as session:
        found = await _inspect(session, is_forced=is_forced)
        if found is None:
            return Removed([], None)
        if found.refusal is not None:
            raise StoreRefused(found.refusal)
        roles = [row["rolname"] for row in await session.fetch(_SQL["roles"])]
        parts = await _remove(session)
        return Removed(parts, await session.fetchval(_SQL["removable_roles"], roles))


@asynccontextmanager
async def _session(options: ConnectOptions) -> AsyncIterator[RawConnection]:
    session = await connect(options)
    try:
        with translated("removing the schema stockrelay"):
            await session.execute(_SQL["session"])
            yield session
    finally:
        session.terminate()


async def _inspect(session: RawConnection, *, is_forced: bool) -> Installation | None:
    schema = await session.fetchrow(_SQL["installation"])
    if schema is None:
        return None
    refusal = _refusal_of_schema(schema) or await _refusal_of_use(
        session, looks_for_daemons=schema["has_replicas"] and not is_forced
    )
    parts = [row["removes"] for phase in ("triggers", "schema") for row in await session.fetch(_SQL[phase])]
    return Installation(schema["database"], parts, refusal)


def _refusal_of_schema(schema: asyncpg.Record) -> str | None:
    if not schema["is_owner"]:
        return f"the schema stockrelay belongs to {schema['owner']}: run `stockrelay uninstall` as that role"
    if not schema["is_ours"]:
        return (
            "the schema stockrelay holds something, but no version of ours (alembic_version): look at what is in it, "
            "and drop it by hand"
        )
    return None


async def _refusal_of_use(session: RawConnection, *, looks_for_daemons: bool) -> str | None:
    if dependents := [row["dependent"] for row in await session.fetch(_SQL["dependents"])]:
        return (
            f"it would remove objects that are not ours: {'; '.join(dependents)}. Drop or change that first"
        )
    if looks_for_daemons and (daemons := [row["holder"] for row in await session.fetch(_SQL["replicas"])]):
        return (
            f"daemons run: {', '.join(daemons)}. Stop them first, or give --force; one that was killed counts until "
            "its lease has run out (run.lease_s)"
        )
    return None


async def _remove(session: RawConnection) -> list[str]:
    """Remove everything, a step at a time. A table that stays locked does not keep the others' triggers."""
    removed: list[str] = []
    for tries in count(1):
        locked = await _try_all(session, removed)
        if locked is None:
            return removed
        if tries == _TRIES:
            raise StoreRefused(await _say_locked(session, locked, removed))
        await asyncio.sleep(_PAUSE_S)
    raise AssertionError("counting has no end")


async def _try_all(session: RawConnection, removed: list[str]) -> asyncpg.Record | None:
    """Try each step that is left, phase by phase; return one that could not be taken, None: nothing is left."""
    for phase, limit_ms in _PHASES:
        locked = None
        await session.execute(_SQL["unlimited"])
        steps = await session.fetch(_SQL[phase])
        await session.fetchrow(_SQL["limits"], limit_ms)
        for step in steps:
            try:
                # The server ends a step that takes too long: the session's own limit is shorter.
                await session.execute(step["statement"], timeout=limit_ms / 1000 + _MARGIN_S)
            except _LATER:
                locked = step
            else:
                removed += [step["removes"]] if step["removes"] is not None else []
        if locked is not None:
            return locked
    return None


async def _say_locked(session: RawConnection, step: asyncpg.Record, removed: Sequence[str]) -> str:
    await session.execute(_SQL["unlimited"])
    holders = [str(Blocker(**row)) for row in await session.fetch(_SQL["holders"], step["relations"])]
    return (
        f"could not get a lock: {'; '.join(holders) or 'another session holds it'}. "
        f"Removed so far: {', '.join(removed) or 'nothing'}. Run `stockrelay uninstall` again once it is released; "
        "`stockrelay migrate` sets everything up again"
    )
