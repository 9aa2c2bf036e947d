"""Reconcile runs in the database: who has one, what changed on a day, what numbers read back are worth, histories."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Final

import pytest

from daemon.core.errors import LeaseLost
from daemon.core.readback import ReadPage, ReadSku
from daemon.core.reconcile import Difference, DifferenceStatus, Seen, seen
from daemon.store.answers import Answers
from daemon.store.comparing import ComparedNumbers, Judged
from daemon.store.database import Database
from daemon.store.listing import ChannelListing
from daemon.store.reconcile import Reconciles
from daemon.store.reconcile_rows import Chunk, FoundDifference, ReconcileRun
from tests.channels import YMATOU
from tests.store.place import Connection, Place
from tests.store.shop import CHANNEL, LISTING, Shop

LEASE: Final = timedelta(seconds=20)
NOTHING: Final = timedelta(0)
DAY: Final = date(2026, 3, 7)
NOON: Final = datetime(2026, 3, 7, 12, tzinfo=UTC)
READ_LISTING: Final = "SELECT sku, pn AS outer_sku_id, quantity FROM shop.goods"


class Night:
    """Runs of one channel, in one session beside the store's own."""

    def __init__(self, database: Database, sql: Connection) -> None:
        self.database = database
        self.runs = Reconciles(database)
        self.sql = sql
        self.comparisons = ComparedNumbers(
            database, ChannelListing(CHANNEL, LISTING, ("pn_code", "brand_name"))
        )
        self.reading = ComparedNumbers(database, ChannelListing(YMATOU, READ_LISTING, ("outer_sku_id",)))

    async def begun(self, *, is_reading: bool = False) -> ReconcileRun:
        channel = YMATOU if is_reading else CHANNEL
        return await self.runs.begin_by_hand(channel, DAY, "one", LEASE, is_dry=False)

    async def holds(self, *skus: str, quantity: int = 5, acked: str = "1 hour") -> None:
        """The listing says so, and so does the ledger, since `acked` ago."""
        for sku in skus:
            await self.sql.execute(
                "INSERT INTO shop.goods (sku, pn, quantity) VALUES ($1, $1, $2)", sku, quantity
            )
            await self.sql.execute(
                "INSERT INTO stockrelay.ledger (channel, sku, want_seq, listed_rows, acked_seq, acked_quantity, "
                "acked_at, identifiers) "
                "VALUES ($1, $2, 1, 1, 1, $3, clock_timestamp() - $4::text::interval, ARRAY[$2])",
                YMATOU,
                sku,
                quantity,
                acked,
            )

    async def reads(self, run: ReconcileRun, number: int, *skus: ReadSku, look: int = 1) -> None:
        page = ReadPage(100, len({sku.product_id for sku in skus}), skus)
        await self.reading.keep_page(run, look, number, page, NOTHING)

    async def judges(self, run: ReconcileRun, look: int = 1, *, is_complete: bool = True) -> Judged:
        return await self.reading.judge(run, look, NOTHING, is_complete=is_complete)

    async def found(self, run: ReconcileRun, look: int = 1) -> set[tuple[str, str, bool]]:
        rows = await self.sql.fetch(
            "SELECT class, sku, differs FROM stockrelay.reconcile_finding WHERE run_id = $1 AND look = $2",
            run.run_id,
            look,
        )
        return {(row["class"], row["sku"], row["differs"]) for row in rows}

    async def knows(self, kind: Difference, sku: str) -> None:
        """That difference is open already."""
        await self.sql.execute(
            "INSERT INTO stockrelay.difference VALUES "
            "($1, $2, $3, 'open', 1, 2, clock_timestamp(), clock_timestamp(), 1, 1, 0, 'opened')",
            YMATOU,
            kind,
            sku,
        )

    async def attempted(self, sku: str, at: datetime, since: datetime | None) -> None:
        """The attempt log has such a line."""
        await self.sql.execute(
            "INSERT INTO stockrelay.attempt "
            "(at, attempt_id, channel, sku, quantity, seq, epoch, outcome, reason, since) "
            "VALUES ($1, nextval('stockrelay.attempt_id'), $2, $3, 1, 1, 1, 'applied', '', $4)",
            at,
            CHANNEL,
            sku,
            since,
        )


def sku(name: str, quantity: int | None = 5, product: str | None = None, *, is_used: bool = True) -> ReadSku:
    return ReadSku(name, quantity, product or f"P-{name}", is_used)


