"""What an operator asks and switches, with a daemon running: explain, attempts, parked, pause and resume."""

import json
import re
from typing import Any

import pytest

from daemon.simulator import RefuseSku, ResetAfter
from tests.acceptance.harness import Stage
from tests.acceptance.replica import Done
from tests.channels import SEKORM, YMATOU


async def asked(stage: Stage, *words: str) -> Any:  # noqa: ANN401 - whatever JSON can hold
    """Run a command with --json and return its answer."""
    done = await stage.stockrelay(*words, "--json")
    assert done.code == 0, done
    return json.loads(done.out)


def refused(done: Done, code: int, *words: str) -> None:
    """It failed with that code, without a traceback, and said so."""
    assert done.code == code, done
    assert "Traceback" not in done.err
    for word in words:
        assert word in done.err


@pytest.mark.settings(run={"heartbeat_s": 0.5})
async def test_a_pause_stops_pushes_over_kill_and_restart_and_resume_sends_the_newest_number(
    stage: Stage,
) -> None:
    replica = await stage.running(20)
    answer = await asked(stage, "pause", SEKORM, "--reason", "stocktaking", "--by", "ann")
    assert (answer["by"], answer["reason"], answer["in_flight"]) == ("ann", "stocktaking", 0)
    line = await replica.wait_for("control.channel_paused", channel=SEKORM)
    assert (line["by"], line["reason"], line["level"]) == ("ann", "stocktaking", "warning")
    sent = stage.simulator.stats.count(SEKORM)
    for number in (141, 142):
        await stage.erp.execute("UPDATE erp.stock SET on_hand = $1 WHERE sku = 'SKU-1'", number)
        # The other channel goes on.
        await stage.simulator.wait_for_state(YMATOU, {"SKU-1": number})
    await replica.wait_for("heartbeat.channel_counted", channel=SEKORM, is_paused=True, backlog=1)
    await replica.kill()
    since = replica.mark()
    await replica.start()
    await replica.wait_for("control.channel_paused", since=since, channel=SEKORM)
    await replica.wait_for("intake.resync_finished", since=since)
    await stage.erp.execute("UPDATE erp.stock SET on_hand = 143 WHERE sku = 'SKU-1'")
    # The kill may have left the other channel's last number in doubt: until it is confirmed.
    await stage.converged(channels={YMATOU})
    status = (await stage.status())["channels"]
    assert status[SEKORM]["paused"]["reason"] == "stocktaking"
    assert status[YMATOU]["paused"] is None
    explanation = (await asked(stage, "explain", "SKU-1"))["channels"]
    assert "stockrelay resume sekorm" in explanation[SEKORM]["next"]
    assert "143 is sent" in explanation[SEKORM]["next"]
    assert explanation[YMATOU]["state"] == "in sync"
    assert stage.simulator.stats.count(SEKORM) == sent, "something was sent while the channel was paused"
    assert stage.simulator.state.quantity(SEKORM, ("PN-1", "AMS")) == 100
    assert (await asked(stage, "resume", SEKORM))["was_paused_by"] == "ann"
    await replica.wait_for("control.channel_resumed", since=since, channel=SEKORM)
    await stage.converged()
    numbers = [entry.quantity for entry in stage.simulator.journal.of(SEKORM, ("PN-1", "AMS"))]
    assert numbers == [100, 143], "the newest number, once"
    assert (await asked(stage, "resume", SEKORM))["was_paused_since"] is None
    await stage.judged()


async def test_every_replica_honours_a_pause(stage18: Stage) -> None:
    owner = await stage18.running(20)
    other = stage18.replica("two")
    await other.start()
    await other.wait_for("doorbell.listening")
    await other.wait_for("slots.leases_taken")
    await asked(stage18, "pause", SEKORM)
    await other.wait_for("control.channel_paused", channel=SEKORM)
    sent = stage18.simulator.stats.count(SEKORM)
    await stage18.erp.execute("UPDATE erp.stock SET on_hand = 70")
    since = other.mark()
    await owner.kill()
    await other.wait_for("slots.leases_taken", since=since)
    await stage18.simulator.wait_for_state(YMATOU, {f"SKU-{n}": 70 for n in range(1, 21)})
    assert stage18.simulator.stats.count(SEKORM) == sent
    await asked(stage18, "resume", SEKORM)
    await stage18.converged()


