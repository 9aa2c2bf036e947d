"""Two roles with the least they need: the owner migrates, the daemon does all the rest (docs/database-roles.md)."""

import asyncio
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import asyncpg
import pytest

from daemon.core.errors import StoreRefused
from daemon.core.guard import GuardRule
from daemon.core.notice import Notice
from daemon.core.outcome import Kind, Outcome
from daemon.core.proof import ReadPage, ReadSku
from daemon.core.reconcile import seen
from daemon.core.story import Rhythm
from daemon.core.types import SEKORM, Sku
from daemon.store.answers import Answers, Kept
from daemon.store.control import Pauses
from daemon.store.guard import Guard
from daemon.store.inspect import inspecting
from daemon.store.listing import ChannelListing
from daemon.store.migrate import check_version, migrate
from daemon.store.outbox import Outbox, Told
from daemon.store.parked import Parked
from daemon.store.proof import Proofs
from daemon.store.reconcile import Chunk, Reconciles
from daemon.store.tokens import Tokens
from tests.store.place import Place, logged
from tests.store.shop import CHANNEL, LANE, LEASE, LISTING, SETTLE, Shop, opened

ROLES = Path(__file__).parents[2] / "deploy" / "roles.sql"
WATCHES = [("shop.goods", "sku"), ("shop.parts", "sku")]
HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Cast:
    """The roles of one database."""

    place: Place
    owner: str
    daemon: str
    erp: str
    clerk: str

    def grant(self, *, is_member: bool) -> str:
        """Run the script; return what it says."""
        settings = {
            "owner": self.owner,
            "daemon": self.daemon,
            "schemas": "shop",
            "watched": "shop.goods, shop.parts, shop.parts_1",
            "listed": "shop.goods",
        } | ({"table_owner": self.erp} if is_member else {})
        lines = [f"\\set {name} '{value}'" for name, value in settings.items()]
        return self.place.server.run_sql("\n".join([*lines, ROLES.read_text("utf-8")]), self.place.name)


@pytest.fixture
def cast(empty: Place) -> Cast:
    """An ERP with an owner and a clerk; none of them, nor of ours, is a superuser."""
    cast = Cast(empty, *(f"{empty.name}_{role}" for role in ("Owner", "daemon", "erp", "clerk")))
    empty.server.run_sql(
        f"""
        CREATE ROLE "{cast.erp}" LOGIN; CREATE ROLE "{cast.clerk}" LOGIN;
        CREATE TABLE shop.parts (sku text) PARTITION BY LIST (sku);
        CREATE TABLE shop.parts_1 PARTITION OF shop.parts DEFAULT;
        ALTER SCHEMA shop OWNER TO "{cast.erp}"; ALTER TABLE shop.goods OWNER TO "{cast.erp}";
        ALTER TABLE shop.parts OWNER TO "{cast.erp}"; ALTER TABLE shop.parts_1 OWNER TO "{cast.erp}";
        GRANT USAGE ON SCHEMA shop TO "{cast.clerk}";
        GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON shop.goods, shop.parts TO "{cast.clerk}";
        REVOKE ALL ON SCHEMA public FROM PUBLIC;
        """,
        empty.name,
    )
    return cast


async def ready(cast: Cast, *, is_member: bool = True) -> list[str]:
    """Run the script, migrate as the owner, run the script again."""
    assert "stockrelay migrate" in cast.grant(is_member=is_member)
    lines = await migrate(cast.place.options(cast.owner), WATCHES, has_doorbell=True)
    assert "have their rights" in cast.grant(is_member=is_member)
    return lines


async def test_the_daemon_does_all_its_work_with_its_rights(cast: Cast) -> None:
    assert not any("replicated" in line for line in await ready(cast))
    await check_version(cast.place.options(cast.daemon))
    async with inspecting(cast.place.options(cast.daemon), timedelta(seconds=10)) as inspector:
        assert await inspector.missing_rights() == ([], [])
        assert await inspector.faulty_bells() == []
    async with opened(cast.place, role=cast.daemon) as shop:
        await sync(shop)
        await work(shop)
        await Guard(shop.database).tidy(CHANNEL, HOUR)
        tokens = Tokens(shop.database, SEKORM, None)
        assert await tokens.begin_refresh(0, HOUR)
        await tokens.fail_refresh(timedelta(0))
        await tokens.save("secret", HOUR)
        assert await tokens.load() is not None
        await tokens.invalidate(1)
        await tell(Outbox(shop.database))
        await reconcile(shop)
    async with opened(cast.place, role=cast.daemon, guard=GuardRule(0.1, 1, 0.5, HOUR)) as shop:
        await guard(shop)


