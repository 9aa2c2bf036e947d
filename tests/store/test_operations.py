"""The log of what operators did: it is written with the action, and cannot be changed."""

from datetime import UTC, datetime, timedelta

import pytest

from daemon.core.operations import MOST_NAMED, Action, Operation, Operator
from daemon.core.types import Sku
from daemon.store.control import Pauses
from daemon.store.database import rolled_back
from daemon.store.operations import OperationLog, log_operation
from daemon.store.parked import Parked
from daemon.store.pushes import Pushes
from tests.channels import YMATOU
from tests.store.shop import CHANNEL, Shop

ANN = Operator("ann", "ann@desk")

on_18 = pytest.mark.parametrize("server", ["pg18"], indirect=True)


async def told(shop: Shop, sku: str | None = None) -> list[tuple[str, str | None]]:
    found = await OperationLog(shop.database).recent(50, CHANNEL, None if sku is None else Sku(sku))
    assert all((one.operator, one.origin) == ("ann", "ann@desk") for one in found)
    return [(one.action, one.outcome) for one in found]


async def test_each_action_is_noted_and_one_that_did_nothing_is_not(shop: Shop) -> None:
    await shop.sells("A", 5, ("", "b"))
    await shop.sells("B", 5)
    await shop.drain()
    await shop.pass_time(3)
    claim = await shop.claim()
    for attempt in claim.attempts:
        await shop.complete(attempt, "applied")
    pauses, parked = Pauses(shop.database), Parked(shop.database, CHANNEL)
    await pauses.resume(CHANNEL, ANN)
    assert await parked.retry([Sku("B")], 10, ANN) == []
    await pauses.pause(YMATOU, "ann", "", ANN)
    assert await told(shop) == []
    await pauses.pause(CHANNEL, "ann", "stocktaking", ANN)
    await pauses.resume(CHANNEL, ANN)
    assert await parked.discard([Sku("A")], ANN) == ["A"]
    assert await parked.retry(None, 10, ANN) == ["A"]
    asked = await Pushes(shop.database, CHANNEL).ask(Sku("B"), ANN)
    assert asked is not None
    of_channel = [("resume", "resumed"), ("pause", "paused")]
    assert await told(shop, "B") == [("push", None), *of_channel]
    assert await told(shop, "A") == [("retry", "done"), ("discard", "done"), *of_channel]
    log = OperationLog(shop.database)
    await log.log(ANN, Action.PUSH, CHANNEL, "applied, 5", ends=asked.operation)
    assert (await told(shop))[0] == ("push", "applied, 5"), "its end is told with it"
    assert [one.reason for one in await log.recent(50, CHANNEL) if one.action == "pause"] == ["stocktaking"]


@on_18
async def test_an_action_that_is_rolled_back_leaves_no_row(shop: Shop) -> None:
    async with shop.database.transaction("acting") as connection, rolled_back(connection):
        await log_operation(connection, ANN, Action.RELEASE, CHANNEL, "released", sku_count=7)
    assert await told(shop) == []


@on_18
async def test_only_what_is_older_than_its_keeping_and_than_90_days_is_deleted(shop: Shop) -> None:
    log = OperationLog(shop.database)
    for days in (30, 89, 91, 400):
        row = await log.log(ANN, Action.GO_LIVE, None, "done")
        await shop.sql.execute(
            "UPDATE stockrelay.operation SET at = at - make_interval(days => $2) WHERE id = $1", row, days
        )
    assert await log.trim(timedelta(days=365)) == 1
    assert await log.trim(timedelta(0)) == 1
    assert len(await log.recent(50)) == 2


@on_18
async def test_of_many_skus_the_count_is_kept_and_hostile_names_are_stored(shop: Shop) -> None:
    many = [Sku(f"S{n}") for n in range(MOST_NAMED + 1)]
    async with shop.database.transaction("acting") as connection:
        await log_operation(
            connection, Operator("a\0n\ud800", "x" * 10), Action.RETRY, CHANNEL, "done", skus=many
        )
    (one,) = await OperationLog(shop.database).recent(50, CHANNEL, Sku("another"))
    assert (one.skus, one.sku_count) == ((), len(many))
    assert "\0" not in one.operator


def test_an_operation_is_told_on_one_line() -> None:
    at = datetime(2026, 11, 29, tzinfo=UTC)
    skus = tuple(Sku(name) for name in "ABCDEF")
    one = Operation(at, "ann", "ann@desk", "retry", CHANNEL, skus, 6, "fixed", "done")
    assert one.words() == 'retry 6 SKUs (A, B, C, D, E, ...) "fixed": done; by ann, from ann@desk'
    one = Operation(at, "bob", "page at 10.0.0.1", "push", CHANNEL, skus[:1], 1, "", None)
    assert one.words() == "push 1 SKU (A): not ended yet; by bob, from page at 10.0.0.1"
