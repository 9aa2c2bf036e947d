"""The daemons' clock steps."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from tests.torture.contract import Fault
from tests.torture.world import World


@asynccontextmanager
async def stepped(world: World, chance: random.Random) -> AsyncIterator[None]:
    """The time of day steps by minutes, in the forked replicas (the code before the program reads it from a file)."""
    file = world.folder / "clock"
    file.write_text(str(chance.choice((-660, -5, 5, 660))))
    try:
        yield
    finally:
        file.unlink()


FAULTS: Final = (Fault(20, "clock steps", stepped, seconds=4),)
