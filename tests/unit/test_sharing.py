"""Slots are shared evenly, whichever replicas come and go, and replicas do not have to agree on anything."""

import random
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.core.sharing import Moves, moves
from daemon.core.types import SLOTS, Slot

Holders = dict[Slot, str | None]


def slots(holders: Sequence[str | None]) -> Holders:
    """Slot by slot, who holds it; the slots after these are free."""
    return {Slot(n): holders[n] if n < len(holders) else None for n in range(SLOTS)}


def settle(holders: Holders, replicas: Collection[str], order: Sequence[str]) -> tuple[Holders, int]:
    """Let the replicas move one after another until none has anything to do; return what is held then, and after how
    many rounds. Each sees what those before it have done."""
    for turn in range(50):
        has_moved = False
        for me in order:
            plan = moves(me, dict(holders), replicas)
            for slot in plan.give_up:
                assert holders[slot] == me
                holders[slot] = None
            for slot in plan.take:
                assert holders[slot] is None
                holders[slot] = me
            has_moved |= plan != Moves((), ())
        if not has_moved:
            return holders, turn
    raise AssertionError("they never come to rest")


def shares(holders: Mapping[Slot, str | None]) -> list[int]:
    return sorted(Counter(holders.values()).values(), reverse=True)


@pytest.mark.parametrize(
    ("replicas", "wanted"),
    [(1, [16]), (2, [8, 8]), (3, [6, 5, 5]), (4, [4] * 4), (5, [4, 3, 3, 3, 3]), (16, [1] * 16)],
)
def test_replicas_that_start_with_nothing_share_evenly(replicas: int, wanted: list[int]) -> None:
    names = [f"r{n}" for n in range(replicas)]
    at_rest, _ = settle(slots([]), names, names)
    assert shares(at_rest) == wanted


def test_more_replicas_than_slots_leave_some_without_one() -> None:
    names = [f"r{n}" for n in range(20)]
    at_rest, _ = settle(slots([]), names, names)
    assert shares(at_rest) == [1] * 16


def test_a_second_replica_gets_its_half() -> None:
    holders = slots(["one"] * SLOTS)
    assert moves("two", holders, ["one", "two"]) == Moves((), ())
    assert len(moves("one", holders, ["one", "two"]).give_up) == 8


def test_a_replica_with_enough_leaves_a_free_slot_to_one_with_too_few() -> None:
    holders = slots(["one"] * 8 + ["two"] * 7)
    assert moves("one", holders, ["one", "two"]) == Moves((), ())
    assert moves("two", holders, ["one", "two"]).take == (Slot(15),)


def test_replicas_look_for_free_slots_in_different_places() -> None:
    names = ["host/1/a", "host/2/b", "host/3/c"]
    firsts = {moves(name, slots([]), names).take[0] for name in names}
    assert len(firsts) == 3


def test_what_a_dead_replica_holds_is_left_alone_until_its_lease_ends() -> None:
    holders = slots(["dead"] * 8 + ["one"] * 8)
    assert moves("one", holders, ["one"]) == Moves((), ())
    assert len(moves("one", slots([None] * 8 + ["one"] * 8), ["one"]).take) == 8


def test_a_replica_that_does_not_serve_the_channel_gives_it_up() -> None:
    assert len(moves("one", slots(["one"] * 3), ["two"]).give_up) == 3
    assert moves("one", slots([]), []) == Moves((), ())


@given(st.integers(1, 20), st.randoms(use_true_random=False))
def test_from_any_state_they_come_to_an_even_share(replicas: int, chance: random.Random) -> None:
    names = [f"r{n}" for n in range(replicas)]
    somebody = slots([chance.choice([*names, None]) for _ in range(SLOTS)])
    at_rest, rounds = settle(somebody, names, chance.sample(names, replicas))
    held = Counter(at_rest.values())
    assert None not in held
    assert {held[name] for name in names} <= {SLOTS // replicas, -(-SLOTS // replicas)}
    assert rounds <= 4, "each round is a second for which a slot may be without an owner"
