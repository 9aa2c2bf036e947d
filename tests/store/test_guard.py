"""Zeroes that are too many at once are held, however they arise; everything else flows (`[guard]`)."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from dataclasses import astuple
from datetime import UTC, datetime, timedelta

import pytest

from daemon.core.guard import GuardRule
from daemon.store import queries
from daemon.store.guard import Guard, Released
from daemon.store.ledger import Attempt, Debounce
from tests.store.place import WATCHES, Connection, Place, forget_statistics, watch
from tests.store.shop import CHANNEL, EVERY_SLOT, LISTING, SETTLE, Shop, opened
from tests.store.test_plans import explained

_SQL = queries.load("ledger")
WINDOW = timedelta(seconds=300)
RULE_OF_SMALL_SHOPS = GuardRule(zero_share=0.3, zero_count=3, row_share=0.5, window=WINDOW)
RULE = GuardRule(zero_share=0.3, zero_count=5, row_share=0.5, window=WINDOW)
AT_ONCE = Debounce(timedelta(0), timedelta(0), 0)


@pytest.fixture
async def guarded(place: Place) -> AsyncIterator[Shop]:
    """A shop whose guard holds more than five zeroes, if they are more than three tenths of what is on sale."""
    async with opened(place, guard=RULE) as shop:
        await shop.take()
        # Nothing is listed yet: the first filling is good.
        await shop.resync()
        yield shop


async def fill(shop: Shop, skus: int, quantity: int = 7) -> None:
    """S1 to Sn are listed, and the marketplace holds their numbers."""
    await shop.sql.execute(
        "INSERT INTO shop.goods SELECT 'S' || i, 'P' || i, 'b', $2 FROM generate_series(1, $1) AS i",
        skus,
        quantity,
    )
    await shop.sql.execute(
        """
        INSERT INTO stockrelay.ledger (channel, sku, want_seq, acked_seq, listed_rows, listed_identifiers,
            listed_quantity, acked_quantity, acked_at, identifiers)
        SELECT $1, g.sku, 0, 0, 1, ARRAY[g.pn, g.brand], g.quantity::int, g.quantity::int, clock_timestamp(),
               ARRAY[g.pn, g.brand] FROM shop.goods AS g
        """,
        CHANNEL,
    )
    await shop.drain()


async def send(shop: Shop, attempts: Iterable[Attempt]) -> dict[str, int]:
    """The marketplace takes them; return the numbers by SKU."""
    sent = {}
    for attempt in attempts:
        await shop.complete(attempt, "applied")
        sent[str(attempt.push.sku)] = attempt.push.quantity
    return sent


async def deliver(shop: Shop) -> dict[str, int]:
    """Mark what has changed, claim and send all that is due, until nothing is; return the last number of each SKU."""
    sent: dict[str, int] = {}
    while True:
        await shop.drain(AT_ONCE)
        claim = await shop.claim(limit=1000)
        if not (claim.attempts or claim.settled or claim.forgotten):
            return sent
        sent |= await send(shop, claim.attempts)


async def held(shop: Shop) -> set[str]:
    return await shop.held()


async def zero(shop: Shop, where: str = "true") -> None:
    await shop.sql.execute(f"UPDATE shop.goods SET quantity = 0 WHERE {where}")


def skus(first: int, last: int) -> set[str]:
    return {f"S{i}" for i in range(first, last + 1)}


async def blocks_somebody(connection: Connection) -> None:
    """Return when another session waits for a lock of this one."""
    waiting = (
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pg_backend_pid() = ANY (pg_blocking_pids(pid)))"
    )
    async with asyncio.timeout(20):
        # The server says it only to those who ask.
        while not await connection.fetchval(waiting):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_an_update_of_everything_to_zero_is_held_and_the_rest_flows(guarded: Shop) -> None:
    await fill(guarded, 20)
    await zero(guarded, "sku <> 'S20'")
    await guarded.sells("S20", 3, ("P20", "b"))
    marked = (await guarded.drain(AT_ONCE)).marked
    assert (marked.rows, marked.held) == (20, 19)
    assert await deliver(guarded) == {"S20": 3}
    assert await held(guarded) == skus(1, 19)
    state = await Guard(guarded.database).state(CHANNEL)
    assert (state.held, state.cause, state.zeroes, state.skus, state.share) == (19, "zeroes", 19, 20, 0.95)
    assert state.held_since is not None
    backlog = await guarded.ledger.backlog()
    assert (backlog.held, backlog.backlog, backlog.oldest) == (19, 0, None)
    assert (await guarded.ledger.next_due(EVERY_SLOT)).change is None


async def test_a_held_sku_whose_number_is_above_zero_again_is_sent(guarded: Shop) -> None:
    await fill(guarded, 20)
    await zero(guarded)
    await deliver(guarded)
    await guarded.sells("S3", 4, ("P3", "b"))
    await guarded.sells("S4", 7, ("P4", "b"))
    assert await deliver(guarded) == {"S3": 4}, "the marketplace has S4 at 7 already"
    assert await held(guarded) == skus(1, 20) - {"S3", "S4"}
    row = await guarded.row("S4")
    assert (row["held_at"], row["zero_at"], row["due_at"], row["is_wanted"]) == (None, None, None, False)


async def test_few_zeroes_are_never_held(guarded: Shop) -> None:
    await fill(guarded, 20)
    await zero(guarded, "sku IN ('S1', 'S2', 'S3', 'S4', 'S5')")
    assert await deliver(guarded) == dict.fromkeys(skus(1, 5), 0), "five of five are allowed"


async def test_many_zeroes_of_very_many_skus_are_not_held(guarded: Shop) -> None:
    await fill(guarded, 100)
    await zero(guarded, "substr(sku, 2)::int <= 30")
    assert len(await deliver(guarded)) == 30, "three tenths are allowed"


async def test_a_small_shop_may_sell_out_one_by_one(guarded: Shop) -> None:
    await fill(guarded, 20)
    for number in range(1, 21):
        await zero(guarded, f"sku = 'S{number}'")
        assert await deliver(guarded) == {f"S{number}": 0}
        await guarded.pass_time(100)


async def test_an_import_that_trickles_is_held_from_the_limit_on(guarded: Shop) -> None:
    await fill(guarded, 30)
    sent: dict[str, int] = {}
    for number in range(1, 31):
        await zero(guarded, f"sku = 'S{number}'")
        sent |= await deliver(guarded)
        await guarded.pass_time(1)
    assert sent == dict.fromkeys(skus(1, 9), 0), "three tenths of thirty"
    assert await held(guarded) == skus(10, 30)


async def test_skus_that_are_deleted_one_by_one_are_held_from_the_limit_on(guarded: Shop) -> None:
    await fill(guarded, 30)
    for number in range(1, 31):
        await guarded.delists(f"S{number}")
        await deliver(guarded)
    assert await held(guarded) == skus(10, 30), "those forgotten meanwhile count"


async def test_waiting_zeroes_are_held_with_the_one_that_is_too_many(guarded: Shop) -> None:
    await fill(guarded, 12)
    for number in range(1, 7):
        await zero(guarded, f"sku = 'S{number}'")
        await guarded.drain(AT_ONCE)
    assert (await guarded.claim()).attempts == []
    assert await held(guarded) == skus(1, 6)


async def test_truncate_is_held_and_reloading_the_table_lets_go(guarded: Shop) -> None:
    await fill(guarded, 20)
    await guarded.sql.execute("CREATE TABLE erp.copy AS TABLE shop.goods; TRUNCATE shop.goods")
    assert await deliver(guarded) == {}
    assert await held(guarded) == skus(1, 20)
    await guarded.sql.execute("INSERT INTO shop.goods TABLE erp.copy")
    assert await deliver(guarded) == {}, "the marketplace holds these numbers"
    assert await held(guarded) == set()
    assert isinstance(await Guard(guarded.database).recover(CHANNEL, RULE, 0), Released)


async def test_a_resync_that_finds_everything_at_zero_holds_it(guarded: Shop) -> None:
    await fill(guarded, 20)
    await guarded.sql.execute("ALTER TABLE shop.goods DISABLE TRIGGER USER")
    try:
        await zero(guarded)
    finally:
        await guarded.sql.execute("ALTER TABLE shop.goods ENABLE TRIGGER USER")
    assert (await guarded.resync(AT_ONCE)).marked.held == 20
    assert await deliver(guarded) == {}
    await guarded.resync(AT_ONCE)
    await guarded.resync(AT_ONCE)
    assert await deliver(guarded) == {}
    assert len(await held(guarded)) == 20


async def test_a_listing_with_far_fewer_rows_is_held_although_few_are_on_sale(guarded: Shop) -> None:
    await fill(guarded, 26, quantity=0)
    for number in (1, 2, 3):
        await guarded.sells(f"S{number}", 5, (f"P{number}", "b"))
    assert len(await deliver(guarded)) == 3
    await Guard(guarded.database).tidy(CHANNEL, RULE)
    await guarded.sql.execute("DELETE FROM shop.goods WHERE substr(sku, 2)::int < 15")
    await guarded.resync(AT_ONCE)
    assert await deliver(guarded) == {}, "14 of 26 rows"
    assert await held(guarded) == {"S1", "S2", "S3"}
    state = await Guard(guarded.database).state(CHANNEL)
    assert (state.cause, state.rows_before, state.rows_now) == ("rows", 26, 12)


async def test_a_few_skus_may_leave_a_small_listing(guarded: Shop) -> None:
    await fill(guarded, 6)
    await guarded.sql.execute("DELETE FROM shop.goods WHERE sku < 'S6'")
    await guarded.resync(AT_ONCE)
    assert await deliver(guarded) == dict.fromkeys(skus(1, 5), 0)


async def list_goods(shop: Shop, many: int, zeroes: int) -> None:
    """S1 to Sn are listed, the last of them at zero; none was ever sent."""
    await shop.sql.execute(
        "INSERT INTO shop.goods SELECT 'S' || i, 'P' || i, 'b', CASE WHEN i > $1 - $2 THEN 0 ELSE 7 END "
        "FROM generate_series(1, $1) AS i",
        many,
        zeroes,
    )


@pytest.mark.parametrize(
    ("server", "many", "zeroes"),
    [("pg18", 2001, 2001), ("pg18", 50, 16), ("pg18", 5, 4), ("pg15", 50, 16), ("pg15", 5, 4)],
    indirect=["server"],
)
async def test_a_first_filling_that_is_mostly_zero_is_held_whole(
    place: Place, many: int, zeroes: int
) -> None:
    async with opened(place, guard=RULE_OF_SMALL_SHOPS) as shop:
        await shop.take()
        guard = Guard(shop.database)
        await list_goods(shop, many, zeroes)
        await shop.drain(AT_ONCE)
        assert (await shop.claim()).captured == 0, (
            "nothing is sent before the listing was looked at as a whole"
        )
        await shop.resync(AT_ONCE)
        assert await deliver(shop) == {}
        assert (await shop.ledger.next_due(EVERY_SLOT)).change is None
        state = await guard.state(CHANNEL)
        assert (state.cause, state.zeroes, state.skus, state.held) == ("first", zeroes, many, many)
        question = await guard.ask(CHANNEL, "x")
        assert question is not None
        assert (question["cause"], question["zeroes"], question["skus"]) == (
            "first",
            zeroes,
            many,
        )
        assert {example["now"] for example in question["examples"]} == {0}
        # Another whole comparison, and a sync, change nothing.
        await shop.resync(AT_ONCE)
        _, marked = await shop.sync()
        assert marked == many
        assert (await shop.claim_turn()).captured == 0
        released = await guard.release(CHANNEL, WINDOW)
        assert released is not None
        assert released.numbers == many
        assert len((await shop.claim_turn(5000)).attempts) == many


async def test_a_first_filling_with_few_zeroes_goes_at_once_and_so_do_new_skus_later(place: Place) -> None:
    async with opened(place, guard=RULE) as shop:
        await shop.take()
        await list_goods(shop, 50, 5)
        await shop.resync(AT_ONCE)
        assert len(await deliver(shop)) == 50
        await shop.sql.execute(
            "INSERT INTO shop.goods SELECT 'N' || i, 'N' || i, 'b', 0 FROM generate_series(1, 10) AS i"
        )
        assert len(await deliver(shop)) == 10
        await shop.identity.adopt(1e6, SETTLE)
        await shop.resync(AT_ONCE)
        await shop.pass_time(100)
        assert len(await deliver(shop)) == 60, "few zeroes, and they were zeroes before"


async def test_a_first_filling_whose_numbers_come_is_let_go(place: Place) -> None:
    async with opened(place, guard=RULE) as shop:
        await shop.take()
        await list_goods(shop, 50, 50)
        await shop.resync(AT_ONCE)
        guard = Guard(shop.database)
        held = (await guard.state(CHANNEL)).held
        assert await guard.recover(CHANNEL, RULE, held) == 50
        await shop.sql.execute("UPDATE shop.goods SET quantity = 7 WHERE substr(sku, 2)::int > 10")
        await shop.drain(AT_ONCE)
        assert isinstance(await guard.recover(CHANNEL, RULE, held), Released)
        assert sorted((await deliver(shop)).values()) == [0] * 10 + [7] * 40


@pytest.mark.parametrize("way", ["schema made anew", "ledger emptied", "adopted"])
async def test_a_listing_that_is_zero_is_held_when_nobody_knows_what_the_marketplace_holds(
    guarded: Shop, way: str
) -> None:
    await fill(guarded, 30)
    await zero(guarded)
    if way == "adopted":
        # The copy was made when everything had been at zero for long; other numbers were sent since.
        await guarded.sql.execute(
            "UPDATE stockrelay.ledger SET acked_quantity = 0, zero_at = clock_timestamp()"
        )
        await guarded.identity.adopt(1e6, SETTLE)
    else:
        await guarded.sql.execute("DELETE FROM stockrelay.ledger")
    if way == "schema made anew":
        await guarded.sql.execute("DELETE FROM stockrelay.guard")
    await guarded.resync(AT_ONCE)
    await guarded.pass_time(100)
    assert await deliver(guarded) == {}
    state = await Guard(guarded.database).state(CHANNEL)
    assert (state.cause, state.zeroes, state.skus) == ("first", 30, 30)


async def test_many_new_skus_at_zero_are_held_and_the_others_flow(guarded: Shop) -> None:
    await fill(guarded, 20)
    await guarded.sql.execute(
        "INSERT INTO shop.goods SELECT 'N' || i, 'N' || i, 'b', 0 FROM generate_series(1, 30) AS i"
    )
    await guarded.sells("S1", 3, ("P1", "b"))
    assert await deliver(guarded) == {"S1": 3}
    state = await Guard(guarded.database).state(CHANNEL)
    assert (state.cause, state.held) == ("new", 30)


@pytest.mark.parametrize("move", ["1", "quantity * 10", "quantity / 100"])
async def test_numbers_that_move_by_orders_of_magnitude_are_held_until_released(
    guarded: Shop, move: str
) -> None:
    await fill(guarded, 40, quantity=700)
    await guarded.sql.execute(f"UPDATE shop.goods SET quantity = {move} WHERE sku <> 'S40'")
    await guarded.sells("S40", 650, ("P40", "b"))
    assert await deliver(guarded) == {"S40": 650}
    assert await held(guarded) == skus(1, 39)
    guard = Guard(guarded.database)
    state = await guard.state(CHANNEL)
    assert (state.cause, state.moved, state.skus) == ("moves", 39, 40)
    question = await guard.ask(CHANNEL, "x")
    assert question is not None
    assert question["share"] == 0.975
    # Other numbers of a held SKU: one that is as wrong stays, the right one and a sale go.
    await guarded.sql.execute(
        f"UPDATE shop.goods SET quantity = {move.replace('quantity', '699')} WHERE sku = 'S1'"
    )
    await guarded.sells("S2", 698, ("P2", "b"))
    await guarded.sells("S3", 0, ("P3", "b"))
    await guarded.resync(AT_ONCE)
    assert await deliver(guarded) == {"S2": 698, "S3": 0}
    assert await held(guarded) == skus(1, 39) - {"S2", "S3"}
    assert await guard.recover(CHANNEL, RULE, 37) == 37
    assert await guard.release(CHANNEL, WINDOW) is not None
    assert len(await deliver(guarded)) == 37


async def test_moved_numbers_that_are_back_end_the_hold(guarded: Shop) -> None:
    await fill(guarded, 40, quantity=70)
    await guarded.sql.execute("UPDATE shop.goods SET quantity = quantity * 10")
    await deliver(guarded)
    await guarded.sql.execute("UPDATE shop.goods SET quantity = 70")
    assert await deliver(guarded) == {}
    assert await held(guarded) == set()
    assert isinstance(await Guard(guarded.database).recover(CHANNEL, RULE, 0), Released)


async def test_a_delivery_of_goods_is_not_held(guarded: Shop) -> None:
    await fill(guarded, 40, quantity=7)
    await guarded.sql.execute("UPDATE shop.goods SET quantity = 500 WHERE substr(sku, 2)::int <= 18")
    await guarded.sql.execute("UPDATE shop.goods SET quantity = 30 WHERE substr(sku, 2)::int > 18")
    assert len(await deliver(guarded)) == 40


async def restore(shop: Shop, where: str, quantity: int) -> None:
    await shop.sql.execute(f"UPDATE shop.goods SET quantity = {quantity} WHERE {where}")


UPPER_HALF = "substr(sku, 2)::int > 20"


async def half_sold_out(shop: Shop) -> Guard:
    """S1 to S20 are at 700, S21 to S40 at 0, at the marketplace too; nothing of that is recent."""
    await fill(shop, 40, quantity=700)
    await restore(shop, UPPER_HALF, 0)
    await shop.sql.execute(
        f"UPDATE stockrelay.ledger SET acked_quantity = 0, listed_quantity = 0 WHERE {UPPER_HALF}"
    )
    assert await deliver(shop) == {}
    await shop.sql.execute("DELETE FROM stockrelay.anomaly")
    return Guard(shop.database)


@pytest.mark.parametrize("number", [1, 9999])
async def test_skus_without_stock_that_get_a_number_with_everything_else_are_held(
    guarded: Shop, number: int
) -> None:
    guard = await half_sold_out(guarded)
    await restore(guarded, "true", number)
    await guarded.sql.execute("INSERT INTO shop.goods VALUES ('S41', 'P41', 'b', 5)")
    assert await deliver(guarded) == {"S41": 5}
    assert await held(guarded) == skus(1, 40)
    question = await guard.ask(CHANNEL, "x")
    assert question is not None
    said = {name: question[name] for name in ("cause", "held", "moved", "risen", "skus")}
    assert said == {"cause": "moves", "held": 40, "moved": 20, "risen": 20, "skus": 20}
    # A held SKU that has another number, or is due again, stays held; back at 0 it is not held any more.
    await restore(guarded, "sku = 'S21'", 3)
    await restore(guarded, "sku = 'S22'", 0)
    await guarded.drain(AT_ONCE)
    await guarded.sql.execute("UPDATE stockrelay.ledger SET due_at = clock_timestamp() WHERE sku = 'S23'")
    await restore(guarded, "sku = 'S24'", 0)
    await guarded.resync(AT_ONCE)
    assert await held(guarded) == skus(1, 40) - {"S22", "S24"}
    assert await deliver(guarded) == {}
    assert await held(guarded) == skus(1, 40) - {"S22", "S24"}
    assert await guard.recover(CHANNEL, RULE, 38) == 38
    assert await guard.release(CHANNEL, WINDOW) is not None
    assert await deliver(guarded) == dict.fromkeys(skus(1, 40) - {"S22", "S24"}, number) | {"S21": 3}


async def test_risen_numbers_end_with_the_hold_when_the_others_are_back(guarded: Shop) -> None:
    guard = await half_sold_out(guarded)
    await restore(guarded, "true", 1)
    assert await deliver(guarded) == {}
    assert await guard.ask(CHANNEL, "x") is not None
    await restore(guarded, "NOT " + UPPER_HALF, 700)
    await restore(guarded, "substr(sku, 2)::int > 22", 0)
    assert await deliver(guarded) == {}
    assert await held(guarded) == skus(21, 22)
    assert isinstance(await guard.recover(CHANNEL, RULE, 2), Released)
    data = await guarded.sql.fetchval("SELECT data FROM stockrelay.notice WHERE kind = 'guard_released'")
    assert json.loads(data) == {"numbers": 38, "sent": 2, "by": "recovery"}
    await guard.release_held(CHANNEL)
    assert await deliver(guarded) == {"S21": 1, "S22": 1}


async def test_zeroes_and_numbers_that_change_places_are_held(guarded: Shop) -> None:
    await half_sold_out(guarded)
    await guarded.sql.execute("UPDATE shop.goods SET quantity = 700 - quantity")
    assert await deliver(guarded) == {}
    assert await held(guarded) == skus(1, 40)


async def test_goods_that_come_in_are_not_held_alone_nor_beside_a_hold(guarded: Shop) -> None:
    await half_sold_out(guarded)
    await restore(guarded, "substr(sku, 2)::int > 30", 500)
    assert await deliver(guarded) == dict.fromkeys(skus(31, 40), 500)
    await zero(guarded, "NOT " + UPPER_HALF)
    await restore(guarded, "substr(sku, 2)::int BETWEEN 21 AND 30", 80)
    assert await deliver(guarded) == dict.fromkeys(skus(21, 30), 80)
    assert await held(guarded) == skus(1, 20)


async def test_an_import_that_commits_each_row_is_held_with_what_rises(guarded: Shop) -> None:
    await half_sold_out(guarded)
    for number in range(1, 21):
        await restore(guarded, f"sku IN ('S{number}')", 1)
    assert await deliver(guarded) == {}
    for number in range(21, 41):
        await restore(guarded, f"sku IN ('S{number}')", 1)
    assert await deliver(guarded) == {}
    assert await held(guarded) == skus(1, 40)


async def test_a_restocked_sku_is_sent_while_its_zero_is_held(guarded: Shop) -> None:
    await fill(guarded, 20)
    await zero(guarded)
    await deliver(guarded)
    await guarded.sells("S1", 900, ("P1", "b"))
    await guarded.resync(AT_ONCE)
    assert await deliver(guarded) == {"S1": 900}


async def test_a_slow_drip_to_zero_is_held_by_the_longer_window(guarded: Shop) -> None:
    await fill(guarded, 60)
    guard, sent = Guard(guarded.database), set[str]()
    for number in range(1, 61):
        await zero(guarded, f"sku = 'S{number}'")
        sent |= (await deliver(guarded)).keys()
        await guarded.pass_time(100)
        await guard.tidy(CHANNEL, RULE)
    assert sent == skus(1, 37), "six tenths, and the one by which it is noticed"
    assert await held(guarded) == skus(38, 60)
    # They stay: what is back decides, and not how few are held.
    assert await guard.recover(CHANNEL, RULE, 23) == 23


async def test_what_is_worse_than_what_was_asked_about_is_asked_again(guarded: Shop) -> None:
    await fill(guarded, 40, quantity=70)
    guard = Guard(guarded.database)
    await guarded.sql.execute("UPDATE shop.goods SET quantity = 7")
    await guarded.drain(AT_ONCE)
    first = await guard.ask(CHANNEL, "x")
    await zero(guarded)
    await guarded.drain(AT_ONCE)
    second = await guard.ask(CHANNEL, "x")
    assert [one["cause"] for one in (first, second) if one] == ["moves", "zeroes"]
    assert await guard.ask(CHANNEL, "x") is None


async def test_rows_that_vanish_are_told_as_such(guarded: Shop) -> None:
    await fill(guarded, 20)
    await guarded.sql.execute("DELETE FROM shop.goods WHERE substr(sku, 2)::int <= 8")
    await zero(guarded, "sku = 'S9'")
    await guarded.drain(AT_ONCE)
    question = await Guard(guarded.database).ask(CHANNEL, "x")
    assert question is not None
    assert (question["cause"], question["gone"], question["zeroes"]) == ("rows", 8, 9)


async def test_new_names_for_everything_are_no_zeroes(guarded: Shop) -> None:
    await fill(guarded, 20)
    await guarded.sql.execute("UPDATE shop.goods SET sku = 'N' || sku")
    await deliver(guarded)
    assert await held(guarded) == set()
    assert {row["sku"] for row in await guarded.sql.fetch("SELECT sku FROM stockrelay.ledger")} == {
        f"NS{i}" for i in range(1, 21)
    }
    assert await guarded.sql.fetchval("SELECT count(*) FROM stockrelay.attempt WHERE quantity = 0") == 0


async def test_new_names_that_come_one_by_one_are_no_zeroes_either(guarded: Shop) -> None:
    await fill(guarded, 20)
    for number in range(1, 21):
        await guarded.sql.execute("UPDATE shop.goods SET sku = 'N' || sku WHERE sku = $1", f"S{number}")
        await deliver(guarded)
    await zero(guarded, "sku = 'NS1'")
    assert await deliver(guarded) == {"NS1": 0}
    assert await held(guarded) == set()


async def test_held_skus_whose_identifiers_another_sku_is_given_are_let_go_unsent(guarded: Shop) -> None:
    await fill(guarded, 20)
    await guarded.sql.execute("CREATE TABLE erp.copy AS TABLE shop.goods; DELETE FROM shop.goods")
    await deliver(guarded)
    assert len(await held(guarded)) == 20
    await guarded.sql.execute("INSERT INTO shop.goods SELECT 'N' || sku, pn, brand, quantity FROM erp.copy")
    await deliver(guarded)
    released = await Guard(guarded.database).recover(CHANNEL, RULE, None)
    assert released == Released(
        0, "recovery", released.held_since if isinstance(released, Released) else None
    )
    await deliver(guarded)
    assert await guarded.sql.fetchval("SELECT count(*) FROM stockrelay.attempt WHERE quantity = 0") == 0


async def test_new_identifiers_and_zero_are_held(guarded: Shop) -> None:
    await fill(guarded, 20)
    await guarded.sql.execute("UPDATE shop.goods SET pn = 'new-' || pn, quantity = 0")
    assert await deliver(guarded) == {}
    assert len(await held(guarded)) == 20


async def test_what_was_marked_without_looking_is_held_when_the_listing_is_read(place: Place) -> None:
    listing = f"{LISTING}, erp.listing"
    sql = await place.connect()
    await sql.execute("CREATE TABLE erp.listing AS SELECT 1::numeric AS works")
    async with opened(place, listing, guard=RULE) as guarded:
        await guarded.take()
        await guarded.resync()
        await fill(guarded, 20)
        await sql.execute("ALTER TABLE erp.listing RENAME TO away")
        await zero(guarded, "sku <> 'S20'")
        await guarded.sells("S20", 3, ("P20", "b"))
        assert (await guarded.drain(AT_ONCE)).failed
        await sql.execute("ALTER TABLE erp.away RENAME TO listing")
        await guarded.pass_time(10)
        claim = await guarded.claim()
        assert await send(guarded, claim.attempts) == {"S20": 3}
        assert set(claim.deferred) == skus(1, 19)
        # The next comparison counts them.
        assert (await guarded.resync(AT_ONCE)).marked.held == 19
        await guarded.pass_time(10)
        assert (await guarded.claim()).captured == 0


async def test_a_few_zeroes_that_no_marking_saw_go_at_once(guarded: Shop) -> None:
    await fill(guarded, 20)
    for number in range(1, 4):
        await guarded.sells(f"S{number}", 6, (f"P{number}", "b"))
    await guarded.drain(AT_ONCE)
    await zero(guarded, "sku IN ('S1', 'S2', 'S3')")
    assert await send(guarded, (await guarded.claim()).attempts) == dict.fromkeys(skus(1, 3), 0)
    await guarded.drain(AT_ONCE)
    # They count: three more are too many.
    await zero(guarded, "sku IN ('S4', 'S5', 'S6', 'S7')")
    assert await deliver(guarded) == {}


async def test_held_zeroes_stay_held_when_they_are_marked_without_looking_or_doubted(guarded: Shop) -> None:
    await fill(guarded, 20)
    await zero(guarded)
    await deliver(guarded)
    await guarded.sql.execute(
        "UPDATE stockrelay.ledger SET due_at = clock_timestamp(), doubt_at = clock_timestamp(), "
        "doubt_until = clock_timestamp()"
    )
    claim = await guarded.claim()
    assert (claim.attempts, len(claim.held)) == ([], 20)
    assert (await guarded.ledger.next_due(EVERY_SLOT)).change is None
    assert len(await held(guarded)) == 20


async def test_a_zero_behind_a_number_in_flight_is_held_when_that_one_ends(guarded: Shop) -> None:
    await fill(guarded, 20)
    await guarded.sells("S1", 6, ("P1", "b"))
    await guarded.drain(AT_ONCE)
    attempt = await guarded.claim_one()
    await zero(guarded)
    await guarded.drain(AT_ONCE)
    await guarded.complete(attempt, "unknown")
    assert (await guarded.claim()).attempts == []
    assert await held(guarded) == skus(1, 20)
    row = await guarded.row("S1")
    assert row["doubt_at"] is not None


async def test_a_claim_that_was_faster_is_not_waited_for(guarded: Shop) -> None:
    await fill(guarded, 20)
    await zero(guarded, "sku = 'S1'")
    await guarded.drain(AT_ONCE)
    attempt = await guarded.claim_one()
    await zero(guarded)
    assert (await guarded.drain(AT_ONCE)).marked.held == 19
    await guarded.complete(attempt, "not_sent")
    assert await deliver(guarded) == {"S1": 0}, "it fell before the others and by itself"
    assert await held(guarded) == skus(2, 20)


async def test_a_number_that_arrived_while_it_was_being_held_is_not_held(guarded: Shop) -> None:
    await fill(guarded, 20)
    await zero(guarded)
    await guarded.sync()
    attempt = (await guarded.claim_turn(limit=1)).attempts[0]
    await guarded.drain(AT_ONCE)
    # As by a marking that had read the row before it was claimed.
    await guarded.sql.execute(
        "UPDATE stockrelay.ledger SET held_at = clock_timestamp(), due_at = NULL, "
        "want_seq = nextval('stockrelay.want_seq'), listed_quantity = 0 WHERE sku = $1",
        attempt.push.sku,
    )
    await guarded.complete(attempt, "applied")
    assert await held(guarded) == skus(1, 20) - {str(attempt.push.sku)}, "the marketplace has this zero"


@pytest.mark.parametrize(
    ("quantity", "pn"),
    [("1e12", "sku"), ("'-Infinity'", "sku"), ("'NaN'", "sku"), ("9", "'SAME'"), ("9", "NULL"), ("9", "''")],
)
async def test_a_first_filling_is_judged_by_what_can_be_sent_of_it(
    place: Place, quantity: str, pn: str
) -> None:
    async with opened(place, guard=RULE) as shop:
        await shop.take()
        await shop.sql.execute(
            f"INSERT INTO shop.goods SELECT x.sku, {pn}, 'b', {quantity} "
            "FROM (SELECT 'X' || i FROM generate_series(1, 60) AS i) AS x (sku);"
            "INSERT INTO shop.goods SELECT 'S' || i, 'P' || i, 'b', -3 FROM generate_series(1, 19) AS i;"
            "INSERT INTO shop.goods VALUES ('S20', 'P20', 'b', 5)"
        )
        await shop.resync()
        assert await deliver(shop) == {}
        state = await Guard(shop.database).state(CHANNEL)
        assert (state.cause, state.zeroes, state.skus) == ("first", 19, 20)


@pytest.mark.parametrize(
    "change",
    [
        "pn = NULL",
        "pn = ''",
        "pn = 'SAME'",
        "pn = repeat('x', 60) || sku",
        "pn = pn || ' '",
        "pn = brand, brand = pn",
    ],
)
async def test_identifiers_that_change_in_bulk_are_held_and_heal(guarded: Shop, change: str) -> None:
    await fill(guarded, 20)
    await guarded.sql.execute("CREATE TABLE erp.before AS TABLE shop.goods")
    await guarded.sql.execute(f"UPDATE shop.goods SET {change} WHERE sku <> 'S20'")
    await guarded.sells("S20", 0, ("P20", "b"))
    assert await deliver(guarded) == {"S20": 0}, "a sale beside it"
    assert await held(guarded) == skus(1, 19)
    assert (await Guard(guarded.database).state(CHANNEL)).cause == "moves"
    await guarded.sql.execute("TRUNCATE shop.goods; INSERT INTO shop.goods TABLE erp.before")
    assert await deliver(guarded) == {"S20": 7}
    assert await held(guarded) == set()
    assert {row["acked_quantity"] for row in await guarded.sql.fetch("TABLE stockrelay.ledger")} == {7}


async def test_identifiers_that_changed_in_bulk_are_sent_once_a_person_says_so(guarded: Shop) -> None:
    await fill(guarded, 20)
    await guarded.sql.execute("UPDATE shop.goods SET pn = 'N' || pn")
    assert await deliver(guarded) == {}
    assert await Guard(guarded.database).release(CHANNEL, WINDOW) is not None
    assert await deliver(guarded) == dict.fromkeys(skus(1, 20), 7)
    names = await guarded.sql.fetch("SELECT identifiers FROM stockrelay.ledger")
    assert {name for row in names for name in row["identifiers"]} == {f"NP{i}" for i in range(1, 21)} | {"b"}


async def test_a_sync_of_a_listing_with_other_identifiers_takes_nothing_off_sale(guarded: Shop) -> None:
    await fill(guarded, 20)
    async with opened(guarded.place, LISTING.replace("pn AS", "'X' || pn AS"), guard=RULE) as mistaken:
        mistaken.owner = guarded.owner
        await mistaken.sync()
        for _ in range(3):
            claim = await mistaken.claim_turn()
            assert len(claim.attempts) <= RULE.most_moves(20)
            await send(mistaken, claim.attempts)
            await mistaken.resync()
        assert len(await held(mistaken)) >= 20 - RULE.most_moves(20)


async def test_a_few_skus_with_other_identifiers_go_at_once(guarded: Shop) -> None:
    await fill(guarded, 20)
    await guarded.sql.execute("UPDATE shop.goods SET pn = 'N' || pn WHERE sku IN ('S1', 'S2', 'S3')")
    assert await deliver(guarded) == {"S1": 7, "S2": 7, "S3": 7}
    assert await held(guarded) == set()


async def test_nothing_slips_out_between_marking_and_holding(guarded: Shop, place: Place) -> None:
    await fill(guarded, 20)
    blocker = await place.connect()
    await blocker.execute(
        "INSERT INTO stockrelay.guard (channel) VALUES ($1) ON CONFLICT DO NOTHING", CHANNEL
    )
    await zero(guarded)
    await blocker.execute("BEGIN; SELECT FROM stockrelay.guard FOR UPDATE")
    marking = asyncio.create_task(guarded.drain(AT_ONCE))
    await blocks_somebody(blocker)
    # Marked, not yet held, not committed: a claim sees nothing of it.
    assert (await guarded.claim()).captured == 0
    await blocker.execute("ROLLBACK")
    assert (await marking).marked.held == 20
    assert (await guarded.claim()).captured == 0


async def test_replicas_that_mark_and_claim_at_once_send_no_more_than_the_limit(guarded: Shop) -> None:
    await fill(guarded, 40)
    sent: dict[str, int] = {}

    async def mark() -> None:
        for _ in range(30):
            await guarded.drain(AT_ONCE)
            await asyncio.sleep(0.005)

    async def claim() -> None:
        for _ in range(60):
            sent.update(await send(guarded, (await guarded.claim(limit=3)).attempts))

    async def fall() -> None:
        for number in range(1, 41):
            await zero(guarded, f"sku = 'S{number}'")
            await asyncio.sleep(0.003)

    await asyncio.gather(mark(), mark(), claim(), fall())
    await guarded.drain(AT_ONCE)
    assert len(sent) <= 12
    assert sent.keys() | await held(guarded) == skus(1, 40)
    assert sent.keys() & await held(guarded) == set()


async def test_a_restart_changes_nothing(guarded: Shop, place: Place) -> None:
    await fill(guarded, 20)
    await zero(guarded)
    await deliver(guarded)
    async with opened(place, guard=RULE) as again:
        await again.take("another")
        await again.ledger.rescue(again.owner, [], SETTLE)
        await again.resync(AT_ONCE)
        assert await deliver(again) == {}
        assert len(await held(again)) == 20


async def test_a_release_sends_at_once_and_lets_the_rest_of_the_import_pass(guarded: Shop) -> None:
    guard = Guard(guarded.database)
    await fill(guarded, 40)
    await zero(guarded, "substr(sku, 2)::int <= 20")
    assert await deliver(guarded) == {}
    released = await guard.release(CHANNEL, WINDOW)
    assert released is not None
    assert (released.numbers, released.by) == (20, "command")
    row = await guarded.row("S1")
    assert row["urgent"]
    assert row["due_s"] <= 0
    assert await deliver(guarded) == dict.fromkeys(skus(1, 20), 0)
    await guarded.pass_time(10)
    await zero(guarded, "substr(sku, 2)::int <= 32")
    assert await deliver(guarded) == dict.fromkeys(skus(21, 32), 0), "stragglers of the same import"
    await guarded.pass_time(301)
    await zero(guarded)
    assert await deliver(guarded) == {}, "another one is asked about again"
    assert await held(guarded) == skus(33, 40)
    assert await guard.release(CHANNEL, WINDOW) is not None
    assert await guard.release(CHANNEL, WINDOW) is None
    notices = await guarded.sql.fetch("SELECT kind, data FROM stockrelay.notice ORDER BY id")
    assert [row["kind"] for row in notices] == ["guard_released"] * 2


async def test_a_release_that_is_cut_off_is_finished_by_whoever_looks_next(guarded: Shop) -> None:
    guard = Guard(guarded.database)
    await fill(guarded, 20)
    await zero(guarded)
    await deliver(guarded)
    async with guarded.database.transaction("a release that dies after its first step") as connection:
        row = await connection.fetchrow("SELECT * FROM stockrelay.guard WHERE channel = $1", CHANNEL)
        assert row is not None
        await guard._close(connection, CHANNEL, row, "command", 20, WINDOW)
    assert await guard.release_held(CHANNEL) == 20
    assert len(await deliver(guarded)) == 20


async def claims_until(shop: Shop, barrier: asyncio.Barrier, done: asyncio.Event) -> list[str]:
    """Claim and send until `done`, and once more then; return the SKUs in the order in which they were sent."""
    sent: list[str] = []
    await barrier.wait()
    while True:
        is_last = done.is_set()
        claim = await shop.claim(limit=3)
        sent += await send(shop, claim.attempts)
        if is_last and not (claim.attempts or claim.forgotten):
            return sent


async def test_a_release_beside_claims_and_another_release_sends_each_number_once(
    guarded: Shop, place: Place
) -> None:
    await fill(guarded, 40)
    await zero(guarded)
    await deliver(guarded)
    guard, other = Guard(guarded.database), Guard(guarded.database)
    async with guarded.database.transaction("a release that dies after its first step") as connection:
        row = await connection.fetchrow("SELECT * FROM stockrelay.guard WHERE channel = $1", CHANNEL)
        assert row is not None
        await guard._close(connection, CHANNEL, row, "command", 40, WINDOW)
    # Some rows are busy elsewhere: a release leaves them to the next.
    busy = await place.connect()
    await busy.execute("BEGIN; SELECT FROM stockrelay.ledger WHERE sku IN ('S1', 'S2', 'S3') FOR UPDATE")
    barrier, done = asyncio.Barrier(4), asyncio.Event()

    async def release(by: Guard) -> int:
        await barrier.wait()
        return await by.release_held(CHANNEL)

    claims = [asyncio.create_task(claims_until(guarded, barrier, done)) for _ in range(2)]
    released = await asyncio.gather(release(guard), release(other))
    assert sum(released) == 37
    await busy.execute("COMMIT")
    assert await guard.release_held(CHANNEL) == 3
    done.set()
    sent = [sku for skus_sent in await asyncio.gather(*claims) for sku in skus_sent]
    assert sorted(sent) == sorted(skus(1, 40))
    assert await held(guarded) == set()


async def test_held_skus_that_were_renamed_are_let_go_beside_claims_and_none_is_sent(guarded: Shop) -> None:
    await fill(guarded, 20)
    await guarded.sql.execute("UPDATE shop.goods SET sku = 'NEW-' || sku")
    await guarded.sql.execute("UPDATE shop.goods SET quantity = quantity")
    await guarded.drain(AT_ONCE)
    before = await held(guarded)
    barrier, done = asyncio.Barrier(3), asyncio.Event()

    async def recover() -> None:
        await barrier.wait()
        for _ in range(3):
            await Guard(guarded.database).recover(CHANNEL, RULE, None)
        done.set()

    claims = [asyncio.create_task(claims_until(guarded, barrier, done)) for _ in range(2)]
    await recover()
    sent = [sku for skus_sent in await asyncio.gather(*claims) for sku in skus_sent]
    assert len(sent) == len(set(sent)), "each once"
    assert not [sku for sku in sent if sku in before and not sku.startswith("NEW-")], "nothing of an old name"
    assert await held(guarded) == set()


async def test_numbers_that_come_back_let_the_few_others_go(guarded: Shop) -> None:
    guard = Guard(guarded.database)
    await fill(guarded, 20)
    await zero(guarded)
    await deliver(guarded)
    assert await guard.recover(CHANNEL, RULE, 20) == 20
    question = await guard.ask(CHANNEL, "a command")
    assert question is not None
    assert await guard.ask(CHANNEL, "a command") is None, "once"
    assert question["zeroes"] == 20
    assert question["share"] == 1.0
    assert question["examples"][0] == {"sku": "S1", "was": 7, "now": 0}
    await guarded.sql.execute("UPDATE shop.goods SET quantity = 7 WHERE substr(sku, 2)::int > 4")
    assert await deliver(guarded) == {}
    assert await guard.recover(CHANNEL, RULE, 20) == 4, "only when it stands still"
    released = await guard.recover(CHANNEL, RULE, 4)
    assert isinstance(released, Released)
    assert (released.numbers, released.by) == (4, "recovery")
    await guard.release_held(CHANNEL)
    assert await deliver(guarded) == dict.fromkeys(skus(1, 4), 0)
    kinds = [row["kind"] for row in await guarded.sql.fetch("SELECT kind FROM stockrelay.notice ORDER BY id")]
    assert kinds == ["guard_question", "guard_released"]
    news = await guard.take_unlogged_release(CHANNEL)
    assert news is not None
    assert news.by == "recovery"
    assert await guard.take_unlogged_release(CHANNEL) is None


async def test_a_hold_that_grows_while_it_is_judged_does_not_end(guarded: Shop, place: Place) -> None:
    await fill(guarded, 20)
    await zero(guarded)
    await deliver(guarded)
    await guarded.sql.execute("UPDATE shop.goods SET quantity = 7 WHERE substr(sku, 2)::int > 4")
    await deliver(guarded)
    marker = await place.connect()
    await marker.execute("BEGIN; UPDATE stockrelay.guard SET held_to = clock_timestamp()")
    judging = asyncio.create_task(Guard(guarded.database).recover(CHANNEL, RULE, 4))
    await blocks_somebody(marker)
    await marker.execute("COMMIT")
    assert await judging == 4
    assert (await Guard(guarded.database).state(CHANNEL)).held_since is not None


async def test_single_stock_outs_go_while_others_are_held(guarded: Shop) -> None:
    await fill(guarded, 40)
    await zero(guarded, "substr(sku, 2)::int <= 20")
    await deliver(guarded)
    await guarded.pass_time(400)
    await zero(guarded, "sku = 'S30'")
    assert await deliver(guarded) == {"S30": 0}
    assert await held(guarded) == skus(1, 20)


# Per row: how many SKUs, what they had, in transactions of how many, by how many sessions. Of 100 on sale 30 may fall.
@pytest.mark.parametrize(
    ("falls", "in_bulk"),
    [
        ([(70, 20, 70, 1), (1, 20, 1, 1)], [0]),
        ([(70, 20, 70, 1), (10, 20, 1, 10), (11, 20, 11, 1)], [0, 2]),
        ([(40, 20, 1, 1), (3, 20, 1, 3), (3, 2, 1, 1)], [0]),
        ([(40, 20, 1, 40)], [0]),
        ([(40, 20, 1, 40), (5, 2, 1, 5)], [0]),
        ([(40, 3, 1, 40)], [0]),
        ([(20, 20, 1, 20), (9, 3, 1, 9)], []),
        ([(60, 20, 12, 5), (5, 20, 5, 1)], [0]),
    ],
    ids=[
        "a sale after an UPDATE of many",
        "orders, and an import's chunk, beside it",
        "an import that commits each row, sales beside it, and some of what nearly everything had gone",
        "an import with a connection for each row",
        "the same, with sales of the last few",
        "many sales of the last few, too many to be true",
        "a good day",
        "an import in chunks",
    ],
)
async def test_what_belongs_to_a_bulk_change(
    place: Place, falls: list[tuple[int, int, int, int]], in_bulk: list[int]
) -> None:
    sql = await place.connect()
    transaction = session = 0
    for group, (many, was, together, sessions) in enumerate(falls):
        for number in range(many):
            transaction += number % together == 0
            await sql.execute(
                "INSERT INTO stockrelay.anomaly (channel, sku, at, kind, was, xid, backend, relation) "
                "VALUES ($1, $2, clock_timestamp(), 'zero', $3, $4::text::xid8, $5, 1)",
                CHANNEL,
                f"{group}-{number}",
                was,
                str(transaction),
                session + number // together % sessions,
            )
        session += sessions
    found = await sql.fetch(
        "SELECT split_part(sku, '-', 1)::integer AS part, count(*) AS many "
        "FROM stockrelay.in_bulk($1, '-infinity', 30, 6, false) GROUP BY 1",
        CHANNEL,
    )
    assert {row["part"]: row["many"] for row in found} == {part: falls[part][0] for part in in_bulk}


async def sells_out(sql: Connection, *names: str) -> None:
    """In one transaction."""
    await sql.execute("UPDATE shop.goods SET quantity = 0 WHERE sku = ANY ($1)", names)


async def test_a_sell_out_beside_a_bulk_change_is_sent_and_so_is_one_after_it(
    guarded: Shop, place: Place
) -> None:
    await fill(guarded, 100, quantity=20)
    till = await place.connect()
    await zero(guarded, "substr(sku, 2)::int <= 70")
    await sells_out(till, "S100")
    assert await deliver(guarded) == {"S100": 0}, "read together"
    await guarded.pass_time(4)
    await sells_out(till, "S99", "S98")
    assert await deliver(guarded) == {"S99": 0, "S98": 0}
    await sells_out(guarded.sql, "S97")
    assert await deliver(guarded) == {"S97": 0}, "by the importer's own session, in a transaction of its own"
    assert await held(guarded) == skus(1, 70)


@pytest.mark.parametrize(
    ("server", "way"),
    [("pg18", "two sessions"), ("pg18", "two tables"), ("pg18", "a pooler"), ("pg15", "a pooler")],
    indirect=["server"],
)
async def test_a_trickling_import_is_held_and_a_sale_beside_it_is_sent(place: Place, way: str) -> None:
    """One row a transaction, from any number to none; and orders that take what is left of a few, one at a time."""
    listing = LISTING + " WHERE sku NOT IN (SELECT sku FROM erp.sold)"
    sql = await place.connect()
    await sql.execute("CREATE TABLE erp.sold (sku text)")
    await watch(sql, *WATCHES, ("erp.sold", "sku"))
    async with opened(place, listing, guard=RULE_OF_SMALL_SHOPS) as shop:
        await shop.take()
        await shop.resync()
        await fill(shop, 100, quantity=40)
        # The last few are nearly gone, as a till finds them.
        await sql.execute("UPDATE shop.goods SET quantity = 2 WHERE substr(sku, 2)::int > 95")
        await deliver(shop)
        sessions = [await place.connect() for _ in range(4)]
        sent: dict[str, int] = {}
        for number in range(1, 96):
            importer = sessions[number % 4] if way == "a pooler" else sessions[0]
            await sells_out(importer, f"S{number}")
            if number % 20 == 0:
                sold = f"S{95 + number // 20}"
                if way == "two tables":
                    await sessions[0].execute("INSERT INTO erp.sold VALUES ($1)", sold)
                else:
                    await sells_out(sessions[(number // 20) % 4] if way == "a pooler" else sql, sold)
            sent |= await deliver(shop)
            await shop.pass_time(1)
        assert sent.keys() >= skus(96, 99), "every sale"
        assert await held(shop) == skus(1, 95) - sent.keys()
        assert len(await held(shop)) >= 95 - 32, "three tenths of the import were sent, and one or two more"


async def test_a_sale_beside_an_import_of_more_than_can_be_named_is_sent(guarded: Shop, place: Place) -> None:
    await fill(guarded, 6000, quantity=20)
    await zero(guarded, "sku <> 'S6000'")
    await sells_out(await place.connect(), "S6000")
    assert (await guarded.drain(AT_ONCE)).is_everything
    assert await deliver(guarded) == {"S6000": 0}


async def test_an_order_of_several_skus_is_no_bulk_and_a_chunk_of_an_import_is(
    guarded: Shop, place: Place
) -> None:
    await fill(guarded, 100, quantity=20)
    await zero(guarded, "substr(sku, 2)::int <= 40")
    await deliver(guarded)
    await sells_out(await place.connect(), *skus(41, 50))
    assert (await deliver(guarded)).keys() == skus(41, 50)
    await sells_out(await place.connect(), *skus(51, 62))
    assert await deliver(guarded) == {}
    assert await held(guarded) == skus(1, 40) | skus(51, 62)


async def test_two_replicas_ask_once(guarded: Shop) -> None:
    await fill(guarded, 20)
    await zero(guarded)
    await deliver(guarded)
    asked = await asyncio.gather(*(Guard(guarded.database).ask(CHANNEL, "x") for _ in range(4)))
    assert len([one for one in asked if one is not None]) == 1
    assert await guarded.sql.fetchval("SELECT count(*) FROM stockrelay.notice") == 1


async def test_a_switched_off_guard_holds_nothing_and_lets_go(guarded: Shop, place: Place) -> None:
    guard = Guard(guarded.database)
    await fill(guarded, 40)
    await zero(guarded, "substr(sku, 2)::int <= 20")
    await deliver(guarded)
    await guard.disable(CHANNEL)
    await guard.release_held(CHANNEL)
    async with opened(place) as off:
        await off.take()
        await zero(off)
        assert len(await deliver(off)) == 40


async def test_a_release_waits_for_a_marking_under_way(guarded: Shop, place: Place) -> None:
    await fill(guarded, 20)
    await zero(guarded)
    await deliver(guarded)
    marker = await place.connect()
    await marker.execute("BEGIN; SELECT FROM stockrelay.guard FOR UPDATE")
    release = asyncio.create_task(Guard(guarded.database).release(CHANNEL, WINDOW))
    await blocks_somebody(marker)
    await marker.execute("COMMIT")
    released = await release
    assert released is not None
    assert released.numbers == 20


async def test_a_single_zero_looks_at_a_few_pages_however_many_skus_there_are(guarded: Shop) -> None:
    await forget_statistics(guarded.sql, "stockrelay.ledger", "stockrelay.anomaly")
    await fill(guarded, 100_000)
    await guarded.sql.execute(
        "INSERT INTO stockrelay.anomaly SELECT $1, 'old-' || i, clock_timestamp() - interval '1 h', 'zero' "
        "FROM generate_series(1, 50000) AS i",
        CHANNEL,
    )
    await Guard(guarded.database).tidy(CHANNEL, RULE)
    arguments = (CHANNEL, *astuple(RULE), False, None)
    for number in range(1, 40):
        await zero(guarded, f"sku = 'S{number}'")
    await guarded.drain(AT_ONCE)
    for statistics in ("SELECT 1", "ANALYZE stockrelay.ledger, stockrelay.anomaly, stockrelay.guard"):
        await guarded.sql.execute(statistics)
        # Once before: the function's plans are made, and the catalogue is read.
        await guarded.sql.fetchval(_SQL["hold_anomalies"], *arguments)
        _, looked_at = await explained(guarded.sql, _SQL["hold_anomalies"], *arguments)
        assert looked_at < 150, statistics
        plan, looked_at = await explained(
            guarded.sql,
            "SELECT count(*) FROM stockrelay.anomaly AS f WHERE f.channel = $1 AND f.at > $2::timestamptz",
            CHANNEL,
            datetime.now(UTC) - WINDOW,
        )
        assert "anomaly_at" in plan
        assert looked_at < 60, statistics
    assert await held(guarded) == set()
