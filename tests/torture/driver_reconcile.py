"""`stockrelay reconcile` by hand, again and again; some are killed half-way."""

import asyncio
import random
from collections.abc import Sequence

from tests.torture.driver_sync import run_command
from tests.torture.world import World

SKUS = 0


async def drive(world: World, skus: Sequence[str], chance: random.Random) -> None:  # noqa: ARG001 - all of them
    while True:
        await asyncio.sleep(chance.uniform(1, 5))
        with world.during("reading back"):
            await run_command(world, chance, "reconcile")
