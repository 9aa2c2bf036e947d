"""The first day: what a channel that is new to the database is told, which is nothing until `stockrelay go-live`."""

import asyncio
import json
import signal
from typing import Any, Final

import pytest

from daemon.simulator import HoldRequest, Message
from tests.acceptance.harness import Stage
from tests.acceptance.replica import Done, Replica, unheard
from tests.acceptance.test_ops import port_of
from tests.channels import CHANNELS, SEKORM, YMATOU
from tests.page.test_forms import TOKEN, Browser

READ: Final = "ymatou.products.list.get"
ASKS: Final = pytest.mark.settings(channel={"first_start": "ask"})


async def waiting(stage: Stage) -> tuple[Replica, dict[str, dict[str, Any]]]:
    """A daemon that has said of both channels what it would send."""
    await stage.migrate()
    replica = await stage.started()
    return replica, {name: await replica.wait_for("run.first_start_waits", channel=name) for name in CHANNELS}


async def go_live(stage: Stage, *words: str) -> tuple[Done, dict[str, Any]]:
    done = await stage.stockrelay("go-live", *words, "--json")
    return done, json.loads(done.out) if done.out else {}


def sent(stage: Stage, *channels: str) -> int:
    """How many numbers have reached the marketplaces."""
    return sum(entry.shop in (channels or CHANNELS) for entry in stage.simulator.journal)


async def shadowed(stage: Stage, numbers: int) -> None:
    """Wait until this many numbers are decided in shadow."""
    sql = "SELECT count(*) FROM stockrelay.ledger WHERE due_at = 'infinity'"
    async with asyncio.timeout(30):
        while await stage.erp.fetchval(sql) < numbers:  # noqa: ASYNC110 - the ledger tells nobody
            await asyncio.sleep(0.1)


@ASKS
async def test_nothing_is_sent_before_somebody_lets_the_channel_go_live(stage18: Stage) -> None:
    await stage18.fill(6)
    await stage18.erp.execute("UPDATE erp.stock SET on_hand = 0 WHERE sku = 'SKU-1'")
    replica, said = await waiting(stage18)
    line = said[SEKORM]
    assert (line["listed"], line["zeroes"], line["level"]) == (6, 1, "error")
    assert "stockrelay go-live sekorm" in line["advice"]
    await shadowed(stage18, 12)
    # A change is decided and shown, and not sent.
    await stage18.erp.execute("UPDATE erp.stock SET on_hand = 42 WHERE sku = 'SKU-2'")
    await replica.wait_for("dispatch.delivery_shadowed", channel=SEKORM, sku="SKU-2", quantity=42)
    done = await stage18.stockrelay("attempts", "--sku", "SKU-2", "--channel", SEKORM, "--json")
    assert [(one["quantity"], one["outcome"]) for one in json.loads(done.out)] == [
        (42, "shadow"),
        (100, "shadow"),
    ]
    explained = await stage18.stockrelay("explain", "SKU-2", "--channel", SEKORM)
    assert "in shadow" in explained.out
    assert "would be sent: 42 as PN-2 / AMS" in explained.out
    assert "stockrelay go-live sekorm" in explained.out
    channel = (await stage18.status())["channels"][SEKORM]
    assert (channel["live"], channel["backlog"], channel["shadowed"], channel["oldest_s"]) == (
        None,
        0,
        6,
        None,
    )
    # The night's reconcile says why there is nothing to compare, instead of waiting for numbers that are not sent.
    done = await stage18.stockrelay("reconcile", "--json")
    reports = json.loads(done.out)["channels"]
    assert {"go-live" in reports[name]["incomplete"] for name in CHANNELS} == {True}
    assert (done.code, [reports[name]["healed"] for name in CHANNELS]) == (1, [0, 0])
    for refused in (("push", SEKORM, "SKU-2"), ("sync", SEKORM)):
        done = await stage18.stockrelay(*refused)
        assert done.code == 1
        assert "go-live sekorm" in done.err
    assert sent(stage18) == 0
    # One channel goes live; the other waits.
    done, answer = await go_live(stage18, SEKORM, "--dry-run")
    assert (done.code, answer["live"], answer["listed"], answer["zeroes"]) == (0, None, 6, 1)
    assert sent(stage18) == 0
    done, answer = await go_live(stage18, SEKORM, "--yes", "--by", "ann")
    assert (done.code, answer["live"]["by"]) == (0, "ann"), done
    await replica.wait_for("run.channel_live", channel=SEKORM, by="ann")
    await stage18.converged(channels=[SEKORM])
    assert sent(stage18, YMATOU) == 0
    done, answer = await go_live(stage18, SEKORM, "--yes", "--by", "bob")
    assert (done.code, answer["live"]["by"]) == (0, "ann"), "it is live already"
    assert sent(stage18, SEKORM) == 6, "each number once"


