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

    `lanes` are those of all channels, `replicas` those that are alive, with the channels that each serves; lanes of
    other channels than mine are not mine to take. A replica's fair share is the sum of an even part of each of its
    channels. Whoever has more than that rounded up gives up what is too much; while one has less than its own share
    rounded down, one of those with a lane more gives it up: each only what the other serves. Free lanes go to who has
    too few, then to anybody with room, and if nobody who serves them has room, to anybody who does. Nobody has to agree
    on anything: a lane that two want is had by one, and the other looks again.
    """
    everybody = {**replicas, me: replicas.get(me, frozenset(view.channel for view in lanes))}
    shares = _shares(lanes, everybody)
    held: Counter[str] = Counter(view.holder for view in lanes if view.holder is not None)
    mine = [view for view in lanes if view.holder == me]
    least, most = floor(shares[me]), ceil(shares[me])
    needs = {name: missing for name in everybody if (missing := floor(shares[name]) - held[name]) > 0}
    others = {name: served for name, served in everybody.items() if name != me}
    with_room = _served_by(served for name, served in others.items() if held[name] < ceil(shares[name]))

    movable = [view for view in mine if view.channel in with_room]
    if len(mine) > most and movable:
        return Moves((), _fullest_first(movable, min(len(movable), len(mine) - most)))
    if len(mine) == most > least and (lane := _called_for(me, lanes, everybody, needs, shares)):
        return Moves((), (lane,))
    # What others need is theirs first.
    needed = _served_by(served for name, served in others.items() if name in needs)
    free = [view for view in lanes if view.holder is None and view.channel in everybody[me]]
    if len(mine) < least:
        return Moves(_emptiest_first(me, mine, free, least - len(mine)), ())
    if len(mine) < most:
        return Moves(_emptiest_first(me, mine, [view for view in free if view.channel not in needed], 1), ())
    nobodys = [view for view in free if view.channel not in with_room]
    return Moves(_emptiest_first(me, mine, nobodys, len(nobodys)), ())


def _served_by(replicas: Iterable[frozenset[ChannelName]]) -> frozenset[ChannelName]:
    return frozenset[ChannelName]().union(*replicas)


def _called_for(
    me: str,
    lanes: Sequence[LaneView],
    everybody: Mapping[str, frozenset[ChannelName]],
    needs: Mapping[str, int],
    shares: Mapping[str, Fraction],
) -> Lane | None:
    """The lane that I give up for those who have too few; None: what is free will do, or others give up theirs."""
    needed = _served_by(everybody[name] for name in needs)
    asked = [view for view in lanes if view.channel in needed]
    wanting = sum(needs.values()) - sum(view.holder is None for view in asked)
    held = Counter(view.holder for view in lanes)
    having = {view.holder for view in asked}
    donors = sorted(
        name
        for name in everybody
        if name in having and held[name] == ceil(shares[name]) > floor(shares[name])
    )
    if me not in donors[: max(0, wanting)]:
        return None
    return _fullest_first([view for view in asked if view.holder == me], 1)[0]


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
