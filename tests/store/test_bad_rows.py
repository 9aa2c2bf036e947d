"""A row on which the listing fails stops no way of reading: its SKU is parked by name, and the others flow."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import date, timedelta
from typing import Final

import pytest

from daemon.core.errors import BadRow, StoreRefused
from daemon.core.readback import ReadPage, ReadSku
from daemon.core.types import Sku
from daemon.store.comparing import ComparedNumbers
from daemon.store.ledger import Debounce
from daemon.store.listing import ChannelListing
from daemon.store.reconcile import Reconciles
from tests.store.place import Place
from tests.store.shop import CHANNEL, LEASE, Shop, opened

NO_QUIET: Final = Debounce(timedelta(0), timedelta(0), 0)
GOOD: Final = [f"S{number:02}" for number in range(12)]

# `note` is '2' in good rows and 'x' in bad ones.
QUANTITIES: Final = {
    "a text that is no number": ("note", "invalid input syntax"),
    "a bad cast": ("note::integer", "invalid input syntax"),
    "a division by zero": ("10 / strpos(note, '2')", "division by zero"),
    "a domain's check": ("length(note::erp.digits)", "violates check constraint"),
    "a document that is no JSON": ("jsonb_array_length(concat('[', note, ']')::jsonb)", "json"),
    "a subquery with two rows": (
        "(SELECT i FROM generate_series(1, 1 + strpos(note, 'x')) AS i)",
        "more than one row",
    ),
    "an error of the ERP's own function": ("erp.checked(note)", "the ERP says no"),
    "a STRICT query of the ERP's own function": ("erp.looked_up(note)", "returned no rows"),
    "an assertion": ("erp.asserted(note)", "not a number"),
    "an error with a code of the ERP's own": ("erp.coded(note, 'ERP01')", "code ERP01"),
    "an error with the code that ends a reading of ours": ("erp.coded(note, 'SR002')", "code SR002"),
    "an error of a class that is hardly seen": ("erp.coded(note, '2F005')", "code 2F005"),
    **{
        f"an error of the ERP's own function with the code {code}": (
            f"erp.coded(note, '{code}')",
            f"code {code}",
        )
        for code in ("42501", "53200", "40001", "57014", "57P01", "55P03")
    },
    "a function that is missing": ("erp.incomplete(note)", "does not exist"),
    "a limit of the server's": (
        "length(repeat(note, CASE note WHEN 'x' THEN 1100000000 ELSE 1 END))",
        "too large",
    ),
    "a number out of range": ("power(10::numeric, CASE note WHEN 'x' THEN 200000 ELSE 0 END)", "overflow"),
}
SETUP: Final = """
CREATE DOMAIN erp.digits AS text CHECK (value ~ '^[0-9]+$');
CREATE FUNCTION erp.checked(note text) RETURNS integer LANGUAGE plpgsql AS
$$ BEGIN IF note = 'x' THEN RAISE EXCEPTION 'the ERP says no'; END IF; RETURN note::integer; END $$;
CREATE FUNCTION erp.looked_up(note text) RETURNS integer LANGUAGE plpgsql AS
$$ DECLARE one integer; BEGIN SELECT 1 INTO STRICT one WHERE note <> 'x'; RETURN one; END $$;
CREATE FUNCTION erp.asserted(note text) RETURNS integer LANGUAGE plpgsql AS
$$ BEGIN ASSERT note <> 'x', 'not a number'; RETURN 1; END $$;
CREATE FUNCTION erp.coded(note text, code text) RETURNS integer LANGUAGE plpgsql AS
$$ BEGIN IF note = 'x' THEN RAISE 'code %', code USING ERRCODE = code; END IF; RETURN 1; END $$;
CREATE FUNCTION erp.incomplete(note text) RETURNS integer LANGUAGE plpgsql AS
$$ BEGIN IF note = 'x' THEN PERFORM erp.not_there(); END IF; RETURN 1; END $$;
"""


def listing(quantity: str, after: str = "") -> str:
    return f"SELECT sku, pn AS pn_code, brand AS brand_name, {quantity} AS quantity FROM shop.goods{after}"


async def stock(shop: Shop, bad: list[str]) -> None:
    await shop.sql.execute(
        "DELETE FROM shop.goods; DELETE FROM stockrelay.change_0; DELETE FROM stockrelay.change_1; "
        "DELETE FROM stockrelay.ledger"
    )
    await shop.sql.executemany(
        "INSERT INTO shop.goods VALUES ($1, 'PN-' || $1, 'AMS', 1, $2)",
        [*((sku, "2") for sku in GOOD), *((sku, "x") for sku in bad)],
    )


async def mend(shop: Shop) -> None:
    await shop.sql.execute("UPDATE shop.goods SET note = '2' WHERE note = 'x'")


@pytest.mark.parametrize("way", ["compared", "named"])
async def test_whatever_fails_in_a_row_parks_its_sku_until_it_can_be_read_again(
    place: Place, way: str
) -> None:
    sql = await place.connect()
    await sql.execute(SETUP)
    for quantity, words in QUANTITIES.values():
        async with opened(place, listing(quantity)) as shop:
            await stock(shop, ["S03x"])
            await shop.take()
            drained = await (shop.resync(NO_QUIET) if way == "compared" else shop.drain(NO_QUIET))
            assert (drained.failed, drained.is_read, drained.marked.rows) == (None, True, len(GOOD) + 1), (
                quantity
            )
            assert drained.rows_failed is not None
            assert words in drained.rows_failed
            claim = await shop.claim()
            assert list(claim.parked) == ["S03x"], quantity
            assert words in claim.parked[Sku("S03x")]
            assert "the listing fails on this SKU" in claim.parked[Sku("S03x")]
            assert sorted(one.push.sku for one in claim.attempts) == GOOD
            for attempt in claim.attempts:
                await shop.complete(attempt, "applied")
            assert (await shop.resync(NO_QUIET)).marked.rows == 0, "a parked row waits"
            await mend(shop)
            drained = await (shop.resync(NO_QUIET) if way == "compared" else shop.drain(NO_QUIET))
            assert drained.rows_failed is None
            assert [one.push.sku for one in (await shop.claim()).attempts] == ["S03x"]


HALF: Final = listing("10 / strpos(note, '2')")
BAD: Final = ["S00x", "S05x", "S06x", "S11x"]


@pytest.fixture
async def shop(place: Place) -> AsyncIterator[Shop]:
    """A listing that fails on four of sixteen SKUs."""
    async with opened(place, HALF) as shop:
        await stock(shop, BAD)
        await shop.take()
        yield shop


async def test_a_sync_gives_every_sku_its_turn_and_parks_those_that_cannot_be_read(shop: Shop) -> None:
    _, marked = await shop.sync()
    assert marked == len(GOOD) + len(BAD)
    claim = await shop.claim_turn()
    assert sorted(claim.parked) == BAD
    assert sorted(one.push.sku for one in claim.attempts) == GOOD


async def test_a_dry_run_reads_on_behind_a_row_that_fails_in_the_middle(shop: Shop) -> None:
    async with aclosing(shop.syncs.portions(3)) as portions:
        read = {sku: listed.fault for portion in [one async for one in portions] for sku, listed in portion}
    assert list(read) == sorted([*GOOD, *BAD])
    assert {sku for sku, fault in read.items() if fault} == set(BAD)


async def test_a_dry_run_reads_on_behind_a_row_with_an_error_of_the_servers(place: Place) -> None:
    async with opened(place, listing("erp.coded(note, '55P03')")) as shop:
        await shop.sql.execute(SETUP)
        await stock(shop, ["S03x"])
        assert await shop.syncs.alike(10) == []
        async with aclosing(shop.syncs.portions(20)) as portions:
            read = {sku: listed.fault async for portion in portions for sku, listed in portion}
        assert {sku: fault for sku, fault in read.items() if fault} == {"S03x": "code 55P03"}


async def test_skus_are_not_held_against_each_other_while_a_condition_fails_on_a_row(place: Place) -> None:
    async with opened(place, listing("1", " WHERE erp.coded(note, 'ERP01') > 0")) as shop:
        await shop.sql.execute(SETUP)
        await stock(shop, ["S03x"])
        assert await shop.syncs.alike(10) == []


async def test_reconcile_judges_what_can_be_read(shop: Shop) -> None:
    """The number of a SKU that can't be read is never a difference."""
    await mend(shop)
    await shop.sync()
    for attempt in (await shop.claim_turn()).attempts:
        await shop.complete(attempt, "applied")
    await shop.pass_time(100)
    await shop.sql.execute("UPDATE shop.goods SET note = 'x' WHERE sku LIKE '%x'")
    comparisons = ComparedNumbers(shop.database, shop.listing)
    runs = Reconciles(shop.database)
    run = await runs.begin_by_hand(CHANNEL, date(2026, 3, 7), "one", LEASE, is_dry=False)
    told = [ReadSku(f"PN-{sku}", 9 if sku in ("S01", "S05x") else 10, "P") for sku in [*GOOD, *BAD]]
    await comparisons.keep_page(run, 1, 1, ReadPage(100, 1, tuple(told)), timedelta(0))
    judged = await comparisons.judge(run, 1, timedelta(0), is_complete=True)
    rows = await shop.sql.fetch("SELECT class, sku FROM stockrelay.reconcile_finding WHERE differs")
    assert [tuple(row) for row in rows] == [("marketplace_differs", "S01")]
    assert (judged.checked, judged.differing) == (len(GOOD), 1)


