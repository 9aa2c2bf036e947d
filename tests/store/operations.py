"""All that a daemon and an operator do with the database, each once."""

from dataclasses import replace
from datetime import UTC, date, timedelta

from daemon.core.capture import Check
from daemon.core.explain.facts import ExplainSettings
from daemon.core.finding import Finding
from daemon.core.guard import GuardRule
from daemon.core.notice import Notice
from daemon.core.operations import Operator
from daemon.core.outcome import Kind, Outcome
from daemon.core.readback import ReadPage, ReadSku
from daemon.core.reconcile import seen
from daemon.core.types import SLOTS, Sku
from daemon.services.capture_health import catalog_findings
from daemon.store.answers import Answers
from daemon.store.capture_health import CaptureHealthStore
from daemon.store.comparing import ComparedNumbers
from daemon.store.control import Pauses
from daemon.store.exposure import Exposure
from daemon.store.guard import Guard
from daemon.store.history import PageHistory
from daemon.store.listing import ChannelListing
from daemon.store.operations import OperationLog
from daemon.store.outbox import DeliveryReport, Outbox
from daemon.store.parked import Parked
from daemon.store.reconcile import Reconciles
from daemon.store.reconcile_rows import Chunk
from tests.channels import SEKORM
from tests.store.shop import CHANNEL, EVERY_SLOT, LISTING, SETTLE, Shop

HOUR = timedelta(hours=1)


async def watch_capture(shop: Shop) -> None:
    """See that changes are captured, find something wrong, and that it is over."""
    store = CaptureHealthStore(shop.database)
    assert await store.claim_check(timedelta(0))
    assert await store.send_canary() in ("asked", "awake")
    assert not await store.is_reading_late(await store.now(), HOUR)
    assert await catalog_findings(store.capturing) == []
    assert (await store.capturing.bell()).fault is None
    await store.enable_ringing()
    assert not await store.has_touched_triggers()
    wrong = Finding(Check.TABLES, "shop.goods", "it is not there", "look for it")
    assert (await store.keep("", [Check.TABLES], [wrong])).opened
    assert (await store.keep("", [Check.TABLES], [replace(wrong, found="it is somewhere else")])).opened
    assert await store.open()
    assert (await store.keep("", [Check.TABLES], [])).ended
    await store.expire(HOUR)
    await store.checked_at()


async def reconcile(shop: Shop) -> None:
    """A night: planned, carried out in every way, ended, looked at, forgotten."""
    runs = Reconciles(shop.database)
    comparisons = ComparedNumbers(shop.database, ChannelListing(CHANNEL, LISTING, ("pn_code", "brand_name")))
    day, now = date(2026, 3, 7), (await runs.schedule_state(CHANNEL)).now
    window = (now - HOUR, now + HOUR)
    await runs.plan(CHANNEL, [day], supersedes=True)
    assert len(await runs.open_days(CHANNEL)) == 1
    run = await runs.take(CHANNEL, "one", HOUR)
    assert run is not None
    assert await runs.renew(run)
    await runs.set_method(run, "compare")
    await comparisons.day_count(window)
    await comparisons.rows(await comparisons.day_skus(window, "", 9), HOUR)
    await comparisons.count_in_flight_or_recent(HOUR)
    await runs.note_chunk(run, Chunk(2, 1, "A", "B", 2, "unnamed"), differing={"A": 1}, agreed=["B"])
    await runs.differing_chunks(run)
    await runs.unnamed_chunks(run)
    await runs.set_total(run, 1, is_shifted=False)
    page = ReadPage(1, 1, (ReadSku("Z", 1, "P"),))
    await comparisons.keep_page(run, 1, 1, page, timedelta(0))
    await comparisons.count_read(run, 1)
    await comparisons.drop_pages_after(run, 1)
    await comparisons.judge(run, 1, HOUR, is_complete=True)
    await comparisons.suspect_pages(run)
    await comparisons.has_news_of_absence(run)
    await comparisons.judge(run, 2, HOUR, is_complete=True)
    for found in await runs.next_findings(run, ("", ""), 9):
        life = seen(found.history, found.kind, found.now, heal=True, contested_after=3)
        await runs.keep(run, [(found, life)], 10.0)
    await runs.reassert(run, ["B"], 10.0)
    await runs.age(run, HOUR)
    await runs.count_by_status(run, 9, 3)
    await runs.counts(run)
    await runs.set_stage(run, 2, (1, 0, 0), None)
    await runs.postpone(run, timedelta(0), "why")
    run = await runs.take(CHANNEL, "one", HOUR)
    assert run is not None
    await runs.finish(run, why=None, report={}, notice=Notice("any", "night", SEKORM))
    dry = await runs.begin_by_hand(CHANNEL, day, "one", HOUR, is_dry=True)
    await comparisons.forget_looks(dry)
    await runs.release(dry)
    await runs.drop(dry)
    await shop.sql.execute("UPDATE stockrelay.reconcile_run SET ended_at = ended_at - interval '1 year'")
    await runs.tidy(CHANNEL)


async def notify(shop: Shop) -> None:
    """Everything that is done with notices."""
    outbox = Outbox(shop.database)
    await outbox.post_trouble_notices([SEKORM], timedelta(0))
    await outbox.post_parked_notices(SEKORM, timedelta(0), HOUR)
    await outbox.post(Notice("any", "key", SEKORM))
    taken = await outbox.take(HOUR, timedelta(0), 9, ())
    report = DeliveryReport(
        (), None, is_all=False, is_any=False, pauses=[HOUR] * len(taken), are_over=[False] * len(taken)
    )
    assert await outbox.finish(taken, report)
    await outbox.retry_now("any")
    await outbox.backlog()
    await outbox.skip_waiting()
    await outbox.forget(timedelta(0))


