"""Many changes on few SKUs, and many SKUs of which a few can't be delivered."""

from collections import Counter
from math import ceil

import pytest

from daemon.core.types import ChannelName
from daemon.simulator import Key, RefuseSku
from tests.acceptance import oracle
from tests.acceptance.harness import Stage
from tests.acceptance.writers import burst
from tests.channels import CHANNELS, SEKORM, YMATOU

CHANGES = 100_000
HOT_SKUS = 100
MANY_SKUS = 10_000
MAX_WAIT_S = 2.0


@pytest.mark.settings(debounce={"quiet_s": 0.5, "max_wait_s": MAX_WAIT_S})
async def test_a_burst_costs_one_request_for_each_sku_and_window(stage18: Stage) -> None:
    replica = await stage18.running(HOT_SKUS)
    simulator = stage18.simulator
    before = {name: simulator.stats.accepted[name] for name in CHANNELS}
    made, seconds = await burst(stage18.database.dsn, HOT_SKUS, CHANGES, seconds=10)
    took = await stage18.converged()
    windows = ceil(seconds / MAX_WAIT_S) + 2
    sent = {name: simulator.stats.accepted[name] - before[name] for name in CHANNELS}
    print(  # noqa: T201
        f"{made} changes on {HOT_SKUS} SKUs in {seconds:.1f} s; requests {sent}, at most {HOT_SKUS * windows} each; "
        f"right {took:.1f} s after the last change"
    )
    assert made >= CHANGES
    # Every change is in the change log once: it is the intake that made one of many.
    for name in CHANNELS:
        assert HOT_SKUS <= sent[name] <= HOT_SKUS * windows
    await stage18.judged()
    assert simulator.stats.overlaps == []
    await stage18.silent(replica)


# An answer, or the renewal of a lease, may take longer than the suite's usual two seconds where the cores are busy
# elsewhere.
@pytest.mark.settings(
    run={"lease_s": 10.0},
    channel={"rate_per_s": 10_000, "concurrency": 64, "park_after": 3, "timeout_s": 10.0, "settle_s": 31.0},
)
async def test_skus_that_cannot_be_delivered_are_parked_and_the_others_flow(stage18: Stage) -> None:
    too_long, refused = "X" * 51, ("PN-77", "AMS")
    await stage18.fill(MANY_SKUS)
    await stage18.erp.execute("UPDATE erp.stock SET part_no = $1 WHERE sku = 'SKU-4711'", too_long)
    await stage18.migrate()
    faults = stage18.simulator.faults
    faults.add(RefuseSku(shop="sekorm", key=refused))
    faults.add(RefuseSku(shop="ymatou", key="SKU-77"))
    replica = await stage18.started()
    spared: set[tuple[ChannelName, Key]] = {
        (SEKORM, (too_long, "AMS")),
        (SEKORM, refused),
        (YMATOU, "SKU-77"),
    }
    took = await stage18.converged(timeout=90, spared=spared)
    state = stage18.simulator.state
    print(f"{MANY_SKUS} SKUs at both marketplaces after {took:.1f} s")  # noqa: T201
    assert (state.count(SEKORM), state.count(YMATOU)) == (MANY_SKUS - 2, MANY_SKUS - 1)
    parked = {
        name: {row["sku"]: row["reason"] for row in channel["parked_skus"]}
        for name, channel in (await stage18.status())["channels"].items()
    }
    print(parked)  # noqa: T201
    assert parked[SEKORM].keys() == {"SKU-4711", "SKU-77"}
    assert parked[YMATOU].keys() == {"SKU-77"}
    assert "51" in parked[SEKORM]["SKU-4711"]
    assert "50" in parked[SEKORM]["SKU-4711"]
    assert "pn not found" in parked[SEKORM]["SKU-77"]
    assert "商品不存在" in parked[YMATOU]["SKU-77"]
    assert len(replica.find("dispatch.delivery_parked")) == 3, "a person is told once"
    # Ymatou refuses one SKU in words of its own; Sekorm's -1 may mean anything, so it is tried `park_after` times. What
    # can't be written is never sent. (A claim that no request was free for in time is given back: nothing was sent.)
    attempts = [
        one for one in await oracle.attempts(stage18.erp) if one.outcome not in ("applied", "not_sent")
    ]
    print(Counter(one.reason for one in attempts))  # noqa: T201
    failed = Counter((one.channel, one.sku, one.outcome) for one in attempts)
    assert failed == {(SEKORM, "SKU-77", "unknown"): 3, (YMATOU, "SKU-77", "refused"): 1}
    # What was wrong is put right in the ERP, and it flows.
    await stage18.erp.execute("UPDATE erp.stock SET part_no = $1 WHERE sku = 'SKU-4711'", "X" * 50)
    await stage18.simulator.wait_for_state(SEKORM, {("X" * 50, "AMS"): 100})
    await stage18.converged(spared=spared)
    await stage18.judged()
