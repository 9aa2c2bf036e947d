"""What happens between the daemon, the database and the marketplaces."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from tests.channels import SEKORM, YMATOU
from tests.torture.contract import Begin, Fault
from tests.torture.world import World

COMMITTED: Final = b"COMMIT\0"
"""The server's answer to COMMIT; the client's words end in a semicolon."""


@asynccontextmanager
async def swallowed(name: str, world: World, chance: random.Random) -> AsyncIterator[None]:  # noqa: ARG001
    """Connections stay open, and nothing comes through."""
    world.proxies[name].swallow()
    try:
        yield
    finally:
        world.proxies[name].heal()


@asynccontextmanager
async def cut(name: str, world: World, chance: random.Random) -> AsyncIterator[None]:
    """Every connection is reset, some times."""
    for _ in range(3):
        world.proxies[name].cut()
        await asyncio.sleep(chance.uniform(0.05, 0.5))
    yield


@asynccontextmanager
async def cut_after_commit(world: World, chance: random.Random) -> AsyncIterator[None]:  # noqa: ARG001
    """The server commits, and its answer is lost with the connection."""
    world.proxies["database"].drop_reply = COMMITTED
    try:
        yield
    finally:
        world.proxies["database"].drop_reply = None


@asynccontextmanager
async def down(shop: str, world: World, chance: random.Random) -> AsyncIterator[None]:  # noqa: ARG001
    """A marketplace resets every connection."""
    world.simulator.set_down(shop)
    try:
        yield
    finally:
        world.simulator.set_down(shop, down=False)


@asynccontextmanager
async def unresolved(world: World, chance: random.Random) -> AsyncIterator[None]:  # noqa: ARG001
    """No name is resolved; open connections are cut, so that names are needed."""
    mark = world.folder / "dns"
    mark.touch()
    try:
        for proxy in world.proxies.values():
            proxy.cut()
        yield
    finally:
        mark.unlink()


def _black_hole(name: str) -> Begin:
    return partial(swallowed, name)


FAULTS: Final = (
    Fault(5, "listener black-holed", _black_hole("doorbell"), group="doorbell", seconds=4),
    Fault(5, "database black-holed", _black_hole("database"), group="database", seconds=4, hides_ends=True),
    Fault(15, "sekorm black-holed", _black_hole("sekorm"), group="sekorm", seconds=3, hides_ends=True),
    Fault(15, "ymatou black-holed", _black_hole("ymatou"), group="ymatou", seconds=3, hides_ends=True),
    Fault(9, "database cut", partial(cut, "database"), group="database", seconds=0.5),
    Fault(9, "cut after COMMIT", cut_after_commit, group="database"),
    Fault(15, "sekorm cut", partial(cut, "sekorm"), group="sekorm", seconds=0.5, hides_ends=True),
    Fault(15, "ymatou down", partial(down, YMATOU), group="ymatou", seconds=3),
    Fault(15, "sekorm down", partial(down, SEKORM), group="sekorm", seconds=3),
    Fault(15, "DNS fails", unresolved, group="database", seconds=2, hides_ends=True),
)