@pytest.fixture
async def night(place: Place) -> AsyncIterator[Night]:
    database = Database(place.options(), 4)
    await database.open()
    try:
        yield Night(database, await place.connect())
    finally:
        await database.close()


# Who has a run


async def test_a_day_has_one_run_and_one_of_many_takes_it(night: Night) -> None:
    days = [DAY, DAY + timedelta(days=1)]
    planned = await asyncio.gather(*(night.runs.plan(CHANNEL, days, supersedes=False) for _ in range(4)))
    assert sorted(day for found in planned for day in found) == days
    taken = await asyncio.gather(*(night.runs.take(CHANNEL, f"replica {n}", LEASE) for n in range(4)))
    assert [run.day for run in taken if run is not None] == [DAY]


async def test_days_are_done_in_order_and_one_that_is_put_off_holds_up_the_next(night: Night) -> None:
    await night.runs.plan(CHANNEL, [DAY + timedelta(days=1), DAY], supersedes=False)
    first = await night.runs.take(CHANNEL, "one", LEASE)
    assert first is not None
    await night.runs.postpone(first, timedelta(hours=1), "no answer")
    assert await night.runs.take(CHANNEL, "one", LEASE) is None
    await night.sql.execute(
        "UPDATE stockrelay.reconcile_run SET retry_at = clock_timestamp() WHERE retry_at IS NOT NULL"
    )
    again = await night.runs.take(CHANNEL, "two", LEASE)
    assert again is not None
    assert (again.run_id, again.tries, again.day) == (first.run_id, 1, DAY)
    await night.runs.finish(again, why=None, report={}, notice=None)
    second = await night.runs.take(CHANNEL, "two", LEASE)
    assert second is not None
    assert second.day == DAY + timedelta(days=1)


async def test_a_newer_read_back_stands_for_older_ones_that_nobody_carries_out(night: Night) -> None:
    await night.runs.plan(YMATOU, [DAY], supersedes=True)
    old = await night.runs.take(YMATOU, "one", LEASE)
    assert old is not None
    await night.reads(old, 1, sku("A"))
    await night.runs.release(old)
    await night.runs.plan(YMATOU, [DAY + timedelta(days=3)], supersedes=True)
    assert (await night.reading.count_read(old, 1)).numbers == 0
    run = await night.runs.take(YMATOU, "one", LEASE)
    assert run is not None
    assert run.day == DAY + timedelta(days=3)
    assert (
        await night.sql.fetchval("SELECT state FROM stockrelay.reconcile_run WHERE day = $1", DAY)
        == "superseded"
    )


async def test_who_has_lost_a_run_writes_nothing_more(night: Night) -> None:
    await night.runs.plan(CHANNEL, [DAY], supersedes=False)
    lost = await night.runs.take(CHANNEL, "one", NOTHING)
    assert lost is not None
    new = await night.runs.take(CHANNEL, "two", LEASE)
    assert new is not None
    chunk = Chunk(1, 1, "A", "B", 2, "agreed")
    with pytest.raises(LeaseLost):
        await night.runs.note_chunk(lost, chunk)
    with pytest.raises(LeaseLost):
        await night.runs.finish(lost, why=None, report={}, notice=None)
    assert not await night.runs.renew(lost)
    assert (await night.runs.progress(new, 1)).chunk == 0
    await night.runs.note_chunk(new, chunk)
    assert (await night.runs.progress(new, 1)).last_sku == "B"


async def test_a_run_by_hand_that_was_killed_is_gone_on_with_and_one_that_runs_is_not(night: Night) -> None:
    first = await night.begun()
    beside = await night.runs.begin_by_hand(CHANNEL, DAY, "two", LEASE, is_dry=False)
    assert beside.run_id != first.run_id
    await night.runs.release(first)
    assert (await night.runs.begin_by_hand(CHANNEL, DAY, "three", LEASE, is_dry=False)).run_id == first.run_id
    await night.sql.execute("UPDATE stockrelay.reconcile_run SET until = '-infinity'")
    dry = await night.runs.begin_by_hand(CHANNEL, DAY, "four", LEASE, is_dry=True)
    assert dry.run_id not in (first.run_id, beside.run_id)
    await night.runs.drop(dry)
    assert await night.sql.fetchval("SELECT count(*) FROM stockrelay.reconcile_run") == 2


async def test_the_state_of_a_channel_has_its_last_run(night: Night) -> None:
    answers = Answers(night.database)
    assert (await answers.channel_state(CHANNEL)).reconciled is None
    run = await night.begun()
    await night.runs.finish(run, why="because", report={"checked": 3}, notice=None)
    state = await answers.channel_state(CHANNEL)
    assert state.reconciled is not None
    assert (state.reconciled.day, state.reconciled.state, state.open_differences) == (DAY, "incomplete", 0)


