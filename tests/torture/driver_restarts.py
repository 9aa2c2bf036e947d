"""The replicas are restarted in turn, as an upgrade does."""

import asyncio
import random
from collections.abc import Sequence

from tests.torture.world import World

SKUS = 0


async def drive(world: World, skus: Sequence[str], chance: random.Random) -> None:  # noqa: ARG001 - all of them
    while True:
        await asyncio.sleep(chance.uniform(4, 12))
        async with world.one_replica(chance) as replica:
            await world.restart(replica)
