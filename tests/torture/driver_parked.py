"""Some SKUs are refused by the marketplace, and stay parked."""

import asyncio
import random
from collections.abc import Sequence

from daemon.simulator import RefuseSku
from tests.channels import YMATOU
from tests.torture.erp import Session, set_numbers
from tests.torture.world import World

SKUS = 4


async def drive(world: World, skus: Sequence[str], chance: random.Random) -> None:
    with world.answering(*(RefuseSku(shop=YMATOU, key=sku) for sku in skus)):
        async with Session(world) as session:
            while True:
                numbers = {sku: world.history.number() for sku in skus}
                await session.change(dict(numbers), set_numbers(numbers))
                await asyncio.sleep(chance.uniform(2, 5))
