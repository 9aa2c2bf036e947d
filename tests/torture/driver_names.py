"""SKUs in other scripts, with quotes, with what a URL or a pattern would have to escape."""

import asyncio
import random
from collections.abc import Sequence

from tests.torture.erp import Session, set_numbers
from tests.torture.world import World

SKUS = (
    "1211LL的ON2",
    "O'Neil",
    'a"b',
    "50%_",
    "back\\slash",
    "x y&z=1",
    "Größe-ß",
    "Ω/±5%",
    "<b>",
    "İstanbul",
)

KINDS = {"encodings": SKUS}


async def drive(world: World, skus: Sequence[str], chance: random.Random) -> None:
    async with Session(world) as session:
        while True:
            sku, number = chance.choice(skus), world.history.number()
            if await session.change({sku: number}, set_numbers({sku: number})):
                world.kinds["encodings"][sku] += 1
            await asyncio.sleep(chance.uniform(0.2, 0.8))
