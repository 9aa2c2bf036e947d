"""A short run with some faults passes; a number that a marketplace swallowed is found."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import tests.torture
from daemon.simulator import Status
from tests.channels import SEKORM
from tests.torture.contract import Driver, Parts, discover
from tests.torture.erp import Session, set_numbers
from tests.torture.report import as_json, as_text
from tests.torture.run import Order, Result, torture
from tests.torture.world import World

FAULTS = ("kill -9", "immediate restart", "cut after COMMIT", "garbage", "our tables locked")
SWALLOWED = '{"code":0,"message":"success","data":null}'


async def ran(folder: Path, parts: Parts, seconds: float, patience_s: float = 60.0) -> Result:
    return await torture(Order(parts, seconds, 7, patience_s=patience_s), folder, lambda *_: None)


async def test_a_short_run_of_faults_loses_nothing_and_leaves_nothing_behind(tmp_path: Path) -> None:
    parts = discover(tests.torture).chosen(FAULTS)
    result = await ran(tmp_path, parts, 10)
    assert result.problems == [], as_text(result)
    assert result.table.fired.total() >= 3
    assert result.changes > 400
    assert as_json(result)["lost"] == 0
    assert result.evidence is None


async def swallow(world: World, skus: Sequence[str], chance: random.Random) -> None:
    """The marketplace says yes to one number and does not keep it."""
    del chance
    (sku,) = skus
    with world.answering(Status(shop=SEKORM, key=(f"PN-{sku}", "AMS"), status=200, body=SWALLOWED)):
        async with Session(world) as session:
            number = world.history.number()
            await session.change({sku: number}, set_numbers({sku: number}))
            await asyncio.Event().wait()


async def test_a_number_that_a_marketplace_swallowed_is_found_with_its_evidence(tmp_path: Path) -> None:
    parts = replace(discover(tests.torture), drivers=[Driver("swallow", swallow, ("SKU-1",))], faults=[])
    result = await ran(tmp_path, parts, 3, patience_s=1.0)
    assert len(result.verdict.lost) == 1, as_text(result)
    assert result.evidence is not None
    kept = ("journal.jsonl", "one/out.jsonl", "config.toml", "postgresql.log", "problems.txt")
    assert [name for name in kept if not result.evidence.joinpath(name).exists()] == []
    assert "make torture SEED=7" in as_text(result)