@pytest.mark.settings(channel={"first_start": "ask"}, ymatou={"enabled": False})
async def test_go_live_says_clearly_what_it_cannot_do(stage18: Stage) -> None:
    await stage18.fill(3)
    await stage18.migrate()
    done, _ = await go_live(stage18, "nowhere", "--yes")
    assert (done.code, "there is no enabled channel" in done.err) == (2, True)
    done, _ = await go_live(stage18, YMATOU, "--yes")
    assert done.code == 2, "it is switched off"
    done, _ = await go_live(stage18, SEKORM)
    assert (done.code, "--yes" in done.err) == (2, True)
    done, _ = await go_live(stage18, SEKORM, "--yes")
    assert (done.code, "has not been compared yet" in done.err) == (1, True), "no daemon has run"
    await stage18.erp.execute("UPDATE stockrelay.intake SET system_identifier = 42")
    done, _ = await go_live(stage18, SEKORM, "--yes")
    assert (done.code, "stockrelay adopt" in done.err) == (1, True), "nothing is sent from a copy"


def holds(stage: Stage, numbers: dict[int, int]) -> None:
    """The second marketplace holds these numbers already."""
    for n, quantity in numbers.items():
        stage.simulator.state.put(YMATOU, f"SKU-{n}", quantity)


@ASKS
async def test_only_what_differs_from_the_marketplace_is_sent_where_it_can_be_read(stage18: Stage) -> None:
    await stage18.fill(12)
    holds(stage18, dict.fromkeys(range(1, 11), 100) | {4: 7, 5: 0, 20: 1, 21: 0, 22: 3})
    replica, _ = await waiting(stage18)
    said = await replica.wait_for("run.first_start_compared", channel=YMATOU)
    assert (said["at_marketplace"]["equal"], said["at_marketplace"]["differing"]) == (8, 2)
    await shadowed(stage18, 24)
    assert replica.find("run.first_start_compared", channel=SEKORM) == [], "it only compares"
    _, answer = await go_live(stage18, YMATOU, "--dry-run")
    there = answer["at_marketplace"]
    assert (there["equal"], there["differing"], there["missing"]) == (8, 2, 2)
    assert there["first"] == [
        {"sku": "SKU-4", "listed": 100, "holds": 7},
        {"sku": "SKU-5", "listed": 100, "holds": 0},
    ]
    # SKUs on sale there that are not listed stay as they are, and are named.
    assert (there["not_listed"], there["first_not_listed"]) == (2, ["SKU-20", "SKU-22"])
    shown = await stage18.stockrelay("go-live", YMATOU, "--dry-run")
    assert "first_differing:\nsku    listed  holds\nSKU-4  100     7\nSKU-5  100     0\n" in shown.out
    holds(stage18, {20: 0, 22: 0})
    assert await stage18.erp.fetchval("SELECT count(*) FROM stockrelay.reconcile_read") == 0
    done, answer = await go_live(stage18, YMATOU, "--yes")
    assert (done.code, answer["at_marketplace"]["equal"]) == (0, 8), done
    await stage18.converged(channels=[YMATOU])
    names = sorted(entry.key for entry in stage18.simulator.journal if entry.shop == YMATOU)
    assert names == ["SKU-11", "SKU-12", "SKU-4", "SKU-5"]
    explained = await stage18.stockrelay("explain", "SKU-1", "--channel", YMATOU)
    assert "held 100 as SKU-1 when the channel went live" in explained.out
    # A later change of such a number is sent as any other.
    await stage18.erp.execute("UPDATE erp.stock SET on_hand = 99 WHERE sku = 'SKU-1'")
    await stage18.converged(channels=[YMATOU])
    assert sent(stage18, YMATOU) == 5
    # One that compares can't be read: that is said, and every number is sent.
    _, answer = await go_live(stage18, SEKORM, "--yes")
    assert (answer["at_marketplace"], "can't be read" in answer["not_compared"]) == (None, True)
    await replica.wait_for("run.channel_live", channel=SEKORM)