@pytest.mark.settings(channel={"park_after": 2})
async def test_parked_skus_are_retried_when_the_marketplace_no_longer_refuses_them(stage18: Stage) -> None:
    await stage18.fill(20)
    await stage18.migrate()
    sekorm = stage18.simulator.faults.add(RefuseSku(shop="sekorm", key=("PN-1", "AMS")))
    ymatou = stage18.simulator.faults.add(RefuseSku(shop="ymatou", key="SKU-2"))
    replica = await stage18.started()
    await stage18.converged(spared={(SEKORM, ("PN-1", "AMS")), (YMATOU, "SKU-2")})
    await replica.wait_for("dispatch.delivery_parked", times=2)
    listed = await asked(stage18, "parked", "list")
    assert [row["sku"] for row in listed[SEKORM]["skus"]] == ["SKU-1"]
    assert "商品不存在" in listed[YMATOU]["skus"][0]["reason"]
    explanation = (await asked(stage18, "explain", "SKU-2"))["channels"][YMATOU]
    assert explanation["state"] == "parked"
    assert "商品不存在" in explanation["explanation"]["attempts"][0]
    # Known: left out of list and status, and still parked.
    assert (await asked(stage18, "parked", "discard", YMATOU, "SKU-2"))["discarded"] == ["SKU-2"]
    listed = await asked(stage18, "parked", "list", YMATOU)
    assert (listed[YMATOU]["parked"], listed[YMATOU]["discarded"], listed[YMATOU]["skus"]) == (1, 1, [])
    channels = (await stage18.status())["channels"]
    assert (channels[YMATOU]["parked"], channels[YMATOU]["discarded"]) == (0, 1)
    assert (channels[YMATOU]["parked_skus"], len(channels[SEKORM]["parked_skus"])) == ([], 1)
    # Still refused: parked again. No longer refused: it arrives.
    since = replica.mark()
    assert (await asked(stage18, "parked", "retry", YMATOU, "SKU-2"))["retried"] == ["SKU-2"]
    await replica.wait_for("dispatch.delivery_parked", since=since, channel=YMATOU)
    assert (await stage18.status())["channels"][YMATOU]["parked"] == 1, "parked anew is news again"
    stage18.simulator.faults.remove(sekorm.id)
    stage18.simulator.faults.remove(ymatou.id)
    await stage18.erp.execute("UPDATE erp.stock SET on_hand = 55 WHERE sku = 'SKU-2'")
    for channel in (SEKORM, YMATOU):
        assert len((await asked(stage18, "parked", "retry", channel, "--all"))["retried"]) == 1
    await stage18.converged()
    refused(await stage18.stockrelay("parked", "retry", YMATOU, "SKU-2"), 1, "not parked for ymatou: SKU-2")
    refused(await stage18.stockrelay("parked", "retry", YMATOU), 2, "--all")
    attempts = await asked(stage18, "attempts", "--sku", "SKU-2", "--channel", YMATOU)
    assert [one["outcome"] for one in attempts] == ["applied", "refused", "refused"]
    assert attempts[0]["quantity"] == 55


async def test_attempts_are_asked_for_by_sku_time_and_outcome(stage18: Stage) -> None:
    stage18.simulator.faults.add(ResetAfter(shop="sekorm", key=("PN-3", "AMS"), times=1))
    await stage18.running(20)
    everything = await asked(stage18, "attempts", "--limit", "1000")
    assert {one["outcome"] for one in everything} == {"applied", "unknown"}
    assert [one["at"] for one in everything] == sorted((one["at"] for one in everything), reverse=True)
    lost = await asked(stage18, "attempts", "--outcome", "unknown", "--since", "10m")
    assert [(one["sku"], one["channel"], one["identifiers"]) for one in lost] == [
        ("SKU-3", SEKORM, ["PN-3", "AMS"])
    ]
    assert lost[0]["reason"]
    assert await asked(stage18, "attempts", "--since", "2100-01-01") == []
    assert len(await asked(stage18, "attempts", "--limit", "3")) == 3
    done = await stage18.stockrelay("attempts", "--sku", "SKU-3")
    assert done.out.splitlines()[0].split() == [
        "at", "channel", "sku", "as", "quantity", "outcome", "ms", "reason",
    ]  # fmt: skip
    verified = await asked(stage18, "audit", "verify")
    assert (verified["attempts"], verified["broken"]) == (len(everything), [])
    await stage18.erp.execute("UPDATE stockrelay.attempt SET quantity = 1 WHERE sku = 'SKU-2'")
    done = await stage18.stockrelay("audit", "verify", "--head", f"2026-11-27:sekorm:1:{'0' * 64}")
    assert (done.code, done.err) == (1, "")
    assert re.search(r"attempt \d+ \(\w+, SKU-2\) was altered; batch \d+ of chain", done.out)
    assert "batch 1: not the one that was recorded" in done.out
    refused(await stage18.stockrelay("audit", "verify", "--head", "x"), 2, "--head", "DAY:CHAIN")
    refused(await stage18.stockrelay("attempts", "--since", "yesterday"), 2, "--since", "30m")
    refused(await stage18.stockrelay("attempts", "--outcome", "lost"), 2, "applied")


async def test_unknown_skus_and_channels_are_told_with_what_may_be_meant(stage18: Stage) -> None:
    await stage18.fill(20)
    await stage18.migrate()
    refused(await stage18.stockrelay("explain", "sku_17x"), 1, "no SKU 'sku_17x'", "Did you mean: SKU-17")
    refused(await stage18.stockrelay("explain", "Ω"), 1, "Nothing there is like it")
    refused(await stage18.stockrelay("explain", "AMS"), 1, "no SKU 'AMS'")
    for words in (("explain", "SKU-1", "--channel"), ("pause",), ("resume",), ("parked", "list"),
                  ("parked", "retry", "--all"), ("attempts", "--channel")):  # fmt: skip
        refused(await stage18.stockrelay(*words, "ymato"), 2, "sekorm, ymatou", "Did you mean ymatou?")
    # A marketplace's own name leads to the SKU.
    answer = await asked(stage18, "explain", "PN-17")
    assert (answer["sku"], answer["meaning"]) == ("SKU-17", "PN-17 is sekorm's pn_code of SKU-17")
    await stage18.erp.execute("UPDATE erp.stock SET part_no = 'PN-1' WHERE sku IN ('SKU-1', 'SKU-2')")
    refused(await stage18.stockrelay("explain", "PN-1"), 1, "several SKUs", "SKU-1, SKU-2")
