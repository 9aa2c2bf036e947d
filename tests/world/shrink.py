"""Makes a failing plan small: everything that the failure does not need is left out."""

from collections.abc import Callable
from dataclasses import replace

from tests.world.world import Plan


def shrink(plan: Plan, fails: Callable[[Plan], bool]) -> Plan:
    """Return the plan without what can be left out. `fails`: whether a plan still fails in the same way.

    Leaving an event out changes all later random choices, so a smaller plan may need another seed: each is tried with
    a few.
    """
    size = max(1, len(plan.happenings) // 2)
    while size:
        place = 0
        while place < len(plan.happenings):
            rest = plan.happenings[:place] + plan.happenings[place + size :]
            found = next(
                (
                    one
                    for seed in _seeds(plan.seed)
                    if fails(one := replace(plan, seed=seed, happenings=rest))
                ),
                None,
            )
            if found is None:
                place += size
            else:
                plan = found
        size //= 2
    return plan


def _seeds(seed: int) -> list[int]:
    # Every fourth seed ends with more changes than the others.
    return [seed, *(seed % 4 + 4 * number for number in range(1, 5))]
