"""No transaction of the ERP fails, and none waits for a second, but for faults that reach its own sessions."""

from collections.abc import Sequence

from tests.torture.world import World


async def check(world: World) -> Sequence[str]:
    return list(world.violations)
