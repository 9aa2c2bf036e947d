"""`only` and `only_where` in a running daemon: a canary on the first day, and what comes after it."""

import json
from typing import Any

import pytest

from tests.acceptance.harness import Stage
from tests.acceptance.replica import Replica
from tests.acceptance.test_signals import reloaded
from tests.channels import SEKORM, YMATOU


def held(stage: Stage) -> dict[str, int]:
    """What the marketplace holds, by part number."""
    return {key[0]: quantity for key, quantity in stage.simulator.state.of(SEKORM).items()}


async def holds(stage: Stage, **wanted: int) -> None:
    """Wait until the marketplace holds these numbers, by the digits of their SKUs, and no others."""
    numbers = {f"PN-{name.removeprefix('n')}": quantity for name, quantity in wanted.items()}
    await stage.simulator.wait_until(lambda: held(stage) == numbers, 20)


async def explained(stage: Stage, sku: str) -> dict[str, Any]:
    done = await stage.stockrelay("explain", sku, "--channel", SEKORM, "--json")
    found: dict[str, Any] = json.loads(done.out)["channels"][SEKORM]
    return found


async def take_over(stage: Stage, replica: Replica, **sekorm: Any) -> None:  # noqa: ANN401 - settings
    """Change the configuration, and wait until everything was compared by it."""
    stage.configure(sekorm=sekorm)
    since = replica.mark()
    assert (await reloaded(replica))["needs_restart"] == []
    await replica.wait_for("intake.resync_finished", since=since, channel=SEKORM)


@pytest.mark.settings(sekorm={"only": ["SKU-1"]}, guard={"zero_count": 5})
async def test_a_canary_is_sent_alone_and_the_choice_changes_in_the_running_daemon(stage18: Stage) -> None:
    await stage18.fill(40)
    await stage18.migrate()
    replica = await stage18.started()
    await holds(stage18, n1=100)
    await stage18.converged(channels=[YMATOU])
    await stage18.erp.execute("UPDATE erp.stock SET on_hand = 0 WHERE sku <> 'SKU-1'")
    await stage18.erp.execute("UPDATE erp.stock SET on_hand = 7 WHERE sku = 'SKU-1'")
    await holds(stage18, n1=7)
    status = (await stage18.status())["channels"]
    assert (status[SEKORM]["skus"], status[SEKORM]["only"]) == (1, {"skus": 1, "where": None})
    assert status[YMATOU]["only"] is None
    shown = await stage18.stockrelay("status")
    assert "1, only 1 named" in shown.out
    found = await explained(stage18, "SKU-2")
    assert (found["state"], "only" in found["next"], found["ledger"]) == ("left out", True, None)
    done = await stage18.stockrelay("push", SEKORM, "SKU-2")
    assert (done.code, "channels.sekorm.only" in done.err) == (1, True), done
    # The choice is widened, and then narrowed by a condition: what it leaves out keeps its number.
    await stage18.erp.execute("UPDATE erp.stock SET on_hand = 5 WHERE sku <> 'SKU-1'")
    await take_over(stage18, replica, only=["SKU-1", "SKU-2", "SKU-3"])
    await holds(stage18, n1=7, n2=5, n3=5)
    await take_over(stage18, replica, only_where="sku IN ('SKU-1', 'SKU-2') AND brand_name = 'AMS'")
    await stage18.erp.execute("UPDATE erp.stock SET on_hand = 0 WHERE sku = 'SKU-3'")
    await stage18.erp.execute("UPDATE erp.stock SET on_hand = 3, brand = 'X' WHERE sku = 'SKU-1'")
    await stage18.erp.execute("DELETE FROM erp.stock WHERE sku = 'SKU-2'")
    await holds(stage18, n1=7, n2=0, n3=5)
    assert (await stage18.status())["channels"][SEKORM]["held"] == 0
    assert [entry.quantity for entry in stage18.simulator.journal.of(SEKORM, ("PN-1", "AMS"))] == [100, 7]