async def test_reconcile_reads_what_can_be_read(shop: Shop) -> None:
    comparisons = ComparedNumbers(shop.database, ChannelListing(CHANNEL, HALF, ("pn_code", "brand_name")))
    rows = await comparisons.rows([*GOOD, *BAD], timedelta(0))
    assert {row.sku for row in rows if row.quantity is not None} == set(GOOD)
    assert {row.sku for row in rows if row.is_settled} == set()


async def test_a_change_beside_rows_that_fail_is_marked_and_sent(shop: Shop) -> None:
    await shop.resync(NO_QUIET)
    for attempt in (await shop.claim()).attempts:
        await shop.complete(attempt, "applied")
    await shop.sql.execute("UPDATE shop.goods SET note = '22' WHERE sku = 'S01' OR note = 'x'")
    await shop.sql.execute("UPDATE shop.goods SET note = 'x' WHERE sku = 'S05x'")
    drained = await shop.drain(NO_QUIET)
    assert (drained.failed, drained.is_read) == (None, True)
    assert sorted(one.push.sku for one in (await shop.claim()).attempts) == ["S00x", "S06x", "S11x"]


async def test_names_that_cannot_be_listed_are_taken_from_watched_tables_and_ledger(place: Place) -> None:
    """A condition that fails hides the SKUs behind it from a query for all SKUs."""
    async with opened(place, listing("1", " WHERE note::integer > 0")) as shop:
        await stock(shop, ["S03x"])
        await shop.take()
        drained = await shop.resync(NO_QUIET)
        assert (drained.failed, drained.marked.rows) == (None, len(GOOD) + 1)
        claim = await shop.claim()
        assert (list(claim.parked), len(claim.attempts)) == (["S03x"], len(GOOD))


