"""`python -m tests.oracle --seed N` runs one case and shrinks it if it fails; `--seeds A..B` runs many."""

import argparse
import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from daemon.demo.binaries import embedded_bin, system_bin
from daemon.demo.postgres import PostgresServer
from tests.conftest import SETTINGS
from tests.oracle.cases import Case, all_features, case
from tests.oracle.running import Outcome, run
from tests.oracle.shrinking import shrunk

_LONG: Final = 50
"""A run of this many cases must have had every feature."""


@dataclass(slots=True)
class Totals:
    """What the cases of a run had, and what became of them."""

    features: Counter[str] = field(default_factory=Counter)
    outcomes: list[Outcome] = field(default_factory=list)
    listings: int = 0
    failed: list[int] = field(default_factory=list)

    def add(self, done: Case, outcome: Outcome) -> None:
        self.features.update(done.features())
        self.outcomes.append(outcome)
        self.listings += len(done.listings)
        if outcome.failure:
            self.failed.append(done.seed)

    def __str__(self) -> str:
        transactions = sum(outcome.transactions for outcome in self.outcomes)
        refused = sum(outcome.refused for outcome in self.outcomes)
        writes = sum(outcome.writes for outcome in self.outcomes)
        return (
            f"{len(self.outcomes)} schemas, {self.listings} listings, {transactions} transactions "
            f"({refused} ended by the ERP's own keys and deadlocks), {writes} numbers sent, "
            f"{sum(outcome.compared for outcome in self.outcomes)} comparisons at rest, {len(self.failed)} failed"
        )


async def _one(seed: int, server: PostgresServer, *, shrinks: bool) -> tuple[Case, Outcome]:
    made = case(seed)
    with tempfile.TemporaryDirectory(prefix="oracle-") as folder:
        outcome = await run(made, server, Path(folder))
    if outcome.failure:
        _say(f"seed {seed} failed ({outcome.kind}): {outcome.failure}")
        if shrinks:
            _say(await _smallest(made, outcome, server))
        _say(f"again: python -m tests.oracle --seed {seed}")
    return made, outcome


async def _smallest(made: Case, outcome: Outcome, server: PostgresServer) -> str:
    last = outcome.failure

    async def is_failing(candidate: Case) -> bool:
        nonlocal last
        with tempfile.TemporaryDirectory(prefix="oracle-") as folder:
            again = await run(candidate, server, Path(folder), rest_s=4.0)
        if again.kind == outcome.kind:
            last = again.failure
        return again.kind == outcome.kind

    smallest = await shrunk(made, is_failing)
    return f"\nThe smallest case that fails in this way:\n\n{smallest.transcript()}\n\n{last}\n"


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


async def _all(seeds: range, server: PostgresServer, jobs: int, *, shrinks: bool) -> Totals:
    totals = Totals()
    waiting: Iterator[int] = iter(seeds)
    began = time.monotonic()

    async def work() -> None:
        for seed in waiting:
            totals.add(*await _one(seed, server, shrinks=shrinks))
            if len(totals.outcomes) % 20 == 0:
                _say(f"{time.monotonic() - began:.0f} s: {totals}")

    async with asyncio.TaskGroup() as group:
        for _ in range(jobs):
            group.create_task(work())
    return totals


def _seeds(text: str) -> range:
    first, _, last = text.partition("..")
    return range(int(first), int(last) + 1)


def main() -> int:
    """Return 1 if a case failed, or if a long run lacked a feature."""
    parser = argparse.ArgumentParser(prog="python -m tests.oracle", description=__doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--seed", type=lambda text: range(int(text), int(text) + 1), dest="seeds", metavar="N")
    which.add_argument("--seeds", type=_seeds, metavar="A..B")
    parser.add_argument("--jobs", type=int, default=2, help="how many cases run at once (default: 2)")
    parser.add_argument("--postgres", type=int, choices=(18, 15), default=18)
    parser.add_argument("--no-shrink", action="store_true", help="report a failing case as it is")
    asked = parser.parse_args()
    bin_dir = embedded_bin() if asked.postgres == 18 else system_bin(asked.postgres)
    if bin_dir is None:
        parser.error(f"no PostgreSQL {asked.postgres} on this machine")
    with PostgresServer(bin_dir, {**SETTINGS, "deadlock_timeout": "100ms"}) as server:
        totals = asyncio.run(_all(asked.seeds, server, asked.jobs, shrinks=not asked.no_shrink))
    _say(str(totals))
    if len(asked.seeds) < _LONG:
        return bool(totals.failed)
    missing = sorted(all_features() - totals.features.keys())
    _say("\n".join(f"{count:7} {name}" for name, count in sorted(totals.features.items())))
    _say(f"never: {', '.join(missing)}" if missing else "every feature was there")
    return bool(totals.failed or missing)


if __name__ == "__main__":
    sys.exit(main())
