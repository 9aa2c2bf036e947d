"""Which slots of a channel a replica takes and gives up, so that no replica has two more than another."""

from collections import Counter
from collections.abc import Collection, Mapping
from typing import NamedTuple

from daemon.core.types import Slot


class Moves(NamedTuple):
    """The slots that one replica takes next, as far as they are still free, and those that it gives up."""

    take: tuple[Slot, ...]
    give_up: tuple[Slot, ...]


def moves(me: str, holders: Mapping[Slot, str | None], replicas: Collection[str]) -> Moves:
    """Return what replica `me` does about its share of one channel's slots.

    `holders` says who holds each slot (None: nobody), `replicas` names those that are alive and serve the channel.
    A replica that does not serve it gives up what it has, and one with more than an even share rounded up gives up the
    excess. While another has less than an even share rounded down, and the free slots do not suffice, a replica with a
    slot more gives it up. Free slots go first to replicas that have too few, then to any. Replicas need not agree: of
    two that want a slot, the lease's row gives it to one, and the other looks again.
    """
    mine = [slot for slot, holder in holders.items() if holder == me]
    if me not in replicas:
        return Moves((), tuple(mine))
    least, extra = divmod(len(holders), len(replicas))
    most = least + (extra > 0)
    if len(mine) > most:
        return Moves((), tuple(mine[most:]))
    held = Counter(holders.values())
    free = [slot for slot, holder in holders.items() if holder is None]
    missing = sum(max(0, least - held[name]) for name in replicas if name != me)
    if len(mine) == most > least:
        donors = sorted(name for name in replicas if held[name] == most)
        return Moves((), tuple(mine[-1:] if me in donors[: max(0, missing - len(free))] else ()))
    # Replicas that have too few come before those that have enough.
    count = least - len(mine) or min(most - least, max(0, len(free) - missing))
    # Each replica begins at another free slot, so that not all of them try the same one.
    start = sum(me.encode()) % len(free) if free else 0
    return Moves((*free[start:], *free[:start])[:count], ())