async def guard(shop: Shop) -> None:
    """Hold, ask, look, let go."""
    await shop.take()
    await shop.resync()
    for sku in "CDE":
        await shop.deliver(sku, 5)
    for sku in "CD":
        await shop.sells(sku, 4)
    await shop.drain()
    await shop.pass_time(3)
    await shop.sql.execute("UPDATE shop.goods SET quantity = 0 WHERE sku >= 'C'")
    assert len((await shop.claim()).deferred) == 2
    await shop.drain()
    assert (await shop.claim()).attempts == []
    guard = Guard(shop.database)
    assert (await guard.state(CHANNEL)).held == 3
    assert await guard.ask(CHANNEL, "x") is not None
    assert await guard.recover(CHANNEL, GuardRule(0.1, 1, 0.5, HOUR), 3) == 3
    assert await guard.release(CHANNEL, HOUR) is not None
    assert await guard.take_unlogged_release(CHANNEL) is not None
    assert len((await shop.claim()).attempts) == 3


async def sync(shop: Shop) -> None:
    """A sync from its beginning to its end."""
    await shop.take()
    await shop.sells("S", 5)
    run, _ = await shop.sync()
    for attempt in (await shop.claim_turn()).attempts:
        await shop.complete(attempt, "applied")
    assert not await shop.ledger.is_backlog_above(10, EVERY_SLOT)
    await shop.syncs.progress(run)
    assert await shop.ledger.end_sync() == (run.number, False)
    await shop.syncs.summary(run)
    await shop.syncs.before()
    await shop.sql.execute("DELETE FROM stockrelay.ledger; DELETE FROM shop.goods")


async def work(shop: Shop) -> None:
    """Everything a daemon does."""
    await shop.identity.check(10.0, SETTLE)
    await shop.take()
    await shop.deliver("A", 5)
    await shop.sells("A", 4)
    await shop.drain()
    await shop.pass_time(3)
    await shop.complete(await shop.claim_one(), "unknown")
    await shop.claim_one()
    assert await shop.ledger.rescue(shop.owner, [], SETTLE) == 1
    await shop.delists("A")
    await shop.sells("B", 1, ("", "b"))
    await shop.resync()
    await shop.pass_time(61)
    claim = await shop.claim()
    await shop.complete(claim.attempts[0], "applied")
    assert (await shop.claim()).forgotten == ["A"]
    assert (await shop.ledger.backlog()).parked == 1
    assert (await shop.ledger.next_due(EVERY_SLOT)).change is None
    await shop.changelog.stay_awake(timedelta(seconds=3))
    await shop.changelog.stay_awake(timedelta(0))
    assert await shop.changelog.rotate(timedelta(0)) == "switched"
    assert await shop.changelog.rotate(timedelta(0)) == "emptied"
    tomorrow = "SELECT 'attempt_' || to_char((clock_timestamp() AT TIME ZONE 'UTC')::date + 1, 'YYYYMMDD')"
    await shop.sql.execute(f"DROP TABLE stockrelay.{await shop.sql.fetchval(tomorrow)}")
    await shop.changelog.roll_attempts(timedelta(days=30))
    assert await OperationLog(shop.database).trim(timedelta(0)) == 0
    await shop.changelog.states([CHANNEL])
    await shop.identity.adopt(10, SETTLE)
    assert await shop.renews(shop.owner)
    await shop.trouble(Outcome(Kind.TROUBLE, "why"))
    await shop.leases.troubles()
    await look(shop)
    await ask(shop)
    pauses = Pauses(shop.database)
    await pauses.pause(CHANNEL, "somebody", "why")
    await pauses.pause(CHANNEL, "another", "because")
    assert await pauses.all()
    assert (await shop.ledger.next_due(EVERY_SLOT)).change is None
    await pauses.resume(CHANNEL)
    await shop.give_up(shop.owner)
    assert len(await shop.leases.all()) == SLOTS


async def look(shop: Shop) -> None:
    """What the page shows of the past."""
    history = PageHistory(shop.database)
    await history.note_minute("one", {CHANNEL: (1, 0, 1, 0.5)})
    assert await history.minutes([CHANNEL])
    assert await history.last_success() is not None
    assert await history.newest_attempts([CHANNEL])
    assert await history.slot_changes(CHANNEL)
    await history.runs(CHANNEL)
    await history.differences(CHANNEL, None)
    await history.held(CHANNEL, None)
    await history.parked(CHANNEL, None)
    await Exposure(shop.database, UTC).by_day(CHANNEL, date(2026, 3, 7))


async def ask(shop: Shop) -> None:
    """What an operator asks, and what he does with parked SKUs."""
    answers = Answers(shop.database)
    listing = ChannelListing(CHANNEL, LISTING, ("pn_code", "brand_name"))
    settings = ExplainSettings(timedelta(seconds=10), timedelta(seconds=5), SETTLE, HOUR)
    facts = await answers.facts(listing, Sku("B"), settings, 5)
    assert (facts.listing_problem, facts.row is None) == (None, False)
    assert await answers.candidates(listing, "b")
    assert await answers.sold_as(listing, "nobody") == []
    assert await answers.attempts([CHANNEL], sku=None, since=None, outcomes=(), limit=5)
    await answers.channel_state(CHANNEL)
    parked = Parked(shop.database, CHANNEL)
    assert await parked.all(5, with_discarded=True)
    assert await parked.discard([Sku("B")]) == ["B"]
    assert await parked.count() == (1, 1)
    assert await parked.retry(None, 10, Operator("ann", "ann@here")) == ["B"]
    assert [one.action for one in await OperationLog(shop.database).recent(5, CHANNEL, Sku("B"))] == ["retry"]
    assert (await shop.claim()).parked