async def reconcile(shop: Shop) -> None:
    """A night: planned, carried out in every way, ended, looked at, forgotten."""
    runs = Reconciles(shop.database)
    proofs = Proofs(shop.database, ChannelListing(CHANNEL, LISTING, ("pn_code", "brand_name")))
    day, now = date(2026, 3, 7), (await runs.owed(CHANNEL)).now
    window = (now - HOUR, now + HOUR)
    await runs.plan(CHANNEL, [day], supersedes=True)
    assert len(await runs.open_days(CHANNEL)) == 1
    run = await runs.take(CHANNEL, "one", HOUR)
    assert run is not None
    assert await runs.renew(run, HOUR)
    await runs.set_method(run, HOUR, "compare")
    await proofs.day_count(window)
    await proofs.rows(await proofs.day_skus(window, "", 9), HOUR)
    await proofs.pending(HOUR)
    await runs.note_chunk(run, HOUR, Chunk(2, 1, "A", "B", 2, "unnamed"), differing={"A": 1}, agreed=["B"])
    await runs.differing_chunks(run)
    await runs.unnamed_chunks(run)
    await runs.set_total(run, HOUR, 1, is_shifted=False)
    page = ReadPage(1, 1, (ReadSku("Z", 1, "P"),))
    await proofs.keep_page(runs, run, HOUR, 1, 1, page, timedelta(0))
    await proofs.held(run, 1)
    await proofs.drop_pages_after(run, 1)
    await proofs.judge(runs, run, HOUR, 1, HOUR, is_complete=True)
    await proofs.suspect_pages(run)
    await proofs.has_news_of_absence(run)
    await proofs.judge(runs, run, HOUR, 2, HOUR, is_complete=True)
    for found in await runs.next_findings(run, ("", ""), 9):
        life = seen(found.life, found.kind, found.now, heal=True, contested_after=3)
        await runs.keep(run, HOUR, [(found, life)], 10.0)
    await runs.reassert(run, HOUR, ["B"], 10.0)
    await runs.age(run, HOUR, HOUR)
    await runs.turns(run, 9)
    await runs.counts(run)
    await runs.set_stage(run, HOUR, 2, (1, 0, 0), None)
    await runs.postpone(run, timedelta(0), "why")
    run = await runs.take(CHANNEL, "one", HOUR)
    assert run is not None
    await runs.finish(run, why=None, report={}, notice=Notice("any", "night", SEKORM))
    assert await runs.last(CHANNEL) is not None
    dry = await runs.begin_by_hand(CHANNEL, day, "one", HOUR, is_dry=True)
    await proofs.forget_looks(runs, dry, HOUR)
    await runs.release(dry)
    await runs.drop(dry)
    await shop.sql.execute("UPDATE stockrelay.reconcile_run SET ended_at = ended_at - interval '1 year'")
    await runs.tidy(CHANNEL)
    assert await runs.last(CHANNEL) is None


async def tell(outbox: Outbox) -> None:
    """Everything that is done with notices."""
    await outbox.tell_troubles([SEKORM], timedelta(0))
    await outbox.tell_parked(SEKORM, timedelta(0), HOUR)
    await outbox.post(Notice("any", "key", SEKORM))
    taken = await outbox.take(HOUR, timedelta(0), 9, ())
    told = Told(
        (), None, is_all=False, is_any=False, pauses=[HOUR] * len(taken), are_over=[False] * len(taken)
    )
    assert await outbox.finish(taken, told)
    await outbox.hurry("any")
    await outbox.standing()
    await outbox.leave_untold()
    await outbox.forget(timedelta(0))


async def guard(shop: Shop) -> None:
    """Hold, ask, look, let go."""
    await shop.take()
    for sku in "CDE":
        await shop.deliver(sku, 5)
    for sku in "CD":
        await shop.sells(sku, 4)
    await shop.drain()
    await shop.pass_time(3)
    await shop.sql.execute("UPDATE shop.goods SET quantity = 0 WHERE sku >= 'C'")
    assert len((await shop.claim()).put_off) == 2
    await shop.drain()
    assert (await shop.claim()).attempts == []
    guard = Guard(shop.database)
    assert (await guard.state(CHANNEL)).held == 3
    assert await guard.ask(CHANNEL, "x") is not None
    assert await guard.recover(CHANNEL, GuardRule(0.1, 1, 0.5, HOUR), 3) == 3
    assert await guard.release(CHANNEL, HOUR) is not None
    assert await guard.take_news(CHANNEL) is not None
    assert len((await shop.claim()).attempts) == 3


