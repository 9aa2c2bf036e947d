"""Which lanes a replica takes and gives up, so that all replicas have the same number of them or one more."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from math import ceil, floor
from typing import NamedTuple

from daemon.core.types import ChannelName, Lane


class LaneView(NamedTuple):
    """A lane and who holds it; None: nobody."""

    lane: Lane
    channel: ChannelName
    holder: str | None


class Moves(NamedTuple):
    """What one replica does next: lanes to take, as far as they are still free, and lanes to give up."""

    take: tuple[Lane, ...]
    give_up: tuple[Lane, ...]


def moves(me: str, lanes: Sequence[LaneView], replicas: Mapping[str, frozenset[ChannelName]]) -> Moves:
    """What replica `me` does about its share of the lanes.

    `replicas` are those that are alive, with the channels that each serves; lanes of other channels than mine are not
    mine to take. A replica's fair share is the sum of an even part of each of its channels. Whoever has more than that
    rounded up gives up what is too much; while one has less than its own share rounded down, one of those with a lane
    more gives it up. Free lanes go to who has too few, and then to anybody with room. Nobody has to agree on anything:
    a lane that two want is had by one, and the other looks again.
    """
    everybody = {**replicas, me: replicas.get(me, frozenset(view.channel for view in lanes))}
    shares = _shares(lanes, everybody)
    held: Counter[str] = Counter(view.holder for view in lanes if view.holder is not None)
    mine = [view for view in lanes if view.holder == me]
    free = [view for view in lanes if view.holder is None and view.channel in everybody[me]]
    least, most = floor(shares[me]), ceil(shares[me])
    needs = {name: missing for name in everybody if (missing := floor(shares[name]) - held[name]) > 0}

    if len(mine) > most:
        return Moves((), _fullest_first(mine, len(mine) - most))
    wanting = sum(missing for name, missing in needs.items() if name != me)
    if len(mine) == most > least and wanting > len(free):
        donors = sorted(name for name in everybody if held[name] == ceil(shares[name]) > floor(shares[name]))
        is_called = donors.index(me) < wanting - len(free)
        return Moves((), _fullest_first(mine, 1) if is_called else ())
    # What others need is theirs first.
    room = least - len(mine) if len(mine) < least else min(1, most - len(mine)) if wanting == 0 else 0
    return Moves(_emptiest_first(me, mine, free, room), ())


def _shares(lanes: Iterable[LaneView], replicas: Mapping[str, frozenset[ChannelName]]) -> dict[str, Fraction]:
    counts = Counter(view.channel for view in lanes)
    servers = Counter(channel for channels in replicas.values() for channel in channels)
    return {
        name: sum((Fraction(counts[channel], servers[channel]) for channel in channels), Fraction(0))
        for name, channels in replicas.items()
    }


def _fullest_first(mine: Sequence[LaneView], count: int) -> tuple[Lane, ...]:
    """So many of my lanes, each from the channel of which I have the most then."""
    left = list(mine)
    chosen: list[Lane] = []
    for _ in range(count):
        counts = Counter(view.channel for view in left)
        view = max(left, key=lambda view: (counts[view.channel], view.lane))
        left.remove(view)
        chosen.append(view.lane)
    return tuple(chosen)


def _emptiest_first(
    me: str, mine: Sequence[LaneView], free: Sequence[LaneView], count: int
) -> tuple[Lane, ...]:
    """So many free lanes, each from the channel of which I have the fewest then. Which of a channel's lanes differs
    from replica to replica, so that not all try the same."""
    counts = Counter(view.channel for view in mine)
    start = sum(me.encode()) % len(free) if free else 0
    left = [*free[start:], *free[:start]]
    chosen: list[Lane] = []
    for _ in range(min(count, len(left))):
        view = min(left, key=lambda view: counts[view.channel])
        left.remove(view)
        counts[view.channel] += 1
        chosen.append(view.lane)
    return tuple(chosen)
