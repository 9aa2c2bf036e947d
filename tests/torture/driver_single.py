"""Sales: one SKU at a time, some of them to zero."""

import asyncio
import random
from collections.abc import Sequence

from tests.torture.erp import Session, set_numbers
from tests.torture.world import World

SKUS = 60


async def drive(world: World, skus: Sequence[str], chance: random.Random) -> None:
    async with Session(world) as session:
        while True:
            sku = chance.choice(skus[:10] if chance.random() < 0.4 else skus)
            newest = world.history.newest(sku)
            is_sold_out = chance.random() < 0.05 and newest is not None and newest.number > 0
            number = 0 if is_sold_out else world.history.number()
            await session.change({sku: number}, set_numbers({sku: number}))
            await asyncio.sleep(chance.uniform(0.02, 0.15))
