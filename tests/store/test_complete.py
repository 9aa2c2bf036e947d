"""What each outcome leaves behind, from each state; and that no other owner's outcome is written."""

from datetime import timedelta
from typing import Any

import pytest

from daemon.core.types import SLOTS, AttemptId
from daemon.store.ledger import Attempt, Debounce
from tests.store.shop import SETTLE, Shop

NO_QUIET = Debounce(timedelta(0), timedelta(0), 0)
OUTCOMES = ["applied", "refused", "not_sent", "trouble", "unknown", "parked"]


def after(seconds: float) -> object:
    return pytest.approx(seconds, abs=1)


async def claimed(shop: Shop, quantity: int) -> Attempt:
    """The SKU's number is this now, and is claimed."""
    await shop.sells("A", quantity)
    await shop.drain(NO_QUIET)
    return await shop.claim_one()


async def in_state(shop: Shop, state: str) -> Attempt:
    """An open attempt for 4, in a row that was in that state before."""
    if state == "new":
        return await claimed(shop, 4)
    await shop.deliver("A", 5)
    if state == "doubted":
        await shop.complete(await claimed(shop, 6), "unknown")
    if state == "settled":
        await shop.complete(await claimed(shop, 6), "unknown")
        await shop.pass_time(61)
    attempt = await claimed(shop, 4)
    if state == "changed":
        await shop.sells("A", 3)
        await shop.drain()
    return attempt


@pytest.mark.parametrize("state", ["new", "acked", "doubted", "settled", "changed"])
@pytest.mark.parametrize("outcome", OUTCOMES)
async def test_each_outcome_from_each_state(shop: Shop, state: str, outcome: str) -> None:
    attempt = await in_state(shop, state)
    before = await shop.row("A")
    is_due = await shop.complete(attempt, outcome, wait_s=5)
    row = await shop.row("A")
    was_doubted = state in ("doubted", "settled")

    assert row["attempt_id"] is None
    assert is_due is (row["due_at"] is not None)
    assert row["acked_quantity"] == (4 if outcome == "applied" else None if state == "new" else 5)
    assert row["is_wanted"] is (outcome != "applied" or state == "changed")
    assert row["acked_seq"] == (before["attempt_seq"] if outcome == "applied" else before["acked_seq"])
    if outcome in ("unknown", "parked"):
        assert row["doubt_s"] == after(60)
        assert row["failures"] == before["failures"] + 1
        assert row["retry_at"] is not None
    else:
        ends = outcome == "applied" and state != "doubted"
        assert (row["doubt_at"] is not None) is (was_doubted and not ends)
        assert row["failures"] == (0 if outcome == "applied" else before["failures"])
    if outcome in ("refused", "parked"):
        assert (row["due_at"], row["parked_reason"]) == (None, f"because {outcome}")
    elif outcome == "unknown":
        assert row["due_s"] == after(5)
    elif outcome == "applied":
        expected: dict[str, Any] = {"changed": after(2), "doubted": after(60)}
        assert row["due_s"] == expected.get(state)
    else:
        assert row["due_s"] == after(2 if state == "changed" else 0)
    assert (row["unacked_since"] is None) is (outcome == "applied" and state not in ("changed", "doubted"))

    logged = (await shop.attempts())[-1]
    assert (logged["attempt_id"], logged["sku"], logged["quantity"]) == (attempt.attempt_id, "A", 4)
    assert logged["outcome"] == ("unknown" if outcome == "parked" else outcome)
    assert (logged["reason"], logged["duration_ms"], logged["seq"]) == (
        f"because {outcome}",
        7,
        before["attempt_seq"],
    )


async def test_an_outcome_is_written_once(shop: Shop) -> None:
    attempt = await claimed(shop, 4)
    await shop.complete(attempt, "applied")
    before = await shop.row("A")
    assert not await shop.complete(attempt, "unknown")
    assert {**await shop.row("A"), "due_s": 0} == {**before, "due_s": 0}
    assert len(await shop.attempts()) == 1


async def test_an_old_owners_outcome_changes_nothing(shop: Shop) -> None:
    attempt = await claimed(shop, 4)
    old = shop.owner
    await shop.take("two")
    for outcome in OUTCOMES:
        assert not await shop.complete(attempt, outcome, owner=old)
    assert (await shop.row("A"))["attempt_id"] == attempt.attempt_id
    assert await shop.attempts() == []


async def test_an_outcome_of_another_attempt_changes_nothing(shop: Shop) -> None:
    attempt = await claimed(shop, 4)
    other = attempt._replace(attempt_id=AttemptId(attempt.attempt_id + 1))
    assert not await shop.complete(other, "applied")
    assert (await shop.row("A"))["attempt_id"] == attempt.attempt_id


async def test_an_acknowledgement_says_nothing_of_what_was_wanted_later(shop: Shop) -> None:
    attempt = await claimed(shop, 4)
    await shop.sells("A", 3)
    await shop.drain(NO_QUIET)
    await shop.complete(attempt, "applied")
    assert (await shop.row("A"))["is_wanted"]
    assert (await shop.claim_one()).push.quantity == 3


