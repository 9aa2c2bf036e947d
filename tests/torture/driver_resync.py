"""A whole comparison is asked for, as a capture does that could not write.

The last third of a run has none: they would repair a loss."""

import asyncio
import random
import time
from collections.abc import Sequence
from contextlib import suppress

from tests.torture.erp import Session
from tests.torture.world import LOOK_S, World

SKUS = 0


async def drive(world: World, skus: Sequence[str], chance: random.Random) -> None:  # noqa: ARG001 - all of them
    async with Session(world) as session:
        began = time.monotonic()
        while time.monotonic() < began + (world.ends_at - began) * 2 / 3:
            await asyncio.sleep(chance.uniform(3, 8))
            before = world.events("intake.resync_finished")
            with world.during("comparing"):
                await session.run("SELECT pg_notify('stockrelay', 'resync')")
                with suppress(TimeoutError):
                    async with asyncio.timeout(15):
                        while world.events("intake.resync_finished") < before + 3:  # noqa: ASYNC110 - a log's lines
                            await asyncio.sleep(LOOK_S)