async def test_a_listing_that_fails_whatever_is_asked_for_parks_nothing(place: Place) -> None:
    """Here no SKU can be read without reading all rows."""
    window = "SELECT sku, pn AS pn_code, brand AS brand_name, sum(note::integer) OVER () AS quantity FROM shop.goods"
    async with opened(place, window) as shop:
        await stock(shop, ["S03x"])
        await shop.take()
        drained = await shop.drain(NO_QUIET)
        assert "invalid input syntax" in (drained.failed or "")
        with pytest.raises(BadRow):
            await shop.claim()
        assert (
            await shop.sql.fetchval("SELECT count(*) FROM stockrelay.ledger WHERE parked_at IS NOT NULL") == 0
        )


async def test_the_cost_of_many_rows_that_fail_is_bounded_and_claims_find_out_the_rest(place: Place) -> None:
    async with opened(place, HALF) as shop:
        await shop.sql.execute(
            "DELETE FROM shop.goods; INSERT INTO shop.goods SELECT 'S' || i, 'P' || i, 'b', 1, "
            "CASE WHEN i % 2 = 0 THEN 'x' ELSE '2' END FROM generate_series(1, 3000) AS i"
        )
        await shop.take()
        await shop.resync(NO_QUIET)
        sent = parked = 0
        while (claim := await shop.claim(400)).captured:
            sent, parked = sent + len(claim.attempts), parked + len(claim.parked)
        assert (sent, parked) == (1500, 1500)
        assert (await shop.resync(NO_QUIET)).marked.rows == 0


