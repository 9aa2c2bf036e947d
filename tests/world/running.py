"""Plays seeds, in several processes; shrinks and prints what fails."""

import multiprocessing
import time
from collections import Counter
from collections.abc import Iterable
from typing import Final

import click

from tests.world.mutants import MUTANTS, first_seed
from tests.world.shrink import shrink
from tests.world.world import Plan, play

_SHARE: Final = 50
"""Seeds that a process plays before it says how they went."""


def replay(seed: int) -> int:
    """Print the transcript of a seed."""
    world, violation = play(Plan.of(seed), traced=True)
    click.echo("\n".join(world.transcript or ()))
    click.echo(f"\nseed {seed}: {violation or 'all holds'}")
    return 0 if violation is None else 1


def seeds(wanted: range, jobs: int) -> int:
    """Play seeds; shrink and print the first that fails."""
    began, done, seen = time.monotonic(), 0, Counter[str]()
    shares = [wanted[at : at + _SHARE] for at in range(0, len(wanted), _SHARE)]
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        for failing, many, counted in pool.imap_unordered(_played, shares):
            done += many
            seen.update(counted)
            if failing is not None:
                pool.terminate()
                explain(Plan.of(failing))
                return 1
    took_s = time.monotonic() - began
    click.echo(f"{done} seeds in {took_s:.0f} s ({60 * done / took_s:.0f} a minute): all holds")
    click.echo(", ".join(f"{name} {many}" for name, many in sorted(seen.items())))
    return 0


def mutants(most: int) -> int:
    """Say which seed finds each planted fault, and how."""
    missed = 0
    for mutant in MUTANTS:
        found = first_seed(mutant, most)
        missed += found is None
        click.echo(
            f"{mutant.name} {mutant.words}: " + (f"seed {found[0]}, {found[1]}" if found else "not found")
        )
    return 1 if missed else 0


def _played(share: Iterable[int]) -> tuple[int | None, int, Counter[str]]:
    """Play some seeds; return the first that fails, how many were played, and what happened in them."""
    many, seen = 0, Counter[str]()
    for seed in share:
        world, violation = play(Plan.of(seed))
        many += 1
        seen.update(world.seen)
        seen.update({f"answer: {name}": count for name, count in world.marketplace.seen.items()})
        if violation is not None:
            return seed, many, seen
    return None, many, seen


def explain(plan: Plan) -> None:
    """Print a failing plan as small as it gets, with its transcript."""
    _, violation = play(plan)
    assert violation is not None
    small = shrink(plan, lambda one: _fails_like(one, violation.what))
    world, found = play(small, traced=True)
    click.echo("\n".join(world.transcript or ()))
    click.echo(f"\n{found}")
    click.echo(f"the plan has {len(small.happenings)} of {len(plan.happenings)} happenings")
    click.echo(f"to replay all of it: python -m tests.world --replay {plan.seed}")


def _fails_like(plan: Plan, what: str) -> bool:
    _, violation = play(plan)
    return violation is not None and violation.what == what
