"""Memory and open files of a daemon stay bounded."""

from collections.abc import Sequence

import psutil

from tests.torture.world import World

MEMORY_MB = 400
FILES = 200


async def check(world: World) -> Sequence[str]:
    found = []
    for replica in world.replicas:
        if not replica.is_running:
            continue
        try:
            process = psutil.Process(replica.pid)
            memory, files = process.memory_info().rss >> 20, process.num_fds()
        except psutil.Error:
            continue
        world.most_memory = max(world.most_memory, memory)
        if memory > MEMORY_MB:
            found.append(f"{replica.name} has more than {MEMORY_MB} MB")
        if files > FILES:
            found.append(f"{replica.name} has more than {FILES} files open")
    return found
