"""What happens to the server."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from tests.torture.contract import Fault
from tests.torture.erp import Session
from tests.torture.world import World


@asynccontextmanager
async def killed(world: World, chance: random.Random) -> AsyncIterator[None]:  # noqa: ARG001
    """SIGKILL for the postmaster and all its children."""
    await asyncio.to_thread(world.database.server.kill)
    try:
        yield
    finally:
        await asyncio.to_thread(world.database.server.start)


@asynccontextmanager
async def restarted(world: World, chance: random.Random) -> AsyncIterator[None]:  # noqa: ARG001
    """`pg_ctl restart -m immediate`."""
    await asyncio.to_thread(world.database.server.restart, "immediate")
    yield


@asynccontextmanager
async def unheard(world: World, chance: random.Random) -> AsyncIterator[None]:  # noqa: ARG001
    """The listener's sessions end."""
    async with Session(world) as session:
        await session.run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'stockrelay' "
            "AND query ~ '(LISTEN|pg_listening_channels)'"
        )
        yield


FAULTS: Final = (
    Fault(2, "postmaster kill -9", killed, group="server", seconds=1, reaches_erp=True),
    Fault(3, "immediate restart", restarted, group="server", seconds=1, reaches_erp=True),
    Fault(6, "listener's session ended", unheard),
)