# What changed on a day


async def day_skus(night: Night, day: date = DAY, limit: int = 100) -> list[str]:
    begin = datetime(day.year, day.month, day.day, tzinfo=UTC)
    window = (begin, begin + timedelta(days=1))
    found: list[str] = []
    while skus := await night.comparisons.day_skus(window, found[-1] if found else "", limit):
        found += skus
    assert await night.comparisons.day_count(window) == len(found)
    return found


async def test_a_change_on_both_sides_of_midnight_belongs_to_both_days(night: Night) -> None:
    midnight = datetime(2026, 3, 8, tzinfo=UTC)
    second = timedelta(seconds=1)
    await night.attempted("early", midnight - 2 * second, midnight - 3 * second)
    await night.attempted("across", midnight + second, midnight - second)
    await night.attempted("late", midnight + 2 * second, midnight + second)
    assert await day_skus(night) == ["across", "early"]
    assert await day_skus(night, DAY + timedelta(days=1)) == ["across", "late"]
    assert await day_skus(night, DAY - timedelta(days=1)) == []


async def test_what_could_not_be_told_for_days_belongs_to_each_of_them(night: Night) -> None:
    await night.attempted("A", NOON + timedelta(days=2), NOON)
    for n in range(3):
        assert await day_skus(night, DAY + timedelta(days=n)) == ["A"]


async def test_what_is_not_told_yet_and_what_is_open_is_asked_about_too_in_pages(night: Night) -> None:
    for n in range(7):
        await night.attempted(f"S{n}", NOON, NOON)
        await night.attempted(f"S{n}", NOON + timedelta(hours=1), NOON)
    await night.sql.execute(
        "INSERT INTO stockrelay.ledger (channel, sku, want_seq, listed_rows, unacked_since) VALUES ($1, 'T', 1, 1, $2)",
        CHANNEL,
        NOON - timedelta(days=3),
    )
    await night.sql.execute(
        "INSERT INTO stockrelay.difference VALUES "
        "($1, 'marketplace_differs', 'U', 'open', 1, 2, $2, $2, 1, 1, 0, 'opened')",
        CHANNEL,
        NOON,
    )
    assert await day_skus(night, limit=2) == [*(f"S{n}" for n in range(7)), "T", "U"]


async def test_an_attempt_keeps_since_when_its_change_waited(shop: Shop) -> None:
    await shop.sells("A", 5)
    await shop.drain()
    await shop.pass_time(100)
    waited = (await shop.row("A"))["unacked_since"]
    await shop.complete(await shop.claim_one(), "applied")
    assert (await shop.attempts())[0]["since"] == waited


async def test_only_what_the_ledger_vouches_for_is_settled(shop: Shop) -> None:
    comparisons = ComparedNumbers(shop.database, ChannelListing(CHANNEL, LISTING, ("pn_code", "brand_name")))
    await shop.deliver("A", 5)
    await shop.deliver("B", 5)
    await shop.sells("C", 1)
    await shop.sells("B", 6)
    rows = {str(row.sku): row for row in await comparisons.rows(["A", "B", "C", "gone"], NOTHING)}
    assert [name for name, row in rows.items() if row.is_settled] == ["A"]
    assert [name for name, row in rows.items() if not row.is_listed] == ["gone"]
    assert rows["A"].identifiers == ("PN-A", "brand")
    assert [row.is_settled for row in await comparisons.rows(["A"], timedelta(hours=1))] == [False], (
        "told a moment ago"
    )


# Numbers read back


async def test_differences_are_told_apart(night: Night) -> None:
    await night.holds("same", "other", "absent", "twice")
    run = await night.begun(is_reading=True)
    stranger = sku("stranger", 3)
    off = [sku("sold out", 0), sku("switched off", 3, is_used=False), ReadSku(None, 9, "P-null")]
    await night.reads(
        run, 1, sku("same"), sku("other", 6), sku("twice"), sku("twice", 5, "P-2"), stranger, *off
    )
    judged = await night.judges(run)
    assert await night.found(run) == {
        ("marketplace_differs", "other", True),
        ("unknown_at_marketplace", "absent", True),
        ("duplicated_id", "twice", True),
        ("missing_in_listing", "stranger", True),
    }
    assert (judged.checked, judged.unsettled, judged.parked, judged.differing) == (4, 0, 0, 4)


