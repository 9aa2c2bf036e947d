"""Once everything has converged, two comparisons of everything find nothing, and nothing is sent."""

from tests.torture.world import World


async def settle(world: World) -> None:
    first, *others = world.replicas
    for replica in others:
        if replica.is_running:
            await replica.stop()
    await world.silent(first)