@ASKS
async def test_a_listing_ten_times_too_high_is_held_when_the_channel_goes_live(stage18: Stage) -> None:
    await stage18.fill(40, on_hand=1000)
    holds(stage18, dict.fromkeys(range(1, 41), 100))
    replica, said = await waiting(stage18)
    assert said[YMATOU]["largest"][0]["quantity"] == 1000
    done, answer = await go_live(stage18, YMATOU, "--yes")
    assert (done.code, answer["at_marketplace"]["differing"]) == (0, 40)
    await replica.wait_for("guard.numbers_held", channel=YMATOU)
    assert (await stage18.status())["channels"][YMATOU]["held"] == 40
    assert sent(stage18) == 0
    # The unit is corrected: nothing is left to send.
    await stage18.erp.execute("UPDATE erp.stock SET on_hand = 100")
    await stage18.converged(channels=[YMATOU])
    assert sent(stage18, YMATOU) == 0


@ASKS
async def test_a_marketplace_that_cannot_be_read_is_gone_live_with_only_when_that_is_said(
    stage18: Stage,
) -> None:
    await stage18.fill(3)
    holds(stage18, dict.fromkeys(range(1, 4), 100))
    await waiting(stage18)
    stage18.simulator.faults.add(Message(shop="ymatou", endpoint=READ, code="0005", message="非法api名称"))
    done, _ = await go_live(stage18, YMATOU, "--yes")
    assert (done.code, "--without-comparison" in done.err) == (1, True), done
    assert "0005" in done.err
    _, answer = await go_live(stage18, YMATOU, "--dry-run")
    assert (answer["at_marketplace"], "0005" in answer["not_compared"]) == (None, True)
    assert sent(stage18) == 0
    assert await stage18.erp.fetchval("SELECT count(*) FROM stockrelay.live") == 0
    done, _ = await go_live(stage18, YMATOU, "--yes", "--without-comparison")
    assert done.code == 0
    await stage18.converged(channels=[YMATOU])
    assert sent(stage18, YMATOU) == 3


@ASKS
async def test_what_is_all_zero_on_the_first_day_is_not_even_decided(stage18: Stage) -> None:
    await stage18.fill(40, on_hand=0)
    replica, said = await waiting(stage18)
    assert [said[SEKORM][name] for name in ("listed", "zeroes", "held", "shadowed")] == [40, 40, 40, 0]
    await replica.wait_for("guard.numbers_held", channel=SEKORM)
    done, answer = await go_live(stage18, SEKORM, "--yes")
    assert done.code == 0
    assert "quantities are 0 at the first filling" in answer["guard"]
    await replica.wait_for("run.channel_live", channel=SEKORM)
    again = await stage18.stockrelay("go-live", SEKORM, "--yes")
    assert "nothing is sent yet: the guard holds 40 numbers: 40 of 40 quantities are 0" in again.out
    held = await stage18.status()
    assert held["channels"][SEKORM]["held"] == 40
    assert sent(stage18) == 0


@pytest.mark.settings(ops={"admin_token": TOKEN})
async def test_shadow_by_sighup_stops_sending_and_live_goes_on(stage18: Stage) -> None:
    replica = await stage18.running(5)
    stage18.configure(channel={"mode": "shadow"})
    replica.signal(signal.SIGHUP)
    await replica.wait_for("run.configuration_reloaded")
    before = sent(stage18)
    await stage18.erp.execute("UPDATE erp.stock SET on_hand = on_hand + 1")
    await shadowed(stage18, 10)
    await says_that_nothing_is_sent(stage18, replica)
    assert sent(stage18) == before
    stage18.configure(channel={"mode": "live"})
    since = replica.mark()
    replica.signal(signal.SIGHUP)
    await replica.wait_for("run.configuration_reloaded", since=since)
    await stage18.converged()
    assert sent(stage18) == before + 10, "each number once"


async def says_that_nothing_is_sent(stage: Stage, replica: Replica) -> None:
    """Every action that would send says that it does not, in a channel in shadow."""
    await stage.erp.execute(
        "UPDATE stockrelay.ledger SET parked_at = now(), parked_reason = 'a test', due_at = NULL "
        "WHERE channel = 'sekorm' AND sku = 'SKU-1'"
    )
    why = 'so nothing is sent: channels.sekorm.mode is "shadow"'
    for words, code in (
        (("parked", "discard", SEKORM, "SKU-1"), 0),
        (("parked", "retry", SEKORM, "SKU-1"), 0),
        (("release", SEKORM), 0),
        (("resume", SEKORM), 0),
        (("push", SEKORM, "SKU-2"), 1),
        (("push", SEKORM, "SKU-2", "--dry-run"), 1),
        (("sync", SEKORM), 1),
        (("sync", SEKORM, "--dry-run"), 0),
    ):
        done = await stage.stockrelay(*words)
        assert (done.code, why in done.out + done.err) == (code, True), (words, done)
    done = await stage.stockrelay("release", SEKORM, "--json")
    assert "mode" in json.loads(done.out)["shadow"]
    browser = Browser(await port_of(replica), [0.0])
    await browser.sign_in()
    for action in ("reconcile", "push"):
        page = (await browser.get(f"/do/{action}?channel={SEKORM}&skus=SKU-2")).body.decode()
        assert "in shadow" in page, action


