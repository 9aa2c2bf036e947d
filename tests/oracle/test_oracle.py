"""At rest the marketplaces hold what random listings say, after random transactions of the ERP.

Long runs: `python -m tests.oracle --seeds A..B`.
"""

import random
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest

from daemon.demo.postgres import PostgresServer
from tests.oracle.cases import Case, all_features, case
from tests.oracle.listings import Listing
from tests.oracle.running import run
from tests.oracle.schema import schema
from tests.oracle.shrinking import shrunk
from tests.oracle.transactions import Statement, Transaction


@pytest.mark.parametrize("seed", [2, 5])
async def test_at_rest_the_marketplaces_hold_what_the_listings_say(
    seed: int, server18: PostgresServer, tmp_path: Path
) -> None:
    outcome = await run(case(seed), server18, tmp_path)
    assert not outcome.failure, (
        f"{outcome.failure}\n{case(seed).transcript()}\npython -m tests.oracle --seed {seed}"
    )


async def test_a_change_that_a_watch_does_not_name_is_found(server18: PostgresServer, tmp_path: Path) -> None:
    listing = Listing("ymatou", ("setting for all",), (), "plain", "table", "as it is", is_summed=False)
    change = Transaction(
        0, (Statement("setting changes", "setting", "UPDATE erp.setting SET value = 7"),), "commit"
    )
    planted = Case(0, schema(random.Random(0)), (("ymatou-1", listing),), ((change,),), is_timed=False)
    outcome = await run(replace(planted, lost=frozenset({"setting"})), server18, tmp_path, rest_s=1.0)
    assert (outcome.kind, "after wave 1: ymatou-1: 16 differ" in outcome.failure) == ("differs", True)


def test_a_hundred_cases_have_every_feature() -> None:
    features = frozenset(chain.from_iterable(case(seed).features() for seed in range(1, 101)))
    assert all_features() - features == frozenset()


def test_a_case_is_the_same_whenever_it_is_made() -> None:
    assert case(7) == case(7)


async def test_a_failing_case_is_made_smaller() -> None:
    async def is_failing(candidate: Case) -> bool:
        statements = [each for transaction in candidate.transactions() for each in transaction.statements]
        return any(each.table == "stock" for each in statements)

    smallest = await shrunk(case(3), is_failing, most_trials=500)
    (transaction,) = smallest.transactions()
    ((_, listing),) = smallest.listings
    assert (len(transaction.statements), listing.shape, len(listing.numbers), listing.conditions) == (
        1,
        "plain",
        1,
        (),
    )
    assert not smallest.schema.has_keys