async def sync(shop: Shop) -> None:
    """A sync from its beginning to its end."""
    await shop.take()
    await shop.sells("S", 5)
    run, _ = await shop.sync()
    for attempt in (await shop.claim_turn()).attempts:
        await shop.complete(attempt, "applied")
    assert not await shop.ledger.is_backlog_above(10)
    await shop.syncs.progress(run)
    assert await shop.ledger.end_sync() == (run.number, False)
    await shop.syncs.summary(run)
    await shop.syncs.before()
    await shop.sql.execute("DELETE FROM stockrelay.ledger; DELETE FROM shop.goods")


async def work(shop: Shop) -> None:
    """Everything a daemon does."""
    await shop.intake.check_identity()
    await shop.take()
    await shop.deliver("A", 5)
    await shop.sells("A", 4)
    await shop.drain()
    await shop.pass_time(3)
    await shop.complete(await shop.claim_one(), "unknown")
    await shop.claim_one()
    assert await shop.ledger.recover(shop.owner, [], SETTLE) == 1
    await shop.delists("A")
    await shop.sells("B", 1, ("", "b"))
    await shop.resync()
    await shop.pass_time(61)
    claim = await shop.claim()
    await shop.complete(claim.attempts[0], "applied")
    assert (await shop.claim()).forgotten == ["A"]
    assert (await shop.ledger.backlog()).parked == 1
    assert (await shop.ledger.next_due()).change is None
    await shop.intake.stay_awake(timedelta(seconds=3))
    await shop.intake.stay_awake(timedelta(0))
    assert await shop.intake.rotate(timedelta(0)) == "switched"
    assert await shop.intake.rotate(timedelta(0)) == "emptied"
    tomorrow = "SELECT 'attempt_' || to_char((clock_timestamp() AT TIME ZONE 'UTC')::date + 1, 'YYYYMMDD')"
    await shop.sql.execute(f"DROP TABLE stockrelay.{await shop.sql.fetchval(tomorrow)}")
    await shop.intake.roll_attempts(timedelta(days=30))
    await shop.intake.state()
    await shop.intake.adopt(10)
    assert await shop.lanes.renew(shop.owner, LEASE)
    await shop.lanes.set_trouble(CHANNEL, Outcome(Kind.TROUBLE, "why"))
    await shop.lanes.troubles()
    await ask(shop)
    pauses = Pauses(shop.database)
    await pauses.pause(CHANNEL, "somebody", "why")
    await pauses.pause(CHANNEL, "another", "because")
    assert await pauses.all()
    assert (await shop.ledger.next_due()).change is None
    await pauses.resume(CHANNEL)
    await shop.lanes.give_up(shop.owner)
    assert [state.lane for state in await shop.lanes.all()] == [LANE]


async def ask(shop: Shop) -> None:
    """What an operator asks, and what he does with parked SKUs."""
    answers = Answers(shop.database)
    listing = ChannelListing(CHANNEL, LISTING, ("pn_code", "brand_name"))
    rhythm = Rhythm(timedelta(seconds=10), timedelta(seconds=5), SETTLE)
    facts = await answers.facts(listing, Sku("B"), Kept(rhythm, HOUR), 5)
    assert (facts.listing_problem, facts.row is None) == (None, False)
    assert await answers.candidates(listing, "b")
    assert await answers.sold_as(listing, "nobody") == []
    assert await answers.attempts([CHANNEL], sku=None, since=None, outcomes=(), limit=5)
    await answers.standing(CHANNEL)
    parked = Parked(shop.database, CHANNEL)
    assert await parked.all(5, with_discarded=True)
    assert await parked.discard([Sku("B")]) == ["B"]
    assert await parked.count() == (1, 1)
    assert await parked.retry(None, 10) == ["B"]
    assert (await shop.claim()).parked


