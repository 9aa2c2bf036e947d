"""A broken feed: everything of a large part is zero, or ten times as much; it is held, and then mended or released."""

import asyncio
import random
from collections.abc import Sequence

from tests.channels import SEKORM, YMATOU
from tests.torture.erp import Session, set_numbers
from tests.torture.world import World

SKUS = 250
KINDS = {"guard": ("all zero", "all times ten or back")}


async def drive(world: World, skus: Sequence[str], chance: random.Random) -> None:
    factor = 1
    async with Session(world) as session:
        while True:
            await asyncio.sleep(chance.uniform(3, 8))
            if is_zero := chance.random() < 0.6:
                numbers = dict.fromkeys(skus, 0)
            else:
                factor = 10 if factor == 1 else 1
                numbers = {sku: world.history.number(factor) for sku in skus}
            world.kinds["guard"]["all zero" if is_zero else "all times ten or back"] += 1
            await session.change(dict(numbers), set_numbers(numbers))
            await asyncio.sleep(chance.uniform(5, 15))
            if chance.random() < 0.5:
                for channel in (SEKORM, YMATOU):
                    await world.stockrelay("release", channel)
            numbers = {sku: world.history.number(factor) for sku in skus}
            await session.change(dict(numbers), set_numbers(numbers))
