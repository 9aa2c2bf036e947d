"""An import: many SKUs in one transaction."""

import asyncio
import random
from collections.abc import Sequence

from tests.torture.erp import Session, set_numbers
from tests.torture.world import World

SKUS = 60


async def drive(world: World, skus: Sequence[str], chance: random.Random) -> None:
    async with Session(world) as session:
        while True:
            await asyncio.sleep(chance.uniform(2, 5))
            numbers = {sku: world.history.number() for sku in skus}
            await session.change(numbers, set_numbers(numbers))