async def test_the_erps_roles_write_and_see_nothing_of_ours(cast: Cast) -> None:
    await ready(cast)
    sql = await cast.place.connect()
    clerk = await cast.place.connect(cast.clerk)
    await clerk.execute("INSERT INTO shop.goods VALUES ('A'); UPDATE shop.goods SET note = 'x'")
    await clerk.execute("INSERT INTO shop.parts VALUES ('P'); DELETE FROM shop.goods")
    assert await logged(sql) == ["A", "A", "A", "P"]
    for statement in (
        "SELECT * FROM stockrelay.ledger",
        "SELECT * FROM stockrelay.change",
        "SELECT * FROM stockrelay.token",
        "INSERT INTO stockrelay.change_0 VALUES (NULL)",
        "SELECT stockrelay.rotate('0')",
        "SELECT stockrelay.identity()",
        "CREATE TABLE stockrelay.mine ()",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await clerk.execute(statement)


async def test_the_daemon_may_do_no_more_than_its_work(cast: Cast) -> None:
    await ready(cast)
    daemon = await cast.place.connect(cast.daemon)
    function = await daemon.fetchval("SELECT proname FROM pg_proc WHERE proname ~ '^capture_[0-9]' LIMIT 1")
    for statement in (
        "UPDATE shop.goods SET quantity = 0",
        "INSERT INTO shop.goods VALUES ('A')",
        "DELETE FROM shop.goods",
        "SELECT * FROM shop.parts",
        "INSERT INTO stockrelay.change_0 VALUES (NULL)",
        "TRUNCATE stockrelay.change_0",
        "SELECT stockrelay.set_doorbell(false)",
        "UPDATE stockrelay.attempt SET reason = 'x'",
        "DELETE FROM stockrelay.attempt",
        "DELETE FROM stockrelay.intake",
        "UPDATE stockrelay.alembic_version SET version_num = 'x'",
        "SELECT stockrelay.set_watches('[]')",
        "CREATE TABLE stockrelay.mine ()",
        f"CREATE TEMP TABLE t (); CREATE TRIGGER t AFTER INSERT ON t EXECUTE FUNCTION stockrelay.{function}()",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await daemon.execute(statement)


async def test_with_the_trigger_right_alone_it_works_but_for_replicated_sessions(cast: Cast) -> None:
    lines = await ready(cast, is_member=False)
    assert len([line for line in lines if "not in replicated sessions" in line]) == 2
    sql = await cast.place.connect()
    clerk = await cast.place.connect(cast.clerk)
    await clerk.execute("INSERT INTO shop.goods VALUES ('A')")
    assert await logged(sql) == ["A"]
    await migrate(cast.place.options(cast.owner), WATCHES, has_doorbell=True)
    with pytest.raises(StoreRefused, match="Run as the owner of the table: DROP TRIGGER stockrelay_"):
        await migrate(cast.place.options(cast.owner), WATCHES[:1], has_doorbell=True)
    await clerk.execute("INSERT INTO shop.parts VALUES ('P')")
    assert await logged(sql) == ["P"], "nothing was changed"


async def test_an_owner_that_may_not_read_a_watched_table_is_told(cast: Cast) -> None:
    cast.grant(is_member=False)
    sql = await cast.place.connect()
    await sql.execute(f'REVOKE SELECT ON shop.parts FROM "{cast.owner}"')
    with pytest.raises(StoreRefused, match="permission denied for table parts"):
        await migrate(cast.place.options(cast.owner), WATCHES, has_doorbell=True)


async def test_a_daemon_without_rights_is_told_which(cast: Cast) -> None:
    await migrate_by_dba(cast)
    async with inspecting(cast.place.options(cast.daemon), timedelta(seconds=10)) as inspector:
        assert await inspector.is_schema_open() is False
    sql = await cast.place.connect()
    await sql.execute(f'GRANT USAGE ON SCHEMA stockrelay TO "{cast.daemon}"')
    async with inspecting(cast.place.options(cast.daemon), timedelta(seconds=10)) as inspector:
        grants, missing = await inspector.missing_rights()
    assert missing == []
    await sql.execute("".join(grants))
    async with opened(cast.place, role=cast.daemon) as shop:
        await sql.execute(
            f'GRANT USAGE ON SCHEMA shop TO "{cast.daemon}"; GRANT SELECT ON shop.goods TO "{cast.daemon}"'
        )
        await work(shop)


async def migrate_by_dba(cast: Cast) -> None:
    """The schema belongs to a superuser, and the daemon's role has nothing."""
    sql = await cast.place.connect()
    await sql.execute(f'CREATE ROLE "{cast.daemon}" LOGIN; CREATE ROLE "{cast.owner}" LOGIN')
    await asyncio.wait_for(migrate(cast.place.options(), WATCHES, has_doorbell=True), 20)
