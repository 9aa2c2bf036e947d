"""Products get other part numbers: the old ones are told zero."""

import asyncio
import random
from collections.abc import Sequence

from tests.torture.erp import Session
from tests.torture.world import World

SKUS = 8


async def drive(world: World, skus: Sequence[str], chance: random.Random) -> None:
    async with Session(world) as session:
        while True:
            await asyncio.sleep(chance.uniform(1, 3))
            sku, number = chance.choice(skus), world.history.number()
            part_no = f"PN-{sku}-{number}"
            rename = (
                "UPDATE erp.stock SET part_no = $2, on_hand = $3 WHERE sku = $1",
                (sku, part_no, number),
            )
            if await session.change({sku: number}, rename):
                world.named(sku, part_no)
