"""What the ERP does to its own tables: slow listings, changed tables, replicated sessions, long transactions."""

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

from tests.torture.contract import Fault
from tests.torture.erp import Session
from tests.torture.world import LISTING, World

CHANGES: Final[dict[str, Sequence[str]]] = {
    "column added": ("ALTER TABLE erp.stock ADD more integer DEFAULT 0",),
    "column dropped": (
        "ALTER TABLE erp.stock ADD COLUMN IF NOT EXISTS more integer",
        "ALTER TABLE erp.stock DROP COLUMN IF EXISTS more",
    ),
    "column renamed": (
        "ALTER TABLE erp.stock RENAME brand TO maker",
        "ALTER TABLE erp.stock RENAME maker TO brand",
    ),
    "index made": ("CREATE INDEX IF NOT EXISTS more ON erp.stock (part_no)", "DROP INDEX erp.more"),
    "table renamed": (
        "BEGIN; ALTER TABLE erp.stock RENAME TO goods; ALTER TABLE erp.goods RENAME TO stock; COMMIT",
    ),
    "rewritten": ("VACUUM FULL erp.stock",),
    "clustered": ("CLUSTER erp.stock USING stock_pkey",),
    "storage changed": ("ALTER TABLE erp.stock SET (fillfactor = 60)",),
    "replica identity": (
        "ALTER TABLE erp.stock REPLICA IDENTITY FULL",
        "ALTER TABLE erp.stock REPLICA IDENTITY DEFAULT",
    ),
    "trigger of its own": (
        "CREATE OR REPLACE FUNCTION erp.seen() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "CREATE OR REPLACE TRIGGER aaa BEFORE UPDATE ON erp.stock FOR EACH ROW EXECUTE FUNCTION erp.seen()",
        "DROP TRIGGER aaa ON erp.stock",
    ),
}
KINDS: Final = {"DDL": tuple(CHANGES)}


@asynccontextmanager
async def altered(world: World, chance: random.Random) -> AsyncIterator[None]:
    """DDL on the watched table."""
    async with Session(world) as session:
        for _ in range(2):
            kind = world.rarest("DDL", list(CHANGES), chance)
            await session.run(*CHANGES[kind])
            world.kinds["DDL"][kind] += 1
        yield
        await session.run("ALTER TABLE erp.stock DROP COLUMN IF EXISTS more")


@asynccontextmanager
async def slow(world: World, chance: random.Random) -> AsyncIterator[None]:
    """One channel's listing takes long."""
    pause_s = chance.choice((0.5, 2, 6))
    async with Session(world) as session:
        await session.run(
            f"CREATE OR REPLACE VIEW erp.for_sekorm AS {LISTING}, (SELECT pg_sleep({pause_s})) AS s"
        )
        try:
            yield
        finally:
            await session.run(f"CREATE OR REPLACE VIEW erp.for_sekorm AS {LISTING}")


@asynccontextmanager
async def failing(world: World, chance: random.Random) -> AsyncIterator[None]:  # noqa: ARG001
    """One channel's listing fails on one row."""
    bad = LISTING.replace("on_hand AS", "on_hand / (CASE sku WHEN 'SINGLE-1' THEN 0 ELSE 1 END) AS")
    async with Session(world) as session:
        await session.run(f"CREATE OR REPLACE VIEW erp.for_sekorm AS {bad}")
        try:
            yield
        finally:
            await session.run(f"CREATE OR REPLACE VIEW erp.for_sekorm AS {LISTING}")


@asynccontextmanager
async def hidden(world: World, chance: random.Random) -> AsyncIterator[None]:  # noqa: ARG001
    """Row-level security appears that would hide half of the rows from one channel's listing."""
    async with Session(world) as session:
        await session.run(
            "CREATE POLICY half ON erp.stock USING (sku < 'M')",
            "ALTER TABLE erp.stock ENABLE ROW LEVEL SECURITY",
        )
        try:
            yield
        finally:
            await session.run(
                "ALTER TABLE erp.stock DISABLE ROW LEVEL SECURITY", "DROP POLICY IF EXISTS half ON erp.stock"
            )


def _as_replica(world: World, chance: random.Random) -> AbstractAsyncContextManager[None]:
    return _everybody(world, chance, "SET session_replication_role = replica")


def _everybody(world: World, chance: random.Random, setting: str) -> AbstractAsyncContextManager[None]:
    """New sessions have this setting; the drivers' are made anew."""

    @asynccontextmanager
    async def setting_there() -> AsyncIterator[None]:
        name = world.database.name
        async with Session(world) as session:
            await session.run(f"ALTER DATABASE {name} {setting}", _ENDED)
            try:
                yield
            finally:
                await session.run(f"ALTER DATABASE {name} RESET {setting.split()[1]}", _ENDED)

    del chance
    return setting_there()


_ENDED: Final = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '' "
    "AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
)
_ODD: Final = (
    "SET DateStyle = 'German, DMY'",
    "SET standard_conforming_strings = off",
    "SET enable_seqscan = off",
)


def _odd(world: World, chance: random.Random) -> AbstractAsyncContextManager[None]:
    return _everybody(world, chance, chance.choice(_ODD))


FAULTS: Final = (
    Fault(29, "DDL on the watched table", altered, group="erp", reaches_erp=True),
    Fault(31, "slow listing", slow, group="erp", seconds=5),
    Fault(30, "a row on which the listing fails", failing, group="erp", seconds=3),
    Fault(34, "row-level security", hidden, group="erp", seconds=3, reaches_erp=True),
    Fault(24, "replica role", _as_replica, group="sessions", seconds=3, reaches_erp=True),
    Fault(24, "odd settings of sessions", _odd, group="sessions", seconds=3, reaches_erp=True),
)
