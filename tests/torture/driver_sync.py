"""`stockrelay sync`, again and again; some are killed or stand still on the way."""

import asyncio
import random
import signal
from collections.abc import Sequence

from tests.acceptance.replica import unheard
from tests.channels import SEKORM, YMATOU
from tests.torture.world import World

SKUS = 0


async def drive(world: World, skus: Sequence[str], chance: random.Random) -> None:  # noqa: ARG001 - all of them
    while True:
        await asyncio.sleep(chance.uniform(1, 5))
        with world.during("syncing"):
            await run_command(world, chance, "sync", chance.choice((SEKORM, YMATOU)))


async def run_command(world: World, chance: random.Random, *words: str) -> None:
    """Run a command; one in four is stopped for a time or killed."""
    process = await unheard(world.config, *words)
    end = asyncio.create_task(process.wait())
    try:
        if chance.random() < 0.25:
            await asyncio.wait([end], timeout=chance.uniform(0.2, 1.5))
            process.send_signal(signal.SIGSTOP)
            await asyncio.wait([end], timeout=chance.uniform(0.5, 4))
            process.send_signal(signal.SIGCONT)
            if chance.random() < 0.5:
                process.kill()
        await asyncio.wait([end], timeout=30)
    finally:
        if process.returncode is None:
            process.kill()
            await end
