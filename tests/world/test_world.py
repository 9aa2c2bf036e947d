"""Simulated worlds: the shipped services under every fault at once. docs/testing.md says how to play more of them."""

import pytest

from tests.world.world import Plan, play

SEEDS = range(1, 81)


@pytest.mark.timeout(300)
def test_whatever_happens_nothing_is_lost_and_no_old_number_stays() -> None:
    failing = {seed: str(violation) for seed in SEEDS if (violation := play(Plan.of(seed))[1]) is not None}
    assert failing == {}, "replay one: python -m tests.world --replay SEED"


def test_a_seed_replays_exactly() -> None:
    first, again = (play(Plan.of(5), traced=True)[0].transcript for _ in range(2))
    assert first
    assert first == again