# Doubt


async def test_the_newest_number_goes_out_at_once_in_doubt_and_ends_none_of_it(shop: Shop) -> None:
    await shop.complete(await claimed(shop, 4), "unknown")
    newest = await claimed(shop, 3)
    assert newest.push.quantity == 3
    await shop.complete(newest, "applied")
    row = await shop.row("A")
    assert (row["acked_quantity"], row["is_wanted"]) == (3, False)
    assert row["doubt_s"] == after(60)
    assert row["due_at"] == row["doubt_until"]
    assert (await shop.claim()).captured == 0
    await shop.pass_time(61)
    confirmation = await shop.claim_one()
    assert confirmation.push.quantity == 3
    await shop.complete(confirmation, "applied")
    row = await shop.row("A")
    assert (row["doubt_at"], row["doubt_until"], row["due_at"]) == (None, None, None)


async def test_only_a_push_claimed_after_the_settle_time_ends_a_doubt(shop: Shop) -> None:
    await shop.complete(await claimed(shop, 4), "unknown")
    early = await claimed(shop, 3)
    await shop.pass_time(61)
    await shop.complete(early, "applied")
    assert (await shop.row("A"))["doubt_at"] is not None, "it was claimed before"
    await shop.complete(await shop.claim_one(), "applied")
    assert (await shop.row("A"))["doubt_at"] is None


async def test_a_change_within_a_doubt_that_is_acknowledged_waits_for_its_end(shop: Shop) -> None:
    await shop.complete(await claimed(shop, 4), "unknown")
    await shop.complete(await claimed(shop, 3), "applied")
    await shop.sells("A", 3)
    await shop.drain(NO_QUIET)
    claim = await shop.claim()
    assert claim.attempts == []
    assert (await shop.row("A"))["due_s"] == after(60)
    await shop.pass_time(61)
    await shop.complete(await shop.claim_one(), "applied")
    row = await shop.row("A")
    assert (row["doubt_at"], row["is_wanted"]) == (None, False)


async def test_a_doubt_lasts_until_the_last_of_its_attempts_has_settled(shop: Shop) -> None:
    await shop.complete(await claimed(shop, 4), "unknown")
    await shop.pass_time(30)
    await shop.complete(await claimed(shop, 3), "unknown")
    assert (await shop.row("A"))["doubt_s"] == after(60)
    await shop.pass_time(31)
    await shop.complete(await claimed(shop, 2), "applied")
    assert (await shop.row("A"))["doubt_s"] == after(29)


# Parking


async def test_identifiers_that_changed_while_the_old_ones_were_refused_are_tried(shop: Shop) -> None:
    attempt = await claimed(shop, 4)
    await shop.sells("A", 4, ("PN-mended", "brand"))
    await shop.drain(NO_QUIET)
    await shop.complete(attempt, "refused")
    assert (await shop.row("A"))["parked_at"] is None
    delisting = await shop.claim_one()
    assert delisting.is_delisting
    await shop.complete(delisting, "gone")
    assert (await shop.claim_one()).push.identifiers == ("PN-mended", "brand")


async def test_a_number_that_changed_while_it_was_refused_is_parked_with_it(shop: Shop) -> None:
    attempt = await claimed(shop, 4)
    await shop.sells("A", 3)
    await shop.drain(NO_QUIET)
    await shop.complete(attempt, "refused")
    assert (await shop.row("A"))["due_at"] is None


# Recovery


async def test_attempts_whose_owner_died_become_doubt_and_are_due(shop: Shop) -> None:
    attempt = await claimed(shop, 4)
    await shop.pass_time(20)
    owner = await shop.take("two")
    assert await shop.ledger.rescue(owner, [], SETTLE) == 1
    row = await shop.row("A")
    assert (row["attempt_id"], row["is_wanted"]) == (None, True)
    assert row["doubt_s"] == after(40), "it counts from the attempt, not from its recovery"
    assert row["due_s"] == after(0)
    logged = (await shop.attempts())[-1]
    assert (logged["attempt_id"], logged["outcome"]) == (attempt.attempt_id, "unknown")
    again = await shop.claim_one()
    assert again.attempt_id > attempt.attempt_id
    await shop.complete(again, "applied")
    assert (await shop.row("A"))["doubt_at"] is not None


async def test_attempts_in_flight_are_left_alone(shop: Shop) -> None:
    attempt = await claimed(shop, 4)
    assert await shop.ledger.rescue(shop.owner, [attempt.attempt_id], SETTLE) == 0
    await shop.complete(attempt, "applied")
    assert not (await shop.row("A"))["is_wanted"]


async def test_a_claim_whose_commit_went_unheard_is_recovered(shop: Shop) -> None:
    """The reply to COMMIT was lost: the claimer knows of no attempt, the ledger does."""
    await claimed(shop, 4)
    assert (await shop.claim()).captured == 0
    assert await shop.ledger.rescue(shop.owner, [], SETTLE) == 1
    assert (await shop.claim_one()).push.quantity == 4


