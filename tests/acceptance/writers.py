"""The ERP's sessions that change stock. Each change of a SKU sets a larger number: a number says how old it is."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import asyncpg

from tests.acceptance.harness import Stage
from tests.acceptance.oracle import Connection
from tests.channels import SEKORM

GONE: Final = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.exceptions.OperatorInterventionError,
)

_HOT = 10


@dataclass(slots=True)
class Load:
    """What the writers have done so far; `on_commit(sku, number)` is called after each change when it is set."""

    changes: int = 0
    lost_connections: int = 0
    on_commit: Callable[[str, int], None] | None = None


@asynccontextmanager
async def writing(
    dsn: str, skus: int, chance: random.Random, *, writers: int = 2, per_s: float = 100.0
) -> AsyncIterator[Load]:
    """Change random SKUs of SKU-1 to SKU-n one by one, `per_s` a second over all writers, until the end of the block.
    Half of the changes are of the same few SKUs: as in a shop, and so that newer numbers follow closely.

    A writer that loses its connection goes on with a new one.
    """
    load = Load()
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for writer in range(writers):
            mine = [f"SKU-{n}" for n in range(1, skus + 1) if n % writers == writer]
            group.create_task(_write(dsn, mine, random.Random(chance.random()), writers / per_s, stop, load))
        try:
            yield load
        finally:
            stop.set()


async def _write(
    dsn: str, skus: list[str], chance: random.Random, pause_s: float, stop: asyncio.Event, load: Load
) -> None:
    connection: Connection | None = None
    try:
        while not stop.is_set():
            try:
                connection = connection or await asyncpg.connect(dsn, timeout=5)
                sku = chance.choice(skus if chance.random() < 0.5 else skus[:_HOT])
                number = await connection.fetchval(
                    "UPDATE erp.stock SET on_hand = on_hand + 1 WHERE sku = $1 RETURNING on_hand",
                    sku,
                    timeout=10,
                )
            except GONE:
                load.lost_connections += 1
                if connection is not None:
                    connection.terminate()
                connection = None
            else:
                load.changes += 1
                if load.on_commit is not None:
                    load.on_commit(sku, number)
            await asyncio.sleep(chance.uniform(0, 2 * pause_s))
    finally:
        if connection is not None:
            connection.terminate()


async def sell_out(stage: Stage, number: int) -> float:
    """Sell SKU-`number` out; return the seconds from the commit until Sekorm has the zero."""
    began = time.monotonic()
    await stage.erp.execute("UPDATE erp.stock SET on_hand = 0 WHERE sku = $1", f"SKU-{number}")
    await stage.simulator.wait_until(
        lambda: stage.simulator.state.quantity(SEKORM, (f"PN-{number}", "AMS")) == 0, timeout=30
    )
    return time.monotonic() - began


async def burst(dsn: str, skus: int, changes: int, seconds: float, *, writers: int = 4) -> tuple[int, float]:
    """Make at least `changes` changes on SKU-1 to SKU-n, spread over `seconds` where the machine can; return how many
    row changes were committed, and the seconds they took."""
    began = time.monotonic()
    made = await asyncio.gather(
        *(
            _burst(
                dsn,
                [f"SKU-{n}" for n in range(1, skus + 1) if n % writers == writer],
                changes // writers,
                seconds,
            )
            for writer in range(writers)
        )
    )
    return sum(made), time.monotonic() - began


async def _burst(dsn: str, skus: list[str], changes: int, seconds: float) -> int:
    """A statement changes five SKUs; fifty statements, sent without waiting for answers, are a transaction."""
    connection = await asyncpg.connect(dsn)
    began = time.monotonic()
    groups = [skus[n : n + 5] for n in range(0, len(skus), 5)]
    made = turn = 0
    try:
        while made < changes:
            batch = [groups[(turn + n) % len(groups)] for n in range(50)]
            turn += len(batch)
            await connection.executemany(
                "UPDATE erp.stock SET on_hand = on_hand + 1 WHERE sku = ANY ($1::text[])",
                [(group,) for group in batch],
            )
            made += sum(map(len, batch))
            await asyncio.sleep(max(0.0, began + seconds * made / changes - time.monotonic()))
    finally:
        connection.terminate()
    return made
