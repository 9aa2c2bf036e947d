"""What other sessions of the database do: locks, old snapshots, advisory locks, bells."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

import asyncpg

from tests.acceptance.oracle import Connection
from tests.torture.contract import Fault
from tests.torture.erp import LOST
from tests.torture.world import World

TABLES: Final = ("ledger", "attempt", "lease", "read_position", "notice", "token")
KINDS: Final = {"locks of strangers": TABLES}


@asynccontextmanager
async def _session(world: World) -> AsyncIterator[Connection | None]:
    """A session; None while the server is down. What it has open ends with it."""
    try:
        connection = await asyncpg.connect(world.database.dsn, timeout=5)
    except LOST:
        yield None
        return
    try:
        yield connection
    finally:
        connection.terminate()


@asynccontextmanager
async def locked(world: World, chance: random.Random) -> AsyncIterator[None]:
    """A stranger locks one of our tables."""
    async with _session(world) as session:
        if session is not None:
            table = world.rarest("locks of strangers", TABLES, chance)
            with suppress(*LOST, asyncpg.PostgresError):
                await session.execute(
                    f"BEGIN; SET LOCAL lock_timeout = '1s'; LOCK TABLE stockrelay.{table}", timeout=5
                )
                world.kinds["locks of strangers"][table] += 1
        yield


@asynccontextmanager
async def old_snapshot(world: World, chance: random.Random) -> AsyncIterator[None]:  # noqa: ARG001
    """A transaction stays open that keeps dead rows from being removed."""
    async with _session(world) as session:
        if session is not None:
            with suppress(*LOST, asyncpg.PostgresError):
                await session.execute(
                    "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT pg_current_xact_id()", timeout=5
                )
        yield


@asynccontextmanager
async def squatted(world: World, chance: random.Random) -> AsyncIterator[None]:  # noqa: ARG001
    """A stranger takes the doorbell's advisory locks."""
    async with _session(world) as session:
        if session is not None:
            with suppress(*LOST, asyncpg.PostgresError):
                await session.execute(
                    "BEGIN; SELECT pg_advisory_xact_lock(7830361, n) FROM generate_series(0, 20) AS n",
                    timeout=5,
                )
        yield


@asynccontextmanager
async def rung(world: World, chance: random.Random) -> AsyncIterator[None]:  # noqa: ARG001
    """A stranger rings the doorbell in a loop."""

    async def ring(session: Connection) -> None:
        with suppress(*LOST, asyncpg.PostgresError):
            while True:
                await session.execute("SELECT pg_notify('stockrelay', '')")
                await asyncio.sleep(0.01)

    async with _session(world) as session:
        ringing = asyncio.create_task(ring(session)) if session is not None else None
        try:
            yield
        finally:
            if ringing is not None:
                ringing.cancel()
                await asyncio.wait([ringing])


FAULTS: Final = (
    Fault(8, "our tables locked", locked, group="locks", seconds=3),
    Fault(8, "old snapshot held", old_snapshot, seconds=8),
    Fault(35, "advisory locks taken", squatted, seconds=4),
    Fault(35, "bells in a loop", rung, seconds=3),
)