RAISED: Final = ("42883", "40001", "57014", "55P03")


async def test_an_error_of_the_servers_parks_nothing_while_no_sku_can_be_read(place: Place) -> None:
    """It may be a right that is missing, or a memory that is full, and nothing of the SKUs'."""
    sql = await place.connect()
    await sql.execute(SETUP)
    for code in RAISED:
        async with opened(place, listing(f"erp.coded(note, '{code}')")) as shop:
            await stock(shop, [f"{sku}x" for sku in GOOD])
            await shop.sql.execute("DELETE FROM shop.goods WHERE note = '2'")
            await shop.take()
            drained = await shop.drain(NO_QUIET)
            assert (drained.is_read, drained.failed) == (
                False,
                f"{CHANNEL}: reading the listing: code {code}",
            )
            with pytest.raises(BadRow, match=f"code {code}"):
                await shop.claim()
            assert await shop.sql.fetchval("SELECT count(parked_at) FROM stockrelay.ledger") == 0


async def test_a_row_is_parked_for_an_error_of_the_servers_if_another_that_is_not_asked_for_can_be_read(
    place: Place,
) -> None:
    async with opened(place, listing("erp.coded(note, '40001')")) as shop:
        await shop.sql.execute(SETUP)
        await stock(shop, [])
        await shop.take()
        await shop.drain(NO_QUIET)
        for attempt in (await shop.claim()).attempts:
            await shop.complete(attempt, "applied")
        await shop.sql.execute("UPDATE shop.goods SET note = 'x' WHERE sku = 'S03'")
        await shop.drain(NO_QUIET)
        assert list((await shop.claim()).parked) == ["S03"]


async def test_a_row_that_waits_for_a_locked_table_is_not_parked(place: Place) -> None:
    """Only this row's function reads the table, and another function repeats its error with its code."""
    async with opened(place, listing("erp.wrapped(note)")) as shop:
        await shop.sql.execute(
            "CREATE TABLE erp.prices (price integer); GRANT SELECT ON erp.prices TO PUBLIC;"
            "CREATE FUNCTION erp.wrapped(note text) RETURNS integer LANGUAGE plpgsql AS $$ BEGIN "
            "IF note = 'x' THEN PERFORM FROM erp.prices; END IF; RETURN 1; "
            "EXCEPTION WHEN lock_not_available THEN RAISE 'no price' USING ERRCODE = SQLSTATE; END $$"
        )
        await stock(shop, ["S03x"])
        await shop.take()
        other = await place.connect()
        async with other.transaction():
            await other.execute("LOCK TABLE erp.prices")
            await shop.drain(NO_QUIET)
            with pytest.raises(StoreRefused, match="no price"):
                await shop.claim()
        assert await shop.sql.fetchval("SELECT count(parked_at) FROM stockrelay.ledger") == 0
        assert len((await shop.claim()).attempts) == len(GOOD) + 1
