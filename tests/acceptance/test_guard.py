"""A feed that says that everything is zero: nothing of it is sent before a person or the data says so (`[guard]`)."""

import asyncio
import json

import asyncpg
import pytest

from daemon.core.types import ChannelName
from tests.acceptance.harness import Stage
from tests.acceptance.replica import Replica
from tests.channels import CHANNELS, SEKORM, YMATOU

SKUS = 200
GUARD = {"window_s": 20}


def zeroes(stage: Stage, channel: ChannelName | None = None) -> int:
    """How many zeroes the marketplaces were told."""
    return sum(
        entry.quantity == 0 for entry in stage.simulator.journal if channel in (None, ChannelName(entry.shop))
    )


async def notices(stage: Stage, kind: str) -> list[dict[str, object]]:
    rows = await stage.erp.fetch(
        "SELECT channel, data FROM stockrelay.notice WHERE kind = $1 ORDER BY channel", kind
    )
    return [{"channel": row["channel"], **json.loads(row["data"])} for row in rows]


async def held(stage: Stage) -> dict[str, int]:
    """How many zeroes are held, by channel, as `status` says."""
    return {name: channel["held"] for name, channel in (await stage.status())["channels"].items()}


async def asked(replica: Replica, since: int) -> None:
    """Wait until the person has been asked about both channels."""
    await replica.wait_for("guard.numbers_held", since=since, times=2)


@pytest.mark.settings(guard=GUARD)
async def test_everything_at_zero_is_held_and_released_by_command(stage: Stage) -> None:
    replica = await stage.running(SKUS)
    since = replica.mark()
    await stage.erp.execute("UPDATE erp.stock SET on_hand = 0")
    await asked(replica, since)
    # All else flows: numbers of the very same SKUs, new ones, identifiers.
    await stage.erp.execute("UPDATE erp.stock SET on_hand = 33 WHERE sku = 'SKU-1'")
    await stage.erp.execute("INSERT INTO erp.stock VALUES ('NEW', 'PN-NEW', 'onsemi', 7)")
    await stage.simulator.wait_for_state(SEKORM, {("PN-1", "AMS"): 33, ("PN-NEW", "onsemi"): 7})
    await stage.simulator.wait_for_state(YMATOU, {"SKU-1": 33, "NEW": 7})
    assert zeroes(stage) == 0
    assert await held(stage) == {SEKORM: SKUS - 1, YMATOU: SKUS - 1}
    questions = await notices(stage, "guard_question")
    assert [one["channel"] for one in questions] == sorted(CHANNELS)
    for one in questions:
        assert (one["held"], one["skus"], one["share"], one["cause"]) == (SKUS, SKUS, 1.0, "zeroes")
        assert one["command"] == f"stockrelay release {one['channel']}"
        examples = one["examples"]
        assert isinstance(examples, list)
        assert examples[0] == {"sku": "SKU-1", "was": 100, "now": 0}
    done = await stage.stockrelay("release", "sekorn")
    assert (done.code, "Did you mean sekorm" in done.err) == (2, True)
    done = await stage.stockrelay("release", "sekorm", "--json")
    assert json.loads(done.out)["numbers"] == SKUS - 1
    await stage.simulator.wait_until(lambda: zeroes(stage, SEKORM) == SKUS - 1)
    assert zeroes(stage, YMATOU) == 0
    # The rest of the same import does not ask again.
    await stage.erp.execute("UPDATE erp.stock SET on_hand = 0")
    await stage.simulator.wait_until(lambda: zeroes(stage, SEKORM) == SKUS + 1)
    assert (await stage.stockrelay("release", "ymatou")).code == 0
    assert "nothing is held" in (await stage.stockrelay("release", "ymatou")).out
    await stage.converged()
    await replica.wait_for("guard.numbers_released", since=since, times=2)
    assert len(await notices(stage, "guard_question")) == 2
    assert [one["by"] for one in await notices(stage, "guard_released")] == ["command"] * 2
    assert len(replica.find("guard.numbers_held")) == 2
    await stage.silent(replica)