async def test_what_was_not_read_is_not_missing(night: Night) -> None:
    await night.holds("read", "differs", "absent")
    run = await night.begun(is_reading=True)
    await night.reads(run, 1, sku("read"), sku("differs", 9))
    judged = await night.judges(run, is_complete=False)
    assert await night.found(run) == {("marketplace_differs", "differs", True)}
    assert judged.checked == 2


async def test_what_is_pending_parked_or_was_told_after_its_page_was_read_is_not_judged(night: Night) -> None:
    await night.holds("pending", "doubted", "parked", "moved on")
    await night.sql.execute(
        "UPDATE stockrelay.ledger SET want_seq = 2, due_at = clock_timestamp() WHERE sku = 'pending'"
    )
    await night.sql.execute(
        "UPDATE stockrelay.ledger SET doubt_at = clock_timestamp(), doubt_until = clock_timestamp() "
        "WHERE sku = 'doubted'"
    )
    await night.sql.execute("UPDATE stockrelay.ledger SET parked_at = clock_timestamp() WHERE sku = 'parked'")
    run = await night.begun(is_reading=True)
    names = ("pending", "doubted", "parked", "moved on", "late")
    await night.reads(run, 1, *(sku(name, 9) for name in names))
    await night.sql.execute("UPDATE shop.goods SET quantity = 6 WHERE sku = 'moved on'")
    await night.holds("late", acked="0 seconds")
    judged = await night.judges(run)
    assert await night.found(run) == set()
    assert (judged.checked, judged.unsettled, judged.parked) == (0, 4, 1)


async def test_a_product_that_moves_between_pages_is_no_duplicate(night: Night) -> None:
    await night.holds("A", "B")
    run = await night.begun(is_reading=True)
    await night.reads(run, 1, sku("A"), sku("B"))
    await night.reads(run, 2, sku("A"), sku("B", 6))
    judged = await night.judges(run)
    assert await night.found(run) == set()
    assert judged.checked == 1, "what showed two numbers is not judged"


async def test_only_what_both_looks_show_is_a_difference(night: Night) -> None:
    await night.holds("glitch", "wrong", "new")
    run = await night.begun(is_reading=True)
    await night.reads(run, 1, sku("glitch", 9), sku("wrong", 9), sku("new"))
    await night.judges(run)
    assert await night.reading.suspect_pages(run) == [1]
    await night.reads(run, 1, sku("glitch"), sku("wrong", 8), sku("new", 9), look=2)
    assert await night.reading.suspect_pages(run) == []
    await night.judges(run, 2)
    assert await night.found(run, 2) == {("marketplace_differs", "wrong", True)}


async def test_open_differences_that_agree_are_found_and_others_stay(night: Night) -> None:
    await night.holds("healed", "pending", "here again")
    await night.sql.execute("UPDATE stockrelay.ledger SET due_at = clock_timestamp() WHERE sku = 'pending'")
    for name in ("healed", "pending", "left the listing"):
        await night.knows(Difference.MARKETPLACE_DIFFERS, name)
    await night.knows(Difference.UNKNOWN_AT_MARKETPLACE, "here again")
    await night.knows(Difference.MISSING_IN_LISTING, "stranger")
    await night.knows(Difference.MISSING_IN_LISTING, "withdrawn")
    run = await night.begun(is_reading=True)
    await night.reads(run, 1, sku("healed"), sku("pending", 9), sku("here again"), sku("stranger", 4))
    judged = await night.judges(run)
    assert judged.differing == 1
    assert await night.found(run) == {
        ("marketplace_differs", "healed", False),
        ("marketplace_differs", "left the listing", False),
        ("unknown_at_marketplace", "here again", False),
        ("missing_in_listing", "withdrawn", False),
        ("missing_in_listing", "stranger", True),
    }


async def test_only_news_of_absence_wants_everything_read_again(night: Night) -> None:
    await night.holds("known", "news")
    await night.knows(Difference.UNKNOWN_AT_MARKETPLACE, "known")
    run = await night.begun(is_reading=True)
    await night.reads(run, 1, sku("news"))
    await night.judges(run)
    assert not await night.reading.has_news_of_absence(run)
    await night.reads(run, 1, sku("other", 0))
    await night.judges(run)
    assert await night.reading.has_news_of_absence(run)


