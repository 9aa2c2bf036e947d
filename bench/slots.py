"""What one replica and two carry, and what a push costs the database: the figures that docs/scaling.md uses."""

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Final

from bench.captures import LISTING, OURS, make_stock
from bench.drain import rate_of, written
from bench.marketplaces import simulated_marketplaces
from bench.place import CONDITIONS, Connection, Place, connected, daemon_setup
from bench.programs import BenchError, Program
from bench.results import Result, row
from daemon.core.types import SLOTS

NAME: Final = "slots"
SKUS: Final = 20_000
CONCURRENCY: Final = 32
_LONGEST_S: Final = 120.0
_SHARED_S: Final = 30.0
_SHARES: Final = """
    SELECT count(*) FROM stockrelay.lease WHERE holder IS NOT NULL AND until >= clock_timestamp() GROUP BY holder"""


async def measure(place: Place) -> Result:
    """A backlog, for one replica with all slots and for two with half of them each."""
    skus = int(SKUS * place.size.scale)
    rate: dict[str, list[float]] = {}
    cost: dict[str, list[float]] = {}
    for replicas in (1, 2):
        name = f"{replicas} replica{'s' if replicas > 1 else ''}"
        dsn = place.database(f"{NAME}_{replicas}")
        async with AsyncExitStack() as stack:
            end = await stack.enter_async_context(simulated_marketplaces())
            writer = await stack.enter_async_context(connected(dsn))
            await make_stock(writer, OURS, skus)
            setup = stack.enter_context(
                daemon_setup(dsn, end.url, LISTING, rate_per_s=10_000, concurrency=CONCURRENCY * replicas)
            )
            await setup.migrate()
            daemons = [await stack.enter_async_context(setup.run()) for _ in range(replicas)]
            await _shared(writer, daemons, SLOTS // replicas)
            await end.wait_for(skus, _LONGEST_S, daemons[0])
            for daemon in daemons:
                await written(writer, daemon)
            for number in range(max(1, place.size.rounds // 3)):
                await end.reset()
                before = place.server_cpu_s
                await writer.execute("UPDATE erp.stock SET on_hand = $1", 1_100 + number)
                await end.wait_for(skus, _LONGEST_S, daemons[0])
                for daemon in daemons:
                    await written(writer, daemon)
                cost.setdefault(name, []).append((place.server_cpu_s - before) / skus * 1e6)
                rate.setdefault(name, []).append(rate_of(await end.journal(), skus))
                await writer.execute("VACUUM erp.stock")
    first = next(iter(rate))
    return Result(
        NAME,
        f"drain of {skus:,} SKUs, one channel, {CONCURRENCY} requests at a time in each replica",
        f"daemons, database, marketplace and writer on the same cores; {CONDITIONS}",
        [row(name, "push/s", values, rate[first]) for name, values in rate.items()]
        + [
            row(f"{name}: PostgreSQL's processor time a push", "µs", cost[name], cost[first]) for name in cost
        ],
        [],
    )


async def _shared(writer: Connection, daemons: list[Program], each: int) -> None:
    """Wait until every replica has this many slots."""
    deadline = time.monotonic() + _SHARED_S
    while [record[0] for record in await writer.fetch(_SHARES)] != [each] * len(daemons):
        for daemon in daemons:
            daemon.check()
        if time.monotonic() > deadline:
            raise BenchError(f"{len(daemons)} replicas do not have {each} slots each")
        await asyncio.sleep(0.1)
