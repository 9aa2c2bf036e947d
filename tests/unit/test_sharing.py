"""Lanes are shared evenly, whoever comes and goes, and nobody has to agree on anything."""

import random
from collections import Counter
from collections.abc import Mapping
from math import ceil, floor

from hypothesis import given
from hypothesis import strategies as st

from daemon.core.sharing import LaneView, Moves, moves
from daemon.core.types import ChannelName, Lane
from tests.channels import SEKORM, YMATOU

BOTH = frozenset({SEKORM, YMATOU})


def lanes(counts: Mapping[ChannelName, int], holders: Mapping[str, str] | None = None) -> list[LaneView]:
    """So many lanes of each channel; `holders` says who has which, by its name."""
    return [
        LaneView(lane, channel, (holders or {}).get(lane))
        for channel, count in counts.items()
        for lane in (Lane(f"{channel}/{n}") for n in range(1, count + 1))
    ]


def settle(
    views: list[LaneView], replicas: Mapping[str, frozenset[ChannelName]], order: list[str]
) -> tuple[list[LaneView], int]:
    """Let the replicas move one after another until nobody has anything to do; return what they came to and in how many
    rounds. Who looks sees what those before it have done."""
    holders = {view.lane: view.holder for view in views}
    for turn in range(50):
        has_moved = False
        for me in order:
            seen = [LaneView(view.lane, view.channel, holders[view.lane]) for view in views]
            plan = moves(me, seen, replicas)
            for lane in plan.give_up:
                assert holders[lane] == me
                holders[lane] = None
            for lane in plan.take:
                assert holders[lane] is None
                holders[lane] = me
            has_moved |= plan != Moves((), ())
        if not has_moved:
            return [LaneView(view.lane, view.channel, holders[view.lane]) for view in views], turn
    raise AssertionError("they never come to rest")


def held(views: list[LaneView], name: str) -> int:
    return sum(view.holder == name for view in views)


def test_one_replica_takes_all() -> None:
    views = lanes({SEKORM: 2, YMATOU: 1})
    assert set(moves("me", views, {"me": BOTH}).take) == {view.lane for view in views}


def test_a_second_replica_gets_its_half() -> None:
    views = lanes({SEKORM: 4}, {f"sekorm/{n}": "one" for n in range(1, 5)})
    both = {"one": BOTH, "two": BOTH}
    assert moves("two", views, both) == Moves((), ())
    assert len(moves("one", views, both).give_up) == 2


def test_two_channels_with_one_lane_each_are_one_for_each_of_two() -> None:
    views, _ = settle(lanes({SEKORM: 1, YMATOU: 1}), {"one": BOTH, "two": BOTH}, ["one", "two"])
    assert [held(views, name) for name in ("one", "two")] == [1, 1]


def test_who_has_enough_leaves_a_free_lane_to_who_has_too_few() -> None:
    views = lanes({SEKORM: 5}, {"sekorm/1": "one", "sekorm/2": "one", "sekorm/3": "two"})
    both = {"one": BOTH, "two": BOTH}
    assert moves("one", views, both) == Moves((), ())
    assert len(moves("two", views, both).take) == 1


def test_each_gets_of_every_channel() -> None:
    views, _ = settle(lanes({SEKORM: 4, YMATOU: 4}), {"one": BOTH, "two": BOTH}, ["one", "two"])
    assert Counter((view.holder, view.channel) for view in views) == {
        ("one", SEKORM): 2,
        ("one", YMATOU): 2,
        ("two", SEKORM): 2,
        ("two", YMATOU): 2,
    }


def test_a_replica_takes_only_what_it_serves() -> None:
    views, _ = settle(
        lanes({SEKORM: 4, YMATOU: 2}), {"one": BOTH, "two": frozenset({SEKORM})}, ["two", "one"]
    )
    assert all(view.holder == "one" for view in views if view.channel == YMATOU)
    assert [held(views, name) for name in ("one", "two")] == [4, 2]


def test_what_a_dead_replica_holds_is_left_alone_until_its_lease_ends() -> None:
    views = lanes({SEKORM: 2}, {"sekorm/1": "dead", "sekorm/2": "one"})
    assert moves("one", views, {"one": BOTH}) == Moves((), ())
    free = lanes({SEKORM: 2}, {"sekorm/2": "one"})
    assert moves("one", free, {"one": BOTH}).take == (Lane("sekorm/1"),)


@given(
    st.integers(1, 12),
    st.integers(0, 12),
    st.integers(1, 6),
    st.randoms(use_true_random=False),
)
def test_from_whatever_they_have_they_come_to_an_even_share(
    sekorm: int, ymatou: int, replicas: int, chance: random.Random
) -> None:
    names = [f"r{n}" for n in range(replicas)]
    alive = dict.fromkeys(names, BOTH)
    bare = lanes({SEKORM: sekorm, YMATOU: ymatou})
    somebody = {view.lane: chance.choice([*names, None]) for view in bare}
    views = [LaneView(view.lane, view.channel, somebody[view.lane]) for view in bare]
    order = chance.sample(names, replicas)
    at_rest, rounds = settle(views, alive, order)
    total = sekorm + ymatou
    assert all(view.holder is not None for view in at_rest)
    assert {held(at_rest, name) for name in names} <= {floor(total / replicas), ceil(total / replicas)}
    assert rounds <= 4, "each round is a second for which a lane may be without an owner"


SERVED = st.sampled_from([BOTH, frozenset({SEKORM}), frozenset({YMATOU})])


def test_a_lane_that_one_replica_alone_serves_is_not_left_alone_for_its_share() -> None:
    replicas = {"both": BOTH, "sekorm": frozenset({SEKORM})}
    views = lanes({SEKORM: 2, YMATOU: 4})
    at_rest, _ = settle([view._replace(holder="both") for view in views], replicas, ["both", "sekorm"])
    assert [held(at_rest, name) for name in ("both", "sekorm")] == [5, 1]


@given(
    st.integers(1, 12),
    st.integers(1, 12),
    st.lists(SERVED, min_size=1, max_size=5),
    st.randoms(use_true_random=False),
)
def test_whoever_serves_what_no_lane_stays_free(
    sekorm: int, ymatou: int, served: list[frozenset[ChannelName]], chance: random.Random
) -> None:
    alive = {f"r{n}": channels for n, channels in enumerate(served)}
    somebody = [
        view._replace(
            holder=chance.choice([None, *(name for name, its in alive.items() if view.channel in its)])
        )
        for view in lanes({SEKORM: sekorm, YMATOU: ymatou})
    ]
    at_rest, rounds = settle(somebody, alive, chance.sample(list(alive), len(alive)))
    for view in at_rest:
        servers = [name for name, its in alive.items() if view.channel in its]
        assert view.holder in servers if servers else view.holder is None
    assert rounds <= 6, "each round is a second for which a lane may be without an owner"
