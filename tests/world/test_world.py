"""Simulated worlds: the shipped services under every fault at once. docs/testing.md says how to play more of them."""

from typing import Final

import pytest

from tests.world.mutants import MUTANTS, Mutant, play_mutant
from tests.world.world import Plan, play

SEEDS: Final = range(1, 61)
FOUND_BY: Final = {"M1": 6, "M2": 1, "M4": 4, "M5": 6, "M6": 5, "M7": 6}
"""Seeds that find planted faults. `python -m tests.world --mutants 500` looks for those of the others."""


@pytest.mark.timeout(300)
def test_whatever_happens_nothing_is_lost_and_no_old_number_stays() -> None:
    failing = {seed: str(violation) for seed in SEEDS if (violation := play(Plan.of(seed))[1]) is not None}
    assert failing == {}, "replay one: python -m tests.world --replay SEED"


def test_a_seed_replays_exactly() -> None:
    first, again = (play(Plan.of(5), traced=True)[0].transcript for _ in range(2))
    assert first
    assert first == again


@pytest.mark.parametrize(
    "mutant", [one for one in MUTANTS if one.name in FOUND_BY], ids=lambda mutant: str(mutant.name)
)
def test_a_world_finds_a_planted_fault(mutant: Mutant) -> None:
    assert play_mutant(mutant, FOUND_BY[mutant.name])[1] is not None
