"""The exposure clock against a reckoning from the ERP's commits and the marketplaces' journal, through outages."""

import asyncio
from typing import Final

import pytest

from daemon.simulator import DelayAfter, RefuseSku, ResetAfter, Throttle
from tests.acceptance.exposed import History, Unanswered, differences, exposure, names
from tests.acceptance.harness import Stage
from tests.channels import SEKORM, YMATOU

SKUS: Final = 30
TICK_S: Final = 0.15
"""By how long the sums of one SKU may be off at its largest difference: readings take some milliseconds each, and so
do writings of acknowledgements."""
HELD, BUSY = range(1, 11), range(20, SKUS + 1)
PARKED, DOUBTED, LEFT_IN_FLIGHT, THROTTLED, UNSERVED = 11, 12, 13, (14, 15), (16, 17)
OUTAGE_S: Final = 1.5
_UNREAD: Final = """
    SELECT count(*) FROM stockrelay.ledger AS l JOIN erp.stock AS s USING (sku)
    WHERE s.on_hand <> CASE WHEN l.want_seq > l.acked_seq THEN l.listed_quantity ELSE l.acked_quantity END"""
"""A claim may have read a number before a marking did: it is the acknowledged one then."""
_IN_DOUBT: Final = "SELECT count(*) FROM stockrelay.attempt WHERE sku = $1 AND outcome = 'unknown'"


@pytest.mark.timeout(120)
@pytest.mark.settings(
    run={"lease_s": 1.0},
    channel={"timeout_s": 0.5, "settle_s": 2.0},
    guard={"zero_count": 5, "window_s": 20},
    debounce={"quiet_s": 0.5, "max_wait_s": 2.0},
)
async def test_sums_agree_with_the_journal_through_outages(stage18: Stage) -> None:
    stage, history, unanswered = stage18, History(stage18), Unanswered()
    replica = await stage.running(SKUS)
    faults = stage.simulator.faults

    # Changes that wait for each other, up and down. Each is read before the next: numbers in between are not known.
    for _ in range(8):
        for number in BUSY:
            await history.set(stage.random.randint(60, 140), number)
        async with asyncio.timeout(20):
            while await stage.erp.fetchval(_UNREAD):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)  # so that each number stands for a while

    # A SKU that the marketplaces refuse, and one whose acknowledgement is lost.
    for shop, key in names(PARKED).items():
        faults.add(RefuseSku(shop=shop, key=key))
    await history.set(40, PARKED)
    await replica.wait_for("dispatch.delivery_parked", times=2)
    since = stage.simulator.journal.last
    for shop, key in names(DOUBTED).items():
        faults.add(ResetAfter(shop=shop, key=key, times=1))
    await history.set(40, DOUBTED)
    async with asyncio.timeout(30):
        # Not by the log, which does not repeat every doubt.
        while await stage.erp.fetchval(_IN_DOUBT, f"SKU-{DOUBTED}") < len(names(DOUBTED)):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    unanswered.note(since, stage.simulator.journal.last, [DOUBTED])

    # A feed of zeroes, held until an operator releases them.
    await history.set(0, *HELD)
    await replica.wait_for("guard.numbers_held", times=2)

    # One marketplace takes nothing; the daemon is killed with a request in flight, and is away.
    away = faults.add(Throttle(shop="ymatou", retry_after=1))
    await history.set(70, THROTTLED[0])
    await history.set(130, THROTTLED[1])
    await asyncio.sleep(OUTAGE_S)
    faults.remove(away.id)
    for number in THROTTLED:
        await replica.wait_for("dispatch.delivery_acknowledged", channel=YMATOU, sku=f"SKU-{number}", times=2)
    since = stage.simulator.journal.last
    for shop, key in names(LEFT_IN_FLIGHT).items():
        faults.add(DelayAfter(shop=shop, key=key, seconds=30))
    await history.set(60, LEFT_IN_FLIGHT)
    await stage.simulator.wait_for_state(YMATOU, {f"SKU-{LEFT_IN_FLIGHT}": 60})
    await stage.simulator.wait_for_state(SEKORM, {(f"PN-{LEFT_IN_FLIGHT}", "AMS"): 60})
    await replica.kill()
    faults.clear()
    unanswered.note(since, stage.simulator.journal.last, [LEFT_IN_FLIGHT])
    await history.set(60, UNSERVED[0])
    await history.set(130, UNSERVED[1])
    await asyncio.sleep(OUTAGE_S)
    mark = replica.mark()
    await replica.start()
    await replica.wait_for("doorbell.listening", since=mark)

    for channel in (SEKORM, YMATOU):
        assert (await stage.stockrelay("parked", "retry", channel, "--all")).code == 0
        assert (await stage.stockrelay("release", channel)).code == 0
    await stage.converged()
    found = await exposure(stage)
    largest = max(differences(stage, history, found, unanswered), key=lambda one: one.seconds)
    print(f"at most {largest.seconds * 1000:.0f} ms off: {largest}")  # noqa: T201 - the figure of the run
    assert largest.seconds < TICK_S, largest
    for number, reason in (
        (HELD[0], "guard"),
        (PARKED, "parked"),
        (DOUBTED, "doubt"),
        (LEFT_IN_FLIGHT, "marketplace"),
    ):
        for channel in names(number):
            assert found[channel, f"SKU-{number}"]["over"][reason] > 1, (number, channel)
