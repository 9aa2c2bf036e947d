"""Signals to the daemons."""

import asyncio
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from tests.torture.contract import Fault
from tests.torture.world import World


@asynccontextmanager
async def killed(world: World, chance: random.Random) -> AsyncIterator[None]:
    """kill -9 wherever it is; another one takes over, and later it starts again."""
    async with world.one_replica(chance) as replica:
        await replica.kill()
        yield
        await world.start(replica)


@asynccontextmanager
async def stopped(world: World, chance: random.Random) -> AsyncIterator[None]:
    """SIGSTOP, past the lease, and SIGCONT."""
    async with world.one_replica(chance) as replica:
        replica.suspend()
        try:
            yield
        finally:
            replica.resume()


@asynccontextmanager
async def reloaded(world: World, chance: random.Random) -> AsyncIterator[None]:
    """SIGHUP with another rate, twice."""
    for rate in (chance.randrange(50, 200), 200):
        async with world.processes:
            world.configure(channel={"rate_per_s": rate})
            for replica in world.replicas[:2]:
                if replica.is_running:
                    replica.signal(signal.SIGHUP)
        if rate != 200:
            yield


@asynccontextmanager
async def third(world: World, chance: random.Random) -> AsyncIterator[None]:
    """One replica more, by mistake."""
    number = len(world.replicas) + 1
    replica = await world.add_replica(f"more-{number}")
    yield
    await asyncio.sleep(chance.uniform(0, 1))
    await replica.stop(signal.SIGTERM, timeout=40)


FAULTS: Final = (
    Fault(1, "kill -9", killed, group="processes", seconds=3),
    Fault(11, "stopped past its lease", stopped, group="processes", seconds=5, hides_ends=True),
    Fault(27, "reload while working", reloaded, group="processes"),
    Fault(12, "a third replica", third, group="processes", seconds=4),
)