async def test_only_the_owner_rescues(shop: Shop) -> None:
    await claimed(shop, 4)
    old = shop.owner
    await shop.take("two")
    assert await shop.ledger.rescue(old, [], SETTLE) == 0
    await shop.sql.execute("UPDATE stockrelay.lease SET until = '-infinity'")
    assert len((await shop.take_free("three")).epochs) == SLOTS


async def test_a_sell_out_that_was_lost_stays_urgent(shop: Shop) -> None:
    await shop.deliver("A", 5)
    await claimed(shop, 0)
    await shop.ledger.rescue(shop.owner, [], SETTLE)
    assert (await shop.row("A"))["urgent"]


async def test_the_backlog_is_counted(shop: Shop) -> None:
    await shop.deliver("clean", 5)
    await shop.complete(await claimed(shop, 4), "unknown")
    await shop.pass_time(7)
    for sku in ("parked", "flying", "waiting"):
        await shop.sells(sku, 1, ("", "b") if sku == "parked" else None)
        await shop.drain(NO_QUIET)
        if sku != "waiting":
            await shop.claim()
    backlog = await shop.ledger.backlog()
    assert (backlog.skus, backlog.parked, backlog.in_flight, backlog.doubt) == (5, 1, 2, 1)
    assert backlog.backlog == 3
    assert backlog.oldest is not None
    assert backlog.oldest.total_seconds() == pytest.approx(7, abs=2)


# The attempt log


async def test_attempts_go_to_the_day_they_were_made_on_and_old_days_are_dropped(shop: Shop) -> None:
    await shop.complete(await claimed(shop, 4), "applied")
    today = await shop.sql.fetchval(
        "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', '\"attempt_\"YYYYMMDD')"
    )
    assert await shop.sql.fetchval(f"SELECT count(*) FROM stockrelay.{today}") == 1
    await shop.sql.execute(
        "CREATE TABLE stockrelay.attempt_20200101 PARTITION OF stockrelay.attempt "
        "FOR VALUES FROM ('2020-01-01Z') TO ('2020-01-02Z');"
        "INSERT INTO stockrelay.attempt (at, attempt_id, channel, sku, quantity, seq, epoch, outcome, reason) "
        "VALUES ('2020-01-01 12:00Z', 1, 'c', 's', 1, 1, 1, 'applied', ''),"
        "('2020-01-05 12:00Z', 2, 'c', 's', 1, 1, 1, 'applied', '')"
    )
    assert await shop.changelog.roll_attempts(timedelta(days=30)) == 1
    assert len(await shop.attempts()) == 1, "what the default partition holds is forgotten, too"
    assert await shop.changelog.roll_attempts(timedelta(days=30)) == 0


async def test_a_day_whose_rows_came_before_its_partition_does_not_stop_the_next(shop: Shop) -> None:
    """As after a week in which nothing ran: outcomes are written before the partitions are made."""
    days = await shop.sql.fetch(
        "SELECT to_char((clock_timestamp() AT TIME ZONE 'UTC') + n * interval '1 day', '\"attempt_\"YYYYMMDD') AS name "
        "FROM generate_series(0, 3) AS n"
    )
    for day in days:
        await shop.sql.execute(f"DROP TABLE stockrelay.{day['name']}")
    await shop.complete(await claimed(shop, 4), "applied")
    await shop.changelog.roll_attempts(timedelta(days=30))
    made = [await shop.sql.fetchval("SELECT to_regclass($1)", f"stockrelay.{day['name']}") for day in days]
    assert [name is not None for name in made] == [False, True, True, True]
    await shop.sql.execute("TRUNCATE stockrelay.attempt")
    await shop.changelog.roll_attempts(timedelta(days=30))
    assert await shop.sql.fetchval("SELECT to_regclass($1)", f"stockrelay.{days[0]['name']}") is not None


async def test_a_dump_of_the_attempt_log_delays_no_outcome(shop: Shop) -> None:
    tomorrow = await shop.sql.fetchval(
        "SELECT to_char((clock_timestamp() AT TIME ZONE 'UTC') + interval '1 day', '\"attempt_\"YYYYMMDD')"
    )
    attempt = await claimed(shop, 4)
    await shop.sql.execute(f"DROP TABLE stockrelay.{tomorrow}")
    dump = await shop.place.connect()
    await dump.execute("BEGIN; LOCK TABLE stockrelay.attempt IN ACCESS SHARE MODE")
    assert await shop.changelog.roll_attempts(timedelta(days=30)) == 0
    await shop.complete(attempt, "applied")
    await dump.execute("COMMIT")
    await shop.changelog.roll_attempts(timedelta(days=30))
    assert await shop.sql.fetchval("SELECT to_regclass($1)", f"stockrelay.{tomorrow}") is not None
