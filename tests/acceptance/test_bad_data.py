"""Data that can't be read, sent or written: one SKU is parked by name, the others flow, and the daemon says so."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from daemon.demo.postgres import PostgresServer
from daemon.simulator import RefuseSku
from tests.acceptance.harness import LISTINGS, Stage
from tests.channels import SEKORM, YMATOU
from tests.conftest import Database

# Bytes that the encoding takes and that are no text.
GARBLED = {"SQL_ASCII": r"\xb5c2d6dd", "EUC_CN": r"\xaaa1"}


@pytest.fixture(params=GARBLED)
async def encoded(
    request: pytest.FixtureRequest, server18: PostgresServer, tmp_path: Path
) -> AsyncIterator[tuple[Stage, str]]:
    """A stage whose database is not UTF-8, and bytes in it that are no text."""
    name = f"encoded_{request.param.lower()}"
    server18.run_sql(
        f"CREATE DATABASE {name} ENCODING '{request.param}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    )
    async with Stage(Database(server18, name), tmp_path) as stage:
        yield stage, f"convert_from('{GARBLED[request.param]}'::bytea, '{request.param}')"
    server18.run_sql(f"DROP DATABASE {name} WITH (FORCE)")


async def test_what_an_encoding_lacks_stops_neither_reading_nor_writing(encoded: tuple[Stage, str]) -> None:
    stage, garbled = encoded
    for key, words in (("SKU-7", "庫存錯誤 😀"), ("SKU-8", "poison")):
        stage.simulator.faults.add(RefuseSku(shop="ymatou", key=key, message=words))
    await stage.fill(20)
    await stage.migrate()
    # The database may refuse a row for any other reason, too.
    await stage.erp.execute("ALTER TABLE stockrelay.attempt ADD CHECK (reason NOT LIKE '%poison%')")
    check = await stage.stockrelay("check")
    assert "not UTF8" in check.out
    replica = await stage.started()
    spared = [(YMATOU, "SKU-7"), (YMATOU, "SKU-8")]
    await stage.converged(spared=spared)
    parked = await stage.erp.fetch(
        "SELECT sku, parked_reason FROM stockrelay.ledger WHERE parked_at IS NOT NULL"
    )
    reasons = {row["sku"]: row["parked_reason"] for row in parked}
    assert sorted(reasons) == ["SKU-7", "SKU-8"]
    assert "poison" not in reasons["SKU-8"]
    await stage.erp.execute(f"INSERT INTO erp.stock VALUES ({garbled} || '-1', 'PN-X', 'AMS', 5)")
    await stage.erp.execute("UPDATE erp.stock SET on_hand = 0 WHERE sku = 'SKU-3'")
    await stage.simulator.wait_for_state(YMATOU, {"SKU-3": 0}, timeout=20)
    named = await replica.wait_for("intake.sku_refused", channel=SEKORM)
    assert named["sku"].endswith("-1")
    assert named["sku"].isascii()
    await stage.erp.execute("SELECT pg_notify('stockrelay', 'resync')")
    await replica.wait_for("intake.resync_finished", channel=SEKORM, reason="a signal asked for it")
    assert (await stage.status())["channels"][SEKORM]["refused"] == 1
    assert "SKU-7" in (await stage.stockrelay("parked", "list")).out
    assert "intake.reading_failed" not in replica.text()
    check = await stage.stockrelay("check")
    assert "no text in the database's encoding" in check.out


async def test_a_row_on_which_the_listing_fails_parks_its_sku_and_nothing_else(stage18: Stage) -> None:
    listing = LISTINGS[SEKORM].replace(
        "on_hand AS", "on_hand / (CASE part_no WHEN 'bad' THEN 0 ELSE 1 END) AS"
    )
    stage18.configure(sekorm={"listing": listing})
    await stage18.fill(20)
    await stage18.erp.execute("UPDATE erp.stock SET part_no = 'bad' WHERE sku = 'SKU-3'")
    await stage18.migrate()
    dry = await stage18.stockrelay("sync", "sekorm", "--dry-run")
    assert (dry.code, "division by zero" in dry.out) == (0, True), dry
    assert '"SKU-3" (division by zero)' in (await stage18.stockrelay("check")).out
    replica = await stage18.started()
    spared = [(SEKORM, ("bad", "AMS"))]
    await stage18.converged(spared=spared)
    assert "division by zero" in (await replica.wait_for("intake.rows_failing"))["reason"]
    assert "SKU-3" in (await stage18.stockrelay("parked", "list")).out
    explained = await stage18.stockrelay("explain", "SKU-3", "--channel", "sekorm")
    assert "fails on this SKU: division by zero" in explained.out
    # A reload is compared as a whole.
    await stage18.erp.execute(
        "BEGIN; CREATE TEMP TABLE kept AS TABLE erp.stock; TRUNCATE erp.stock; "
        "INSERT INTO erp.stock SELECT sku, part_no, brand, on_hand + 1 FROM kept; COMMIT"
    )
    await stage18.converged(spared=spared)
    done = await stage18.stockrelay("reconcile", "--dry-run", "--channel", "sekorm")
    assert done.code == 0, done
    await stage18.erp.execute("UPDATE erp.stock SET part_no = 'PN-3' WHERE sku = 'SKU-3'")
    await stage18.converged()
    await stage18.erp.execute("SELECT pg_notify('stockrelay', 'resync')")
    await replica.wait_for("intake.rows_recovered")


async def test_a_sku_that_is_too_long_is_named_by_whatever_speaks_of_skus(stage18: Stage) -> None:
    await stage18.fill(5)
    await stage18.erp.execute("INSERT INTO erp.stock VALUES (repeat('y', 1001), 'PN-Y', 'AMS', 5)")
    await stage18.migrate()
    shown = f"{'y' * 60}…"
    listed = await stage18.stockrelay("parked", "list", SEKORM)
    assert f"1 SKUs of the listing can't be followed, and are not sent: {shown}" in listed.out
    found = json.loads((await stage18.stockrelay("parked", "list", SEKORM, "--json")).out)[SEKORM]
    reason = "longer than 1000 bytes"
    assert found["refused"] == {"count": 1, "problem": None, "skus": [{"sku": shown, "reason": reason}]}
    dry = json.loads((await stage18.stockrelay("sync", SEKORM, "--dry-run", "--json")).out)
    assert (dry["rows"], dry["sendable"], dry["cannot_be_sent"]) == (6, 5, 1)
    explained = await stage18.stockrelay("explain", "y" * 1001)
    assert (explained.code, f"{shown} is {reason}" in explained.err) == (1, True), explained
    await stage18.erp.execute("ALTER TABLE erp.stock RENAME TO gone")
    listed = await stage18.stockrelay("parked", "list", SEKORM)
    assert (listed.code, "were not looked for" in listed.out) == (0, True), listed


@pytest.mark.settings(sekorm={"max_quantity": 500}, ymatou={"max_quantity": 501})
async def test_a_quantity_above_the_channels_largest_is_parked_by_name_and_the_largest_is_sent(
    stage18: Stage,
) -> None:
    await stage18.fill(3)
    await stage18.erp.execute("UPDATE erp.stock SET on_hand = 498 + right(sku, 1)::integer")
    await stage18.migrate()
    replica = await stage18.started()
    line = await replica.wait_for("dispatch.delivery_parked", channel=SEKORM)
    assert (line["sku"], line["reason"]) == (
        "SKU-3",
        "the listing's quantity is 501, which is more than the channel's max_quantity",
    )
    await stage18.converged(spared=[(SEKORM, ("PN-3", "AMS"))])
    assert stage18.simulator.state.quantity(SEKORM, ("PN-2", "AMS")) == 500
    assert stage18.simulator.state.quantity(SEKORM, ("PN-3", "AMS")) is None
    assert stage18.simulator.state.quantity(YMATOU, "SKU-3") == 501
    assert not replica.find("dispatch.delivery_parked", channel=YMATOU)
    await stage18.erp.execute("UPDATE erp.stock SET on_hand = 500 WHERE sku = 'SKU-3'")
    await stage18.converged()


async def test_skus_with_one_identifier_name_each_other_and_neither_overwrites_the_other(
    stage18: Stage,
) -> None:
    await stage18.fill(20)
    await stage18.migrate()
    replica = await stage18.started()
    await stage18.converged()
    name = ("PN-4", "AMS")
    await stage18.erp.execute("UPDATE erp.stock SET part_no = 'PN-4' WHERE sku = 'SKU-5'")
    named = [
        await replica.wait_for("dispatch.delivery_parked", channel=SEKORM, sku=sku)
        for sku in ("SKU-4", "SKU-5")
    ]
    assert ['"SKU-5" has' in named[0]["reason"], '"SKU-4" has' in named[1]["reason"]] == [True, True]
    await stage18.erp.execute("UPDATE erp.stock SET on_hand = 0 WHERE sku = 'SKU-5'")
    await stage18.simulator.wait_for_state(YMATOU, {"SKU-5": 0}, timeout=20)
    explained = await stage18.stockrelay("explain", "SKU-4", "--channel", "sekorm")
    assert "sekorm: parked" in explained.out
    assert "the marketplace keeps one number for all of them: 100, acknowledged for SKU-4" in explained.out
    await stage18.erp.execute("DELETE FROM erp.stock WHERE sku = 'SKU-5'")
    await stage18.erp.execute("UPDATE erp.stock SET on_hand = 70 WHERE sku = 'SKU-4'")
    await stage18.simulator.wait_for_state(SEKORM, {name: 70}, timeout=20)
    await stage18.converged()
    assert not [entry for entry in stage18.simulator.journal if entry.key == name and entry.quantity == 0]