@pytest.mark.settings(guard=GUARD)
async def test_numbers_that_come_back_end_the_hold(stage: Stage) -> None:
    replica = await stage.running(SKUS)
    since = replica.mark()
    await stage.erp.execute("UPDATE erp.stock SET on_hand = 0")
    await asked(replica, since)
    await stage.erp.execute("UPDATE erp.stock SET on_hand = 100 WHERE sku NOT IN ('SKU-1', 'SKU-2', 'SKU-3')")
    for channel in CHANNELS:
        line = await replica.wait_for("guard.numbers_released", since=since, channel=channel)
        assert (line["by"], line["numbers"]) == ("recovery", 3)
    await stage.converged()
    assert zeroes(stage) == 6, "three that are true, at both marketplaces"
    released = await notices(stage, "guard_released")
    assert [(one["by"], one["numbers"], one["sent"]) for one in released] == [("recovery", SKUS - 3, 3)] * 2
    await stage.silent(replica)


async def test_truncate_and_reload_of_the_stock_table_sends_nothing(stage18: Stage) -> None:
    replica = await stage18.running(SKUS)
    since = replica.mark()
    sent = len(stage18.simulator.journal)
    await stage18.erp.execute("CREATE TABLE erp.copy AS TABLE erp.stock; TRUNCATE erp.stock")
    await asked(replica, since)
    await stage18.erp.execute("INSERT INTO erp.stock TABLE erp.copy")
    await replica.wait_for("guard.numbers_released", since=since, times=2, by="recovery")
    await stage18.converged()
    assert len(stage18.simulator.journal) == sent


@pytest.mark.settings(guard=GUARD)
async def test_what_is_held_stays_held_through_kills(stage: Stage) -> None:
    replica = await stage.running(SKUS)
    for _ in range(3):
        # Wherever the marking is.
        await stage.erp.execute("UPDATE erp.stock SET on_hand = 0")
        await replica.kill()
        since = replica.mark()
        await replica.start()
        await replica.wait_for("intake.resync_finished", since=since, reason="listening anew")
    await stage.erp.execute("UPDATE erp.stock SET on_hand = 5 WHERE sku = 'SKU-9'")
    await stage.simulator.wait_for_state(YMATOU, {"SKU-9": 5})
    await stage.simulator.wait_for_state(SEKORM, {("PN-9", "AMS"): 5})
    assert await held(stage) == {SEKORM: SKUS - 1, YMATOU: SKUS - 1}
    async with stage.erp.transaction():
        questions = await notices(stage, "guard_question")
    assert len(questions) <= 2
    await replica.kill()
    assert zeroes(stage) == 0
    # Released while no daemon runs.
    for channel in CHANNELS:
        assert (await stage.stockrelay("release", channel)).code == 0
    await replica.start()
    await stage.converged()
    assert len(await notices(stage, "guard_released")) == 2


@pytest.mark.settings(guard=GUARD)
async def test_two_replicas_hold_and_ask_once(stage18: Stage) -> None:
    one = await stage18.running(SKUS)
    two = stage18.replica("two")
    await two.start()
    await two.wait_for("doorbell.listening")
    await stage18.erp.execute("UPDATE erp.stock SET on_hand = 0")
    while len(await notices(stage18, "guard_question")) < 2:
        await stage18.erp.execute("SELECT pg_sleep(0.05)")
    await stage18.erp.execute("UPDATE erp.stock SET on_hand = 100")
    await stage18.converged()
    assert zeroes(stage18) == 0
    lines = one.read() and one.find("guard.numbers_held") + (two.read() and two.find("guard.numbers_held"))
    assert len(lines) == 2


async def test_a_small_shop_sells_out_one_by_one(stage18: Stage) -> None:
    await stage18.running(100)
    for number in range(1, 26):
        await stage18.erp.execute("UPDATE erp.stock SET on_hand = 0 WHERE sku = $1", f"SKU-{number}")
        await stage18.simulator.wait_for_state(YMATOU, {f"SKU-{number}": 0}, timeout=5)
    await stage18.converged()


