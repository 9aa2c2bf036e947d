"""Products leave the listing and come back."""

import asyncio
import random
from collections.abc import Sequence

from tests.torture.erp import Session, Statement
from tests.torture.world import World

SKUS = 8


async def drive(world: World, skus: Sequence[str], chance: random.Random) -> None:
    async with Session(world) as session:
        while True:
            await asyncio.sleep(chance.uniform(0.5, 2))
            sku = chance.choice(skus)
            newest = world.history.newest(sku)
            if newest is not None and newest.number:
                await session.change({sku: None}, ("DELETE FROM erp.stock WHERE sku = $1", (sku,)))
            else:
                number = world.history.number()
                insert: Statement = (
                    "INSERT INTO erp.stock VALUES ($1, 'PN-' || $1, 'AMS', $2)",
                    (sku, number),
                )
                await session.change({sku: number}, insert)
