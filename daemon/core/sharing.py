"""Which slots of a channel a replica takes and gives up, so that all replicas have as many, or one more."""

from collections import Counter
from collections.abc import Collection, Mapping
from typing import NamedTuple

from daemon.core.types import Slot


class Moves(NamedTuple):
    """What one replica does next: slots to take, as far as they are still free, and slots to give up."""

    take: tuple[Slot, ...]
    give_up: tuple[Slot, ...]


def moves(me: str, holders: Mapping[Slot, str | None], replicas: Collection[str]) -> Moves:
    """Return what replica `me` does about its share of one channel's slots.

    `holders` says who holds each slot (None: nobody), `replicas` names those that are alive and serve the channel.
    A replica that does not serve it gives up what it has. One with more than an even share rounded up gives up the
    excess. While another has less than an even share rounded down, and the free slots do not suffice, one of those
    with a slot more gives it up. Free slots go first to replicas that have too few, then to any. Replicas do not have
    to agree: of two that want a slot one gets it, by the lease's row, and the other looks again.
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
        is_asked = me in donors[: max(0, missing - len(free))]
        return Moves((), tuple(mine[-1:] if is_asked else ()))
    # What others lack is theirs first.
    count = least - len(mine) or min(most - least, max(0, len(free) - missing))
    return Moves(_from(me, free)[:count], ())


def _from(me: str, free: list[Slot]) -> tuple[Slot, ...]:
    """The free slots, beginning at another one in each replica, so that not all of them try the same."""
    start = sum(me.encode()) % len(free) if free else 0
    return (*free[start:], *free[:start])