@pytest.mark.settings(
    sekorm={
        "listing": "SELECT sku, part_no AS pn_code, brand AS brand_name, on_hand AS quantity FROM erp.sold"
    },
    ymatou={"listing": "SELECT sku, sku AS outer_sku_id, on_hand AS quantity FROM erp.sold"},
)
async def test_what_fell_while_the_listing_failed_is_held_when_it_works_again(stage18: Stage) -> None:
    await stage18.erp.execute("CREATE VIEW erp.sold AS TABLE erp.stock")
    replica = await stage18.running(SKUS)
    since = replica.mark()
    await stage18.erp.execute("ALTER VIEW erp.sold RENAME TO unsold")
    await stage18.erp.execute("UPDATE erp.stock SET on_hand = 0 WHERE sku <> 'SKU-1'")
    await stage18.erp.execute("UPDATE erp.stock SET on_hand = 9 WHERE sku = 'SKU-1'")
    await replica.wait_for("intake.listing_failed", since=since, times=2)
    await stage18.erp.execute("ALTER VIEW erp.unsold RENAME TO sold")
    await stage18.simulator.wait_for_state(YMATOU, {"SKU-1": 9}, timeout=60)
    await replica.wait_for("guard.numbers_held", since=since, times=2, timeout=60)
    assert max(zeroes(stage18, channel) for channel in CHANNELS) <= 50
    sent = zeroes(stage18)
    assert sum((await held(stage18)).values()) + sent == 2 * (SKUS - 1)


async def test_a_first_filling_that_is_all_zero_waits_for_a_person(stage18: Stage) -> None:
    everything = 2_001
    await stage18.fill(everything, on_hand=0)
    await stage18.migrate()
    beforehand = f"{everything:,} of {everything:,} quantities are 0"
    assert beforehand in (await stage18.stockrelay("check")).out
    assert beforehand in (await stage18.stockrelay("sync", "sekorm", "--dry-run")).out
    replica = await stage18.started()
    await asked(replica, 0)
    questions = await notices(stage18, "guard_question")
    assert [(one["cause"], one["held"]) for one in questions] == [("first", everything)] * 2
    assert not stage18.simulator.journal
    for channel in CHANNELS:
        assert (await stage18.stockrelay("release", channel)).code == 0
    await stage18.converged()
    assert all(zeroes(stage18, channel) == everything for channel in CHANNELS)


async def test_a_sale_is_sent_at_once_while_an_import_trickles_in(stage18: Stage) -> None:
    replica = await stage18.running(SKUS)
    since = replica.mark()
    importer = await asyncpg.connect(stage18.database.dsn)
    try:
        for number in range(1, 151):
            await importer.execute("UPDATE erp.stock SET on_hand = 0 WHERE sku = $1", f"SKU-{number}")
            if number == 75:
                await replica.wait_for("guard.numbers_held", since=since, times=2)
                await stage18.erp.execute("UPDATE erp.stock SET on_hand = 0 WHERE sku = 'SKU-200'")
    finally:
        await importer.close()
    await stage18.simulator.wait_for_state(SEKORM, {("PN-200", "AMS"): 0}, timeout=5)
    await stage18.simulator.wait_for_state(YMATOU, {"SKU-200": 0}, timeout=5)
    # What trickled in below the limit (three tenths of 200) was sent; the rest is held.
    async with asyncio.timeout(10):
        while sum((await held(stage18)).values()) + zeroes(stage18) != 2 * 151:
            pass
    assert max(zeroes(stage18, channel) for channel in CHANNELS) <= 62


@pytest.mark.settings(guard=GUARD)
async def test_everything_to_one_sends_nothing_for_what_has_none(stage18: Stage) -> None:
    await stage18.fill(SKUS, on_hand=700)
    await stage18.erp.execute("UPDATE erp.stock SET on_hand = 0 WHERE substr(sku, 5)::int % 10 = 0")
    await stage18.migrate()
    replica = await stage18.started()
    await stage18.converged()
    since, sent = replica.mark(), len(stage18.simulator.journal)
    before = await stage18.wanted()
    await stage18.erp.execute("UPDATE erp.stock SET on_hand = 1")
    await asked(replica, since)
    assert await held(stage18) == {SEKORM: SKUS, YMATOU: SKUS}
    line = replica.find("guard.numbers_held")[0]
    assert (line["cause"], line["moved"], line["risen"]) == ("moves", SKUS * 9 // 10, SKUS // 10)
    explained = await stage18.stockrelay("explain", "SKU-10")
    assert "held" in explained.out
    await stage18.erp.execute(
        "UPDATE erp.stock SET on_hand = CASE WHEN substr(sku, 5)::int % 10 = 0 THEN 0 ELSE 700 END"
    )
    await replica.wait_for("guard.numbers_released", since=since, times=2, by="recovery")
    assert await stage18.wanted() == before
    await stage18.converged()
    assert len(stage18.simulator.journal) == sent
