"""Two SKUs get the same part number, and get their own back: meanwhile they are parked."""

import asyncio
import random
from collections.abc import Sequence

from tests.channels import SEKORM
from tests.torture.erp import Session
from tests.torture.world import World

SKUS = 6
_SET = (
    "UPDATE erp.stock AS s SET on_hand = n.on_hand, part_no = n.part_no "
    "FROM unnest($1::text[], $2::int[], $3::text[]) AS n (sku, on_hand, part_no) WHERE s.sku = n.sku"
)


async def drive(world: World, skus: Sequence[str], chance: random.Random) -> None:
    async with Session(world) as session:
        try:
            while True:
                await asyncio.sleep(chance.uniform(3, 6))
                first = chance.randrange(0, len(skus), 2)
                await _name(world, session, skus[first : first + 2], is_shared=True)
                await asyncio.sleep(chance.uniform(2, 6))
                await _name(world, session, skus[first : first + 2], is_shared=False)
        finally:
            # A run ends with the ERP's data in order.
            for first in range(0, len(skus), 2):
                await _name(world, session, skus[first : first + 2], is_shared=False)


async def _name(world: World, session: Session, pair: Sequence[str], *, is_shared: bool) -> None:
    numbers = {sku: world.history.number() for sku in pair}
    world.history.leave(SEKORM, (f"PN-{pair[1]}", "AMS"))
    parts = [f"PN-{pair[0] if is_shared else sku}" for sku in pair]
    await session.change(dict(numbers), (_SET, (list(pair), list(numbers.values()), parts)))