async def test_what_a_crash_of_the_server_took_is_noticed(night: Night) -> None:
    run = await night.begun(is_reading=True)
    await night.reads(run, 1, sku("A"), sku("B"))
    assert (await night.reading.count_read(run, 1)).numbers == (await night.runs.progress(run, 1)).asked == 2
    await night.sql.execute("TRUNCATE stockrelay.reconcile_read")
    assert (await night.reading.count_read(run, 1)).numbers == 0
    await night.reading.forget_looks(run)
    assert (await night.runs.progress(run, 1)).chunk == 0


# Lives, and telling again


async def kept(
    night: Night, run: ReconcileRun, findings: Sequence[FoundDifference], *, heal: bool = True
) -> list[Seen]:
    results = [seen(found.history, found.kind, found.now, heal=heal, contested_after=2) for found in findings]
    await night.runs.keep(run, list(zip(findings, results, strict=True)), 10.0)
    return results


async def test_a_difference_is_told_again_through_the_ledger_once_a_run(shop: Shop) -> None:
    runs = Reconciles(shop.database)
    await shop.deliver("A", 5)
    await shop.deliver("B", 0)
    run = await runs.begin_by_hand(CHANNEL, DAY, "one", LEASE, is_dry=False)
    chunk = Chunk(2, 1, "A", "B", 2, "differs")
    await runs.note_chunk(run, chunk, differing={"A": 5, "B": 0})
    findings = await runs.next_findings(run, ("", ""), 10)
    assert [(found.sku, found.ours, found.history) for found in findings] == [("A", 5, None), ("B", 0, None)]
    night = Night(shop.database, shop.sql)
    assert [result.status for result in await kept(night, run, findings)] == [DifferenceStatus.OPENED] * 2
    assert (await runs.counts(run)).healed == 2
    assert await runs.next_findings(run, ("", ""), 10) == [], "a run makes of a difference what it does once"
    claim = await shop.claim()
    assert [(attempt.push.sku, attempt.push.quantity) for attempt in claim.attempts] == [("B", 0)], (
        "zeroes first"
    )
    await shop.pass_time(1)
    again = await shop.claim_one()
    assert (again.push.sku, again.push.quantity) == ("A", 5), "told though it was acknowledged"
    for attempt in (*claim.attempts, again):
        await shop.complete(attempt, "applied")
    assert (await shop.row("A"))["doubt_at"] is None
    counts = await runs.count_by_status(run, 1, 3)
    assert (
        counts[DifferenceStatus.OPENED].many,
        [item["sku"] for item in counts[DifferenceStatus.OPENED].items],
    ) == (2, ["A"])


async def test_what_is_parked_or_in_flight_is_not_told_again(shop: Shop) -> None:
    runs = Reconciles(shop.database)
    await shop.deliver("parked", 5)
    await shop.deliver("flying", 5)
    await shop.sql.execute("UPDATE stockrelay.ledger SET parked_at = clock_timestamp() WHERE sku = 'parked'")
    await shop.sells("flying", 6)
    await shop.drain()
    await shop.pass_time(100)
    await shop.claim_one()
    run = await runs.begin_by_hand(CHANNEL, DAY, "one", LEASE, is_dry=False)
    assert await runs.reassert(run, ["parked", "flying", "never heard of"], 10.0) == 0
    assert all(shop.owner.epochs.values())


async def test_a_number_that_was_never_acknowledged_is_sent_again_with_the_others(shop: Shop) -> None:
    """Its identifiers have changed since it was compared, and nothing is acknowledged under the new ones."""
    runs = Reconciles(shop.database)
    await shop.deliver("A", 5)
    await shop.deliver("B", 5)
    await shop.sql.execute("UPDATE stockrelay.ledger SET acked_quantity = NULL WHERE sku = 'A'")
    run = await runs.begin_by_hand(CHANNEL, DAY, "one", LEASE, is_dry=False)
    assert await runs.reassert(run, ["A", "B"], 10.0) == 2
    assert not (await shop.row("A"))["urgent"]


async def test_differences_that_no_run_sees_any_more_are_aged(night: Night) -> None:
    await night.knows(Difference.MARKETPLACE_DIFFERS, "old")
    await night.knows(Difference.MARKETPLACE_DIFFERS, "new")
    await night.sql.execute(
        "UPDATE stockrelay.difference SET last_seen = last_seen - interval '8 days' WHERE sku = 'old'"
    )
    run = await night.begun(is_reading=True)
    await night.runs.age(run, timedelta(days=7))
    rows = await night.sql.fetch("SELECT sku, state FROM stockrelay.difference ORDER BY sku")
    assert [tuple(row) for row in rows] == [("new", "open"), ("old", "aged")]
