"""Each line of a log is an event without a traceback and without a secret; an outage does not fill the disk."""

from collections.abc import Sequence

from tests.torture.world import World

MOST = 1_500
"""Lines a minute of one daemon, beside those of single deliveries."""


async def check(world: World) -> Sequence[str]:
    found = [f"{log.path.parent.name}: {line}" for log in world.logs for line in log.worst]
    found += [
        f"{log.path.parent.name}: {lines} lines at {minute}"
        for log in world.logs
        for minute, lines in log.per_minute.items()
        if lines > MOST
    ]
    return found