async def test_the_slots_of_a_replica_in_shadow_are_sent_by_one_that_is_live(stage18: Stage) -> None:
    await stage18.fill(20)
    await stage18.migrate()
    stage18.configure(channel={"mode": "shadow"})
    shadow = await stage18.started("shadow")
    await shadowed(stage18, 40)
    assert sent(stage18) == 0
    stage18.configure(channel={"mode": "live"})
    await stage18.started("live")
    await shadow.stop()
    await stage18.converged()
    assert sent(stage18) == 40, "each number once"


@ASKS
async def test_a_go_live_that_is_killed_or_runs_twice_changes_all_or_nothing(stage18: Stage) -> None:
    await stage18.fill(6)
    holds(stage18, dict.fromkeys(range(1, 5), 100))
    # One name for two SKUs: they are parked in shadow, and go-live does not change that.
    stage18.configure(
        ymatou={
            "listing": "SELECT sku, CASE sku WHEN 'SKU-6' THEN 'SKU-5' ELSE sku END AS outer_sku_id, "
            "on_hand AS quantity FROM erp.stock"
        }
    )
    replica, said = await waiting(stage18)
    assert (said[YMATOU]["sharing_identifiers"], said[YMATOU]["shared"][0]["sku"]) == (2, "SKU-5")
    await shadowed(stage18, 10)
    # Killed while it reads: nothing has changed.
    hold = stage18.simulator.faults.add(HoldRequest(shop="ymatou", endpoint=READ, times=1))
    process = await unheard(stage18.config, "go-live", YMATOU, "--yes")
    await stage18.simulator.wait_until(lambda: hold.triggered > 0, timeout=30)
    process.kill()
    await process.wait()
    stage18.simulator.faults.clear()
    assert await stage18.erp.fetchval("SELECT count(*) FROM stockrelay.live") == 0
    # Killed while it writes, behind a lock that keeps its last statement waiting: nothing has changed.
    async with stage18.erp.transaction():
        await stage18.erp.execute("LOCK TABLE stockrelay.ledger IN EXCLUSIVE MODE")
        process = await unheard(stage18.config, "go-live", YMATOU, "--yes")
        await waits_for_the_ledger(stage18)
        process.kill()
        await process.wait()
    assert await stage18.erp.fetchval("SELECT count(*) FROM stockrelay.live") == 0
    known = "SELECT count(*) FROM stockrelay.ledger WHERE channel = 'ymatou' AND acked_quantity IS NOT NULL"
    assert (await stage18.erp.fetchval(known), sent(stage18)) == (0, 0)
    # Two at once: one of them lets it go live, and both say so.
    answers = await asyncio.gather(
        *(go_live(stage18, YMATOU, "--yes", "--by", name) for name in ("ann", "bob"))
    )
    assert [done.code for done, _ in answers] == [0, 0], answers
    assert len({answer["live"]["by"] for _, answer in answers}) == 1
    await replica.wait_for("run.channel_live", channel=YMATOU)
    async with asyncio.timeout(30):
        while await stage18.erp.fetchval(known) < 4:  # noqa: ASYNC110 - the ledger tells nobody
            await asyncio.sleep(0.1)
    status = await stage18.status()
    assert (status["channels"][YMATOU]["parked"], sent(stage18)) == (2, 0)


async def waits_for_the_ledger(stage: Stage) -> None:
    """Wait until the transaction that makes the channel live waits for a lock."""
    sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%reconcile_read AS r%'"
    async with asyncio.timeout(30):
        while not await stage.erp.fetchval(sql):
            # A transaction sees the same activity until this.
            await stage.erp.execute("SELECT pg_stat_clear_snapshot()")
            await asyncio.sleep(0.05)


@ASKS
async def test_a_channel_that_no_daemon_serves_goes_live_and_is_sent_to_when_one_starts(
    stage18: Stage,
) -> None:
    await stage18.fill(4)
    holds(stage18, {1: 100, 2: 100})
    replica, _ = await waiting(stage18)
    await shadowed(stage18, 8)
    await replica.stop()
    done = await stage18.stockrelay("go-live", YMATOU, "--yes")
    assert (done.code, "no daemon serves it" in done.out) == (0, True), done
    assert sent(stage18) == 0
    await stage18.started("two")
    await stage18.converged(channels=[YMATOU])
    assert sent(stage18, YMATOU) == 2
