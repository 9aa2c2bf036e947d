"""Requests that are applied and whose answers are lost, and slow ones: some SKUs are in doubt all the time."""

import asyncio
import random
from collections.abc import Sequence

from daemon.simulator import Delay, ResetAfter
from tests.channels import YMATOU
from tests.torture.erp import Session, set_numbers
from tests.torture.world import World

SKUS = 8


async def drive(world: World, skus: Sequence[str], chance: random.Random) -> None:
    lost = [ResetAfter(shop=YMATOU, key=sku, probability=0.5, seed=n) for n, sku in enumerate(skus)]
    slow = [
        Delay(seconds=0.1, probability=0.3, seed=world.seed),
        Delay(seconds=1.0, probability=0.05, seed=world.seed + 1),
    ]
    with world.answering(*lost, *slow):
        async with Session(world) as session:
            while True:
                sku, number = chance.choice(skus), world.history.number()
                await session.change({sku: number}, set_numbers({sku: number}))
                await asyncio.sleep(chance.uniform(0.1, 0.6))
