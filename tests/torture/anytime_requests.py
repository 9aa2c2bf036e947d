"""A SKU has one request in flight at most, the rate of a channel is kept, no nonce is used twice."""

import time
from collections.abc import Sequence

from tests.torture.contract import Fault
from tests.torture.world import World

SLACK = 1.5
"""Probes, tokens and comparisons come on top of a channel's rate; the limiter's seconds begin elsewhere."""


def hides_ends(fault: Fault) -> bool:
    """Whether the simulator may count a request as in flight that has ended for its client."""
    return fault.hides_ends


async def check(world: World) -> Sequence[str]:
    found, stats = [], world.simulator.stats
    to_monotonic = time.monotonic() - time.time()
    found += [
        f"two requests in flight: {overlap}"
        for overlap in stats.overlaps
        if not world.was_there(overlap.at + to_monotonic - 5, hides_ends, until=overlap.at + to_monotonic)
    ]
    most = float(world.setting("channel", "rate_per_s")) * SLACK + 20
    found += [
        f"{shop}: {peak} requests within a second" for shop, peak in stats.peak_per_s.items() if peak > most
    ]
    found += [f"{stats.duplicate_nonces} nonces were used twice"] if stats.duplicate_nonces else []
    return found
