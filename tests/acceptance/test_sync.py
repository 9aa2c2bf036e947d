"""`stockrelay sync`: a channel's whole listing in calls of many SKUs (S08, Y05), resumable, behind what changes."""

import asyncio
import csv
import json
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from daemon.core.types import ChannelName
from daemon.simulator import Delay, Entry, Garbage, HoldRequest, Message, RefuseSku
from tests.acceptance import oracle
from tests.acceptance.harness import Stage, stopped
from tests.acceptance.replica import arguments, environment
from tests.acceptance.writers import writing
from tests.channels import SEKORM, YMATOU

BATCH = "pnarttnumber/pnStock"
SINGLE = "stock/updQuantity"
UPDATE = "ymatou.skus.stock.update"
CHUNK = 50


class Syncing:
    """A `stockrelay sync` that runs."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def answer(self, code: int = 0, timeout: float = 60) -> dict[str, Any]:
        """Wait for its end and return what it printed."""
        async with asyncio.timeout(timeout):
            out, err = await self.process.communicate()
        assert self.process.returncode == code, err.decode()[-3000:]
        assert "Traceback" not in err.decode()
        answer = json.loads(out)
        assert isinstance(answer, dict)
        return answer

    async def said(self, event: str) -> None:
        """Wait for a line of its log."""
        assert self.process.stderr is not None
        async with asyncio.timeout(30):
            while event.encode() not in (line := await self.process.stderr.readline()):
                assert line, f"it ended without {event}"

    async def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        await self.process.communicate()


@asynccontextmanager
async def syncing(config: Path, channel: str, *words: str) -> AsyncIterator[Syncing]:
    """Start `stockrelay sync`; it is killed at the end if it still runs."""
    process = await asyncio.create_subprocess_exec(
        *arguments(config, "sync", channel, *words, "--json"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=config.parent,
        env=environment(),
    )
    try:
        yield Syncing(process)
    finally:
        if process.returncode is None:
            os.kill(process.pid, signal.SIGKILL)
            await process.communicate()


def chunks(stage: Stage, endpoint: str) -> Counter[int]:
    """The calls of many SKUs that were carried out, by how many each wrote."""
    requests = Counter(entry.request for entry in stage.simulator.journal if entry.endpoint == endpoint)
    return Counter(requests.values())


async def settled(stage: Stage, channel: ChannelName) -> None:
    """The marketplace holds the listing, and nothing is left to do for that channel."""
    wanted = await stage.wanted()
    assert await oracle.unconverged(stage.erp, stage.simulator, {channel: wanted[channel]}) is None


def arrivals(entries: list[Entry]) -> Counter[str]:
    return Counter(str(entry.key) for entry in entries)


@pytest.mark.settings(sekorm={"batch": CHUNK}, ymatou={"batch": CHUNK})
async def test_s08_without_a_daemon_the_command_sends_all_itself_in_chunks(stage18: Stage) -> None:
    await stage18.fill(1020)
    await stage18.migrate()
    plan = json.loads((await stage18.stockrelay("sync", "sekorm", "--dry-run", "--json")).out)
    assert (plan["rows"], plan["sendable"], plan["calls"], plan["skus_per_call"]) == (1020, 1020, 21, CHUNK)
    assert len(plan["first"]) == 10
    assert plan["first"][0] == {"sku": "SKU-1", "pn_code": "PN-1", "brand_name": "AMS", "quantity": 100}
    assert len(stage18.simulator.journal) == 0
    assert await stage18.erp.fetchval("SELECT count(*) FROM stockrelay.ledger") == 0, "nothing is changed"
    for channel in (SEKORM, YMATOU):
        async with syncing(stage18.config, channel) as one:
            answer = await one.answer()
        assert (answer["is_finished"], answer["is_resumed"]) == (True, False)
        assert (answer["total"], answer["accepted"], answer["refused"], answer["left"]) == (1020, 1020, 0, 0)
    operations = (await stage18.status())["operations"]
    assert [(one["action"], one["channel"], one["reason"], one["outcome"]) for one in operations] == [
        ("sync", channel, "the whole listing", "completed") for channel in (YMATOU, SEKORM)
    ]
    assert chunks(stage18, BATCH) == {CHUNK: 20, 20: 1}
    assert chunks(stage18, UPDATE) == {CHUNK: 20, 20: 1}
    await stage18.converged()
    await stage18.judged()
    assert stage18.simulator.stats.overlaps == []
    # Again, from nothing: every number is sent, whatever was acknowledged.
    async with syncing(stage18.config, SEKORM) as one:
        assert (await one.answer())["accepted"] == 1020
    assert chunks(stage18, BATCH) == {CHUNK: 40, 20: 2}


@pytest.mark.settings(sekorm={"batch": CHUNK}, channel={"settle_s": 5})
async def test_a_killed_sync_goes_on_where_it_stopped(stage18: Stage) -> None:
    await stage18.fill(1000)
    await stage18.migrate()
    simulator = stage18.simulator
    held = simulator.faults.add(HoldRequest(shop="sekorm", endpoint=BATCH, after=9, times=1))
    async with syncing(stage18.config, SEKORM) as one:
        await simulator.wait_until(lambda: held.held == 1, timeout=30)
        await one.kill()
    held.release()
    await simulator.wait_until(lambda: len(simulator.journal) == 10 * CHUNK)
    before = arrivals(list(simulator.journal))
    assert set(before.values()) == {1}
    async with syncing(stage18.config, SEKORM) as one:
        answer = await one.answer()
    assert (answer["is_resumed"], answer["accepted"], answer["left"]) == (True, 1000, 0)
    counted = Counter(arrivals(list(simulator.journal)).values())
    print(f"arrivals of each SKU: {dict(counted)}")  # noqa: T201
    assert counted == {1: 1000 - CHUNK, 2: CHUNK}, "only the chunk in flight was sent again"
    assert simulator.stats.count(SEKORM, SINGLE) == 0
    await settled(stage18, SEKORM)
    finding = await stage18.judged()
    assert finding.doubts == CHUNK
    assert simulator.stats.overlaps == []


@pytest.mark.settings(sekorm={"batch": CHUNK})
async def test_a_kill_while_the_listing_is_marked_loses_nothing_and_repeats_nothing(stage18: Stage) -> None:
    await stage18.fill(8_000)
    await stage18.migrate()
    marked = "SELECT (SELECT state FROM stockrelay.sync_run), count(sync_at) FROM stockrelay.ledger"
    async with syncing(stage18.config, SEKORM) as one, asyncio.timeout(30):
        state, turns = None, 0
        while not turns:
            state, turns = await stage18.erp.fetchrow(marked) or (None, 0)
            await asyncio.sleep(0)
        await one.kill()
    state, turns = await stage18.erp.fetchrow(marked) or (None, 0)
    print(f"killed while {state}: {turns} of 8000")  # noqa: T201
    assert (state, turns < 8_000) == ("marking", True)
    async with syncing(stage18.config, SEKORM) as one:
        answer = await one.answer()
    assert (answer["is_resumed"], answer["listed"], answer["accepted"]) == (True, 8_000, 8_000)
    assert set(arrivals(list(stage18.simulator.journal)).values()) == {1}
    assert stage18.simulator.stats.count(SEKORM, SINGLE) == 0


@pytest.mark.settings(sekorm={"batch": CHUNK})
async def test_ctrl_c_leaves_the_sync_open_and_a_daemon_ends_it(stage18: Stage) -> None:
    await stage18.fill(2000)
    await stage18.migrate()
    simulator = stage18.simulator
    simulator.faults.add(Delay(shop="sekorm", seconds=0.05))
    async with syncing(stage18.config, SEKORM) as one:
        await simulator.wait_until(lambda: len(simulator.journal) >= 5 * CHUNK, timeout=30)
        one.process.send_signal(signal.SIGINT)
        answer = await one.answer(code=130)
    assert answer["is_finished"] is False
    assert answer["accepted"] + answer["left"] == 2000
    assert answer["left"] > 0
    assert answer["in_doubt"] == 0, "what was in flight has ended in order"
    replica = await stage18.started()
    await replica.wait_for("dispatch.sync_ended", channel=SEKORM)
    assert set(arrivals([e for e in simulator.journal if e.shop == SEKORM]).values()) == {1}
    await stage18.converged()
    await stage18.judged()


@pytest.mark.settings(sekorm={"batch": CHUNK}, channel={"settle_s": 5})
async def test_when_the_daemon_that_sends_dies_the_command_goes_on_by_itself(stage18: Stage) -> None:
    replica = await stage18.running(1500)
    simulator = stage18.simulator
    held = simulator.faults.add(HoldRequest(shop="sekorm", endpoint=BATCH, after=5, times=1))
    async with syncing(stage18.config, SEKORM) as one:
        await simulator.wait_until(lambda: held.held == 1, timeout=30)
        await replica.kill()
        held.release()
        answer = await one.answer()
    assert (answer["is_finished"], answer["accepted"], answer["in_doubt"]) == (True, 1500, 0)
    counted = Counter(arrivals([e for e in simulator.journal if e.endpoint == BATCH]).values())
    assert counted == {1: 1500 - CHUNK, 2: CHUNK}
    await settled(stage18, SEKORM)
    finding = await stage18.judged()
    assert finding.owners == 3, "Ymatou's, and two of Sekorm's"
    assert simulator.stats.overlaps == []


@pytest.mark.settings(sekorm={"batch": CHUNK}, ymatou={"batch": CHUNK}, channel={"settle_s": 5})
async def test_beside_a_daemon_live_changes_flow_and_the_newest_number_wins(stage18: Stage) -> None:
    replica = await stage18.running(2000)
    simulator = stage18.simulator
    owners = await stage18.erp.fetch(
        "SELECT channel, slot, epoch FROM stockrelay.lease ORDER BY channel, slot"
    )
    simulator.faults.add(Delay(shop="sekorm", endpoint=BATCH, seconds=0.2))
    before = simulator.stats.accepted[SEKORM]
    async with (
        writing(stage18.database.dsn, 2000, stage18.random, per_s=200) as load,
        syncing(stage18.config, SEKORM) as one,
    ):
        answer = await one.answer()
    print(f"{load.changes} changes during the sync, {simulator.stats.accepted[SEKORM] - before} writes")  # noqa: T201
    assert (answer["is_finished"], answer["total"], answer["refused"]) == (True, 2000, 0)
    assert answer["accepted"] == 2000
    assert load.changes > 100
    assert simulator.stats.count(SEKORM, BATCH) >= 1500 // CHUNK
    # The daemon did the sending, and a change went its own way at once.
    assert (
        await stage18.erp.fetch("SELECT channel, slot, epoch FROM stockrelay.lease ORDER BY channel, slot")
        == owners
    )
    await stage18.converged()
    await stage18.judged()
    assert simulator.stats.overlaps == []
    assert replica.find("dispatch.sync_ended", channel=SEKORM) or answer["is_finished"]
    await stopped(replica)


@pytest.mark.settings(sekorm={"batch": CHUNK}, channel={"park_after": 3, "settle_s": 5})
async def test_s08_a_sku_that_makes_its_chunk_fail_is_found_and_parked_alone(stage18: Stage) -> None:
    await stage18.fill(500)
    await stage18.erp.execute("UPDATE erp.stock SET part_no = 'PN-200' WHERE sku = 'SKU-201'")
    await stage18.erp.execute("UPDATE erp.stock SET part_no = repeat('X', 51) WHERE sku = 'SKU-123'")
    await stage18.migrate()
    simulator = stage18.simulator
    simulator.faults.add(RefuseSku(shop="sekorm", key=("PN-77", "AMS")))
    plan = json.loads((await stage18.stockrelay("sync", "sekorm", "--dry-run", "--json")).out)
    assert plan["cannot_be_sent"] == 3
    problems = {one["sku"]: one["reason"] for one in plan["problems"]}
    assert problems.keys() == {"SKU-123", "SKU-200", "SKU-201"}
    assert problems["SKU-201"].startswith('"SKU-200" has the same identifiers (PN-200 / AMS)')
    async with syncing(stage18.config, SEKORM) as one:
        answer = await one.answer()
    print(answer, dict(chunks(stage18, BATCH)))  # noqa: T201
    assert (answer["accepted"], answer["refused"], answer["left"]) == (496, 4, 0)
    reasons = {row["sku"]: row["reason"] for row in answer["reasons"]}
    assert reasons.keys() == {"SKU-77", "SKU-123", "SKU-200", "SKU-201"}
    assert "pn not found" in reasons["SKU-77"]
    assert "51" in reasons["SKU-123"]
    await stage18.judged()


@pytest.mark.settings(ymatou={"batch": CHUNK})
async def test_y11_what_ymatou_refuses_is_parked_alone_and_parked_skus_are_left_alone(stage18: Stage) -> None:
    await stage18.fill(500)
    await stage18.migrate()
    simulator = stage18.simulator
    simulator.faults.add(RefuseSku(shop="ymatou", key="SKU-77"))
    async with syncing(stage18.config, YMATOU) as one:
        answer = await one.answer()
    assert (answer["accepted"], answer["refused"]) == (499, 1)
    assert answer["reasons"][0]["sku"] == "SKU-77"
    assert simulator.stats.count(YMATOU, UPDATE) == 10
    async with syncing(stage18.config, YMATOU) as one:
        again = await one.answer()
    assert (again["total"], again["accepted"], again["refused"], again["parked_before"]) == (499, 499, 0, 1)


@pytest.mark.settings(
    sekorm={"batch": CHUNK, "rate_per_s": 5, "concurrency": 2},
    ymatou={"batch": CHUNK},
    channel={"settle_s": 5},
)
async def test_a_sync_keeps_the_channels_rate_and_does_not_slow_the_other_channel(stage18: Stage) -> None:
    await stage18.fill(600)
    await stage18.migrate()
    for channel in (SEKORM, YMATOU):
        async with syncing(stage18.config, channel) as one:
            await one.answer()
    await stage18.started()
    simulator = stage18.simulator
    simulator.faults.add(Delay(shop="sekorm", seconds=0.5))
    calls = simulator.stats.count(SEKORM, BATCH)
    async with syncing(stage18.config, SEKORM) as one:
        await simulator.wait_until(lambda: simulator.stats.count(SEKORM, BATCH) >= calls + 2, timeout=30)
        await stage18.erp.execute("UPDATE erp.stock SET on_hand = on_hand + 1 WHERE sku = 'SKU-5'")
        began = asyncio.get_running_loop().time()
        await simulator.wait_for_state(YMATOU, {"SKU-5": 101})
        took = asyncio.get_running_loop().time() - began
        await simulator.wait_for_state(SEKORM, {("PN-5", "AMS"): 101}, timeout=5)
        waiting = await stage18.erp.fetchval(
            "SELECT count(*) FROM stockrelay.ledger WHERE sync_at IS NOT NULL"
        )
        print(f"Ymatou told after {took:.2f} s, Sekorm while {waiting} waited for their turn")  # noqa: T201
        assert took < 1
        assert waiting > 100, "a change goes ahead of the sync"
        answer = await one.answer()
    assert answer["accepted"] == 600
    assert simulator.stats.peak_per_s[SEKORM] <= 7, "five, the burst of one, and a token call"
    await stage18.converged()


@pytest.mark.settings(sekorm={"batch": CHUNK}, channel={"settle_s": 5})
async def test_an_answer_that_is_none_puts_its_whole_chunk_in_doubt_and_it_is_confirmed(
    stage18: Stage,
) -> None:
    await stage18.fill(300)
    await stage18.migrate()
    simulator = stage18.simulator
    simulator.faults.add(Garbage(shop="sekorm", endpoint=BATCH, after=2, times=1))
    simulator.faults.add(Message(shop="sekorm", endpoint=BATCH, after=4, times=1, message="stock busy"))
    async with syncing(stage18.config, SEKORM) as one:
        answer = await one.answer()
    assert (answer["accepted"], answer["in_doubt"], answer["refused"]) == (300, 0, 0)
    log = await oracle.attempts(stage18.erp)
    assert Counter(one.outcome for one in log)["unknown"] == 2 * CHUNK
    assert simulator.stats.count(SEKORM, SINGLE) <= 4, "what is left over of a call is one"
    await settled(stage18, SEKORM)
    await stage18.judged()


async def test_an_unknown_channel_is_named_with_those_there_are(stage18: Stage) -> None:
    done = await stage18.stockrelay("sync", "sekrom")
    assert done.code == 2
    assert "sekorm, ymatou" in done.err
    assert "Did you mean sekorm?" in done.err


@pytest.mark.settings(sekorm={"batch": CHUNK}, guard={"zero_count": 20, "zero_share": 0.1})
async def test_zeroes_that_the_guard_holds_are_not_sent_by_a_sync(stage18: Stage) -> None:
    await stage18.fill(300)
    await stage18.migrate()
    async with syncing(stage18.config, SEKORM) as one:
        await one.answer()
    sent = len(stage18.simulator.journal)
    await stage18.erp.execute("UPDATE erp.stock SET on_hand = 0")
    await stage18.erp.execute("UPDATE erp.stock SET on_hand = 77 WHERE sku = 'SKU-7'")
    async with syncing(stage18.config, SEKORM) as one:
        answer = await one.answer()
    later = list(stage18.simulator.journal)[sent:]
    print(answer, Counter(entry.quantity for entry in later))  # noqa: T201
    assert (answer["is_finished"], answer["left"]) == (True, 0)
    zeroes = sum(entry.quantity == 0 and entry.key != ("PN-7", "AMS") for entry in later)
    assert zeroes <= 20, "no more than single stock-outs"
    assert answer["held"] == 299 - zeroes
    assert stage18.simulator.state.of(SEKORM)["PN-7", "AMS"] == 77


@pytest.mark.settings(guard={"enabled": False}, ymatou={"rate_per_s": 40, "batch": 20, "batch_above": 0})
async def test_a_sync_goes_on_while_changes_come_faster_than_they_are_sent(stage18: Stage) -> None:
    await stage18.fill(120)
    await stage18.migrate()
    await stage18.started()
    await stage18.converged(timeout=60)
    async with writing(stage18.database.dsn, 60, stage18.random, per_s=200):
        done = await asyncio.wait_for(stage18.stockrelay("sync", "ymatou"), 90)
    assert done.code == 0, done


async def test_a_part_of_the_listing_is_planned_and_sent_alone_and_each_sku_is_in_a_file(
    stage18: Stage,
) -> None:
    await stage18.running(4)
    await stage18.erp.execute("INSERT INTO erp.stock VALUES ('=1+1', $1, 'AMS', 8)", "P" * 51)
    await stage18.erp.execute("UPDATE erp.stock SET on_hand = 7 WHERE sku = 'SKU-3'")
    await stage18.converged(spared=[(SEKORM, ("P" * 51, "AMS"))])
    before = len(stage18.simulator.journal)
    file = stage18.config.parent / "plan.csv"
    named = ("--sku", "SKU-1", "--sku", "SKU-3", "--sku", "=1+1")
    planned = await stage18.stockrelay("sync", SEKORM, *named, "--dry-run", "--json", "--csv", str(file))
    plan = json.loads(planned.out)
    assert (planned.code, plan["rows"], plan["sendable"], plan["not_in_listing"]) == (0, 3, 2, [])
    rows = list(csv.DictReader(file.read_text("utf-8").splitlines()))
    assert [(row["sku"], row["quantity"], row["result"]) for row in rows] == [
        ("'=1+1", "8", "not sent"), ("SKU-1", "100", "sent"), ("SKU-3", "7", "sent"),
    ]  # fmt: skip
    assert "at most 50" in rows[0]["reason"]
    assert len(stage18.simulator.journal) == before, "nothing is sent"
    names = stage18.config.parent / "skus.txt"
    names.write_text("SKU-1\r\nSKU-3\nSKU-99\n", "utf-8")
    chosen = ("--skus-from", str(names), "--where", "quantity < 100;")
    done = await stage18.stockrelay("sync", SEKORM, *chosen, "--json", "--csv", str(file))
    answer = json.loads(done.out)
    assert (done.code, answer["total"], answer["accepted"], answer["not_in_listing"]) == (
        1,
        1,
        1,
        ["SKU-99"],
    )
    entries = list(stage18.simulator.journal)[before:]
    assert [(entry.shop, entry.key, entry.quantity) for entry in entries] == [(SEKORM, ("PN-3", "AMS"), 7)]
    assert [row["result"] for row in csv.DictReader(file.read_text("utf-8").splitlines())] == ["accepted"]
    for words, problem in (
        (("--where", "colour = 1"), 'column "colour" does not exist'),
        (("--where", "WHERE a"), "begins with WHERE"),
        (("--since", "400d"), "history.keep_days"),
        (("--resume",), "no sync of sekorm is open"),
        (("--resume", "--sku", "A"), "give it alone"),
        (("--csv", "/nowhere/x.csv"), "cannot write /nowhere/x.csv"),
    ):
        done = await stage18.stockrelay("sync", SEKORM, *words)
        assert (done.code in (1, 2), problem in done.err) == (True, True), done


async def test_a_killed_sync_of_a_part_is_resumed_with_its_own_skus_and_by_a_daemon_alone(
    stage18: Stage,
) -> None:
    replica = await stage18.running(5)
    before = len(stage18.simulator.journal)
    faults = stage18.simulator.faults
    # The daemon that serves the channel would finish the sync by itself: its requests are held.
    held = [faults.add(HoldRequest(shop="sekorm", endpoint=endpoint)) for endpoint in (SINGLE, BATCH)]
    async with syncing(stage18.config, SEKORM, "--sku", "SKU-2") as one:
        await stage18.simulator.wait_until(lambda: sum(rule.held for rule in held) > 0, timeout=30)
        await one.kill()
    done = await stage18.stockrelay("sync", SEKORM)
    assert (done.code, "sync sekorm --resume" in done.err, "--sku SKU-2" in done.err) == (1, True, True), done
    await stopped(replica)
    done = await stage18.stockrelay("sync", SEKORM, "--resume")
    assert (done.code, "no daemon serves sekorm" in done.err) == (1, True), done
    await stage18.started("again")
    async with syncing(stage18.config, SEKORM, "--resume") as one:
        await one.said("sync.started")
        faults.clear()
        answer = await one.answer()
    assert (answer["is_resumed"], answer["filter"], answer["total"]) == (True, "--sku SKU-2", 1)
    assert {entry.key[0] for entry in list(stage18.simulator.journal)[before:]} == {"PN-2"}
