"""The whole table is emptied and filled again in one transaction, with the same numbers."""

import asyncio
import random
from collections.abc import Sequence

from tests.torture.erp import Session
from tests.torture.world import World

SKUS = 0


async def drive(world: World, skus: Sequence[str], chance: random.Random) -> None:  # noqa: ARG001 - all of them
    async with Session(world) as session:
        while True:
            await asyncio.sleep(chance.uniform(10, 20))
            await session.change(
                {},
                ("LOCK TABLE erp.stock IN ACCESS EXCLUSIVE MODE", ()),
                ("CREATE TEMPORARY TABLE kept ON COMMIT DROP AS TABLE erp.stock", ()),
                ("TRUNCATE erp.stock", ()),
                ("INSERT INTO erp.stock TABLE kept", ()),
            )
