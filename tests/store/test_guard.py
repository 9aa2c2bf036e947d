"""Zeroes that are too many at once are held, however they arise; everything else flows (`[guard]`)."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta

import pytest

from daemon.core.guard import GuardRule
from daemon.store import queries
from daemon.store.guard import Guard, Released
from daemon.store.ledger import Attempt, Debounce
from tests.store.place import Connection, Place, forget_statistics
from tests.store.shop import CHANNEL, LISTING, SETTLE, Shop, opened
from tests.store.test_plans import explained

_SQL = queries.load("ledger")
WINDOW = timedelta(seconds=300)
RULE = GuardRule(zero_share=0.3, zero_count=5, row_share=0.5, window=WINDOW)
AT_ONCE = Debounce(timedelta(0), timedelta(0), 0)


@pytest.fixture
async def guarded(place: Place) -> AsyncIterator[Shop]:
    """A shop whose guard holds more than five zeroes, if they are more than three tenths of what is on sale."""
    async with opened(place, guard=RULE) as shop:
        await shop.take()
        yield shop


async def fill(shop: Shop, skus: int, quantity: int = 7) -> None:
    """S1 to Sn are listed, and the partner holds their numbers."""
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
    """The partner takes them; return the numbers by SKU."""
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
    return {str(one.sku) for one in await shop.ledger.held(10_000)}


async def zero(shop: Shop, where: str = "true") -> None:
    await shop.sql.execute(f"UPDATE shop.goods SET quantity = 0 WHERE {where}")


def skus(first: int, last: int) -> set[str]:
    return {f"S{i}" for i in range(first, last + 1)}


async def blocks_somebody(connection: Connection) -> None:
    """Return when somebody waits for a lock of this session."""
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
    assert (await guarded.ledger.next_due(0)).change is None


async def test_a_held_sku_whose_number_is_above_zero_again_is_sent(guarded: Shop) -> None:
    await fill(guarded, 20)
    await zero(guarded)
    await deliver(guarded)
    await guarded.sells("S3", 4, ("P3", "b"))
    await guarded.sells("S4", 7, ("P4", "b"))
    assert await deliver(guarded) == {"S3": 4}, "the partner has S4 at 7 already"
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
    assert await deliver(guarded) == {}, "the partner holds these numbers"
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
    await Guard(guarded.database).tidy(CHANNEL, WINDOW)
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


async def test_what_was_never_told_is_no_fall(guarded: Shop) -> None:
    await guarded.sql.execute(
        "INSERT INTO shop.goods SELECT 'S' || i, 'P' || i, 'b', 0 FROM generate_series(1, 50) AS i"
    )
    assert len(await deliver(guarded)) == 50
    await guarded.resync(AT_ONCE)
    assert await deliver(guarded) == {}
    await guarded.identity.adopt(1e6, SETTLE)
    await guarded.pass_time(100)
    assert len(await deliver(guarded)) == 50, "a zero that is confirmed is none that falls"


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


async def test_new_identifiers_for_everything_flow(guarded: Shop) -> None:
    await fill(guarded, 20)
    await guarded.sql.execute("UPDATE shop.goods SET pn = 'new-' || pn")
    assert await deliver(guarded) == dict.fromkeys(skus(1, 20), 7)
    zeroes = await guarded.sql.fetchval("SELECT count(*) FROM stockrelay.attempt WHERE quantity = 0")
    assert zeroes == 20, "they are taken off sale under the old ones"


async def test_new_identifiers_and_zero_are_held(guarded: Shop) -> None:
    await fill(guarded, 20)
    await guarded.sql.execute("UPDATE shop.goods SET pn = 'new-' || pn, quantity = 0")
    assert await deliver(guarded) == {}
    assert len(await held(guarded)) == 20


async def test_what_was_marked_without_looking_is_held_when_the_listing_is_read(place: Place) -> None:
    listing = LISTING.replace("quantity", "quantity / (SELECT works FROM erp.listing) AS quantity")
    sql = await place.connect()
    await sql.execute("CREATE TABLE erp.listing AS SELECT 1::numeric AS works")
    async with opened(place, listing, guard=RULE) as guarded:
        await guarded.take()
        await fill(guarded, 20)
        await sql.execute("UPDATE erp.listing SET works = 0")
        await zero(guarded, "sku <> 'S20'")
        await guarded.sells("S20", 3, ("P20", "b"))
        assert (await guarded.drain(AT_ONCE)).failed
        await sql.execute("UPDATE erp.listing SET works = 1")
        await guarded.pass_time(10)
        claim = await guarded.claim()
        assert await send(guarded, claim.attempts) == {"S20": 3}
        assert set(claim.put_off) == skus(1, 19)
        # The next comparison counts them.
        assert (await guarded.resync(AT_ONCE)).marked.held == 19
        await guarded.pass_time(10)
        assert (await guarded.claim()).looked_at == 0


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
    assert (await guarded.ledger.next_due(0)).change is None
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


async def test_a_claim_that_was_faster_is_not_waited_for_and_comes_back_held(guarded: Shop) -> None:
    await fill(guarded, 20)
    await zero(guarded, "sku = 'S1'")
    await guarded.drain(AT_ONCE)
    attempt = await guarded.claim_one()
    await zero(guarded)
    assert (await guarded.drain(AT_ONCE)).marked.held == 19
    await guarded.complete(attempt, "not_sent")
    claim = await guarded.claim()
    assert (claim.attempts, claim.held) == ([], ["S1"])
    assert await held(guarded) == skus(1, 20)


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
    assert (await guarded.claim()).looked_at == 0
    await blocker.execute("ROLLBACK")
    assert (await marking).marked.held == 20
    assert (await guarded.claim()).looked_at == 0


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
        await again.ledger.recover(again.owner, [], SETTLE)
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
    assert (released.zeroes, released.by) == (20, "command")
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
    assert await guard.let_go(CHANNEL) == 20
    assert len(await deliver(guarded)) == 20


async def test_numbers_that_come_back_let_the_few_others_go(guarded: Shop) -> None:
    guard = Guard(guarded.database)
    await fill(guarded, 20)
    await zero(guarded)
    await deliver(guarded)
    assert await guard.recover(CHANNEL, RULE, 20) == 20
    question = await guard.ask(CHANNEL, "a command")
    assert question is not None
    assert await guard.ask(CHANNEL, "a command") is None, "once"
    assert question.data["zeroes"] == 20
    assert question.data["share"] == 1.0
    assert question.data["examples"][0] == {"sku": "S1", "was": 7}
    await guarded.sql.execute("UPDATE shop.goods SET quantity = 7 WHERE substr(sku, 2)::int > 4")
    assert await deliver(guarded) == {}
    assert await guard.recover(CHANNEL, RULE, 20) == 4, "only when it stands still"
    released = await guard.recover(CHANNEL, RULE, 4)
    assert isinstance(released, Released)
    assert (released.zeroes, released.by) == (4, "recovery")
    await guard.let_go(CHANNEL)
    assert await deliver(guarded) == dict.fromkeys(skus(1, 4), 0)
    kinds = [row["kind"] for row in await guarded.sql.fetch("SELECT kind FROM stockrelay.notice ORDER BY id")]
    assert kinds == ["guard_question", "guard_released"]
    news = await guard.take_news(CHANNEL)
    assert news is not None
    assert news.by == "recovery"
    assert await guard.take_news(CHANNEL) is None


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
    await guard.let_go(CHANNEL)
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
    assert released.zeroes == 20


async def test_a_single_zero_looks_at_a_few_pages_however_many_skus_there_are(guarded: Shop) -> None:
    await forget_statistics(guarded.sql, "stockrelay.ledger", "stockrelay.fall")
    await fill(guarded, 100_000)
    await guarded.sql.execute(
        "INSERT INTO stockrelay.fall SELECT $1, 'old-' || i, clock_timestamp() - interval '1 h', false "
        "FROM generate_series(1, 50000) AS i",
        CHANNEL,
    )
    await Guard(guarded.database).tidy(CHANNEL, timedelta(hours=2))
    arguments = (CHANNEL, RULE.zero_share, RULE.zero_count, RULE.row_share, RULE.window, False)
    for number in range(1, 40):
        await zero(guarded, f"sku = 'S{number}'")
    await guarded.drain(AT_ONCE)
    for statistics in ("SELECT 1", "ANALYZE stockrelay.ledger, stockrelay.fall, stockrelay.guard"):
        await guarded.sql.execute(statistics)
        # Once before: the function's plans are made, and the catalogue is read.
        await guarded.sql.fetchval(_SQL["hold_zeroes"], *arguments)
        _, looked_at = await explained(guarded.sql, _SQL["hold_zeroes"], *arguments)
        assert looked_at < 150, statistics
        plan, looked_at = await explained(
            guarded.sql,
            "SELECT count(*) FROM stockrelay.fall AS f WHERE f.channel = $1 AND f.at > $2::timestamptz",
            CHANNEL,
            datetime.now(UTC) - WINDOW,
        )
        assert "fall_at" in plan
        assert looked_at < 60, statistics
    assert await held(guarded) == set()
