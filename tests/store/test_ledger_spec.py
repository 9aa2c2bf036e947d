"""docs/ledger.md against the real SQL: every cell of its transition tables, and every invariant after each transition.

The states are played once and kept (schema `kept`). For each event they are all put back, the event happens to all of
them at once, and what has become of each row is compared with the document.
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import date, timedelta
from typing import Final

import pytest

from daemon.core.guard import GuardRule
from daemon.store.control import Pauses
from daemon.store.guard import Guard
from daemon.store.parked import Parked
from daemon.store.reconcile import Reconciles
from tests.docs.pages import ROOT
from tests.store import ledger_document as document
from tests.store.ledger_document import Event, State
from tests.store.place import Place
from tests.store.playbook import (
    AT_ONCE,
    Driver,
    Life,
    ask_sync,
    change,
    change_unread,
    claim,
    claim_sync,
    ends,
    hold,
    leave,
    life,
    sent,
    state,
    stock,
    wait,
)
from tests.store.shop import CHANNEL, DEBOUNCE, LEASE, opened

RULE: Final = GuardRule(zero_share=0.0, zero_count=0, row_share=1.0, window=timedelta(seconds=300))
"""Any number that falls to zero is too many."""

TABLES: Final = (
    "shop.goods",
    "stockrelay.ledger",
    "stockrelay.anomaly",
    "stockrelay.guard",
    "stockrelay.lease",
)


_COLUMNS: Final = (
    "SELECT string_agg(quote_ident(attname), ', ') FROM pg_attribute "
    "WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''"
)


def lives() -> Mapping[State, Life]:
    """How a row comes into each state."""
    known = life() >> stock(7)
    unknown = known >> change(6) >> claim() << sent(6) >> ends("unknown") << state("waiting", "open")
    queued = known >> ask_sync() << state("queued for sync")
    queued_unknown = queued >> claim_sync() << sent(7) >> ends("unknown")
    found: dict[State, Life] = {("absent", "none"): life(), ("clean", "none"): known}
    for doubt, waiting, sync in (
        ("none", known >> change(6), queued),
        ("open", unknown, queued_unknown),
        ("over", unknown >> wait(61), queued_unknown >> wait(61)),
    ):
        flying = waiting >> claim() << sent(6)
        sync_flying = sync >> claim_sync() << sent(7)
        parked = flying >> (ends("refused") if doubt == "none" else ends("given up"))
        found |= {
            ("waiting", doubt): waiting,
            ("queued for sync", doubt): sync,
            ("held", doubt): waiting >> hold(),
            ("held and due", doubt): waiting >> hold() >> change_unread(),
            ("parked", doubt): parked >> wait(61 if doubt == "over" else 0),
            ("in flight", doubt): flying,
            ("in flight for sync", doubt): sync_flying,
            ("delisting", doubt): waiting >> leave() >> claim() << sent(0),
            ("overtaken", doubt): flying >> change(5),
            ("held in flight", doubt): flying >> hold(),
        }
    return {state_: played << state(*state_) for state_, played in found.items()}


LIVES: Final = lives()
NAMES: Final = {state_: "/".join(state_) for state_ in LIVES}


class Spec:
    """All states side by side, in one channel."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.shop = driver.shop
        self.sql = driver.shop.sql

    async def keep(self) -> None:
        """Play every life from an empty channel and keep what it leaves."""
        await self.sql.execute("DROP SCHEMA IF EXISTS kept CASCADE; CREATE SCHEMA kept")
        await self.shop.resync()
        await self.shop.take()
        for table in TABLES:
            await self.sql.execute(f"CREATE TABLE kept.{table.partition('.')[2]} (LIKE {table})")
        await self.sql.execute("INSERT INTO kept.lease TABLE stockrelay.lease")
        await self.driver.guards(holds=False)
        for state_, played in LIVES.items():
            await played.play(self.driver, NAMES[state_])
            for table in ("shop.goods", "stockrelay.ledger", "stockrelay.anomaly"):
                name = table.partition(".")[2]
                await self.sql.execute(f"INSERT INTO kept.{name} TABLE {table}; DELETE FROM {table}")
            await self.sql.execute(
                "INSERT INTO kept.guard SELECT * FROM stockrelay.guard WHERE held_since IS NOT NULL "
                "AND NOT EXISTS (SELECT FROM kept.guard); DELETE FROM stockrelay.sync_run"
            )
        await self.sql.execute("CREATE TABLE kept.at AS SELECT clock_timestamp() AS at")

    async def restore(self) -> None:
        """Every state again, as old as when it was kept, and nothing unread."""
        for table in TABLES:
            kept, columns = f"kept.{table.partition('.')[2]}", await self.sql.fetchval(_COLUMNS, table)
            await self.sql.execute(
                f"DELETE FROM {table}; INSERT INTO {table} ({columns}) SELECT {columns} FROM {kept}"
            )
        await self.sql.execute(
            "DELETE FROM stockrelay.change_0; DELETE FROM stockrelay.change_1; DELETE FROM stockrelay.sync_run;"
            "DELETE FROM stockrelay.attempt; DELETE FROM stockrelay.pause; DELETE FROM stockrelay.reconcile_run"
        )
        age = await self.sql.fetchval(
            "SELECT extract(epoch FROM clock_timestamp() - at)::float8 FROM kept.at"
        )
        await self.shop.pass_time(-age)
        await self.driver.guards(holds=False)

    async def look(self) -> dict[str, list[State]]:
        found = await self.driver.states()
        return {name: found.get(name, [("absent", "none")]) for name in NAMES.values()}


# What can happen, to each of the SKUs that it can happen to


async def number_changes(spec: Spec, skus: Sequence[str]) -> None:
    await spec.driver.sells(skus, 9)
    await spec.driver.marks(DEBOUNCE)


async def number_changes_back(spec: Spec, skus: Sequence[str]) -> None:
    await spec.sql.execute(
        "UPDATE shop.goods AS g SET quantity = coalesce(l.attempt_quantity, l.acked_quantity) "
        "FROM stockrelay.ledger AS l WHERE l.sku = g.sku AND g.sku = ANY ($1)",
        skus,
    )
    await spec.driver.marks(DEBOUNCE)


async def number_falls_to_zero(spec: Spec, skus: Sequence[str]) -> None:
    await spec.driver.sells(skus, 0)
    await spec.driver.marks(DEBOUNCE)


async def number_cannot_be_sent(spec: Spec, skus: Sequence[str]) -> None:
    await spec.driver.sells(skus, None)
    await spec.driver.marks(DEBOUNCE)


async def leaves_the_listing(spec: Spec, skus: Sequence[str]) -> None:
    await spec.driver.delists(skus)
    await spec.driver.marks(DEBOUNCE)


async def identifiers_change(spec: Spec, skus: Sequence[str]) -> None:
    await spec.sql.execute("UPDATE shop.goods SET pn = 'new ' || pn WHERE sku = ANY ($1)", skus)
    await spec.driver.marks(DEBOUNCE)


async def changes_unread(spec: Spec, skus: Sequence[str]) -> None:
    await spec.driver.sells(skus, 9)
    await spec.driver.marks_unread(DEBOUNCE)


async def is_compared(spec: Spec, _: Sequence[str]) -> None:
    await spec.shop.resync(DEBOUNCE)


async def identifiers_become_shared(spec: Spec, skus: Sequence[str]) -> None:
    await spec.sql.execute(
        "INSERT INTO shop.goods (sku, pn, brand, quantity) SELECT 'twin of ' || sku, pn, brand, 4 FROM shop.goods "
        "WHERE sku = ANY ($1)",
        skus,
    )
    await spec.driver.marks(DEBOUNCE)


async def identifiers_are_its_own_again(spec: Spec, skus: Sequence[str]) -> None:
    await spec.sql.execute(
        "UPDATE stockrelay.ledger SET twins = ARRAY['gone'], duplicates = 'park' WHERE sku = ANY ($1)", skus
    )
    await spec.shop.resync(DEBOUNCE)


async def guard_holds(spec: Spec, skus: Sequence[str]) -> None:
    await spec.driver.guards(holds=True)
    await spec.driver.sells(skus, 0)
    await spec.driver.marks(DEBOUNCE)


async def hold_is_released(spec: Spec, _: Sequence[str]) -> None:
    assert await Guard(spec.shop.database).release(CHANNEL, RULE.window)


async def held_identifiers_are_taken(spec: Spec, skus: Sequence[str]) -> None:
    await spec.sql.execute("UPDATE shop.goods SET sku = 'new ' || sku WHERE sku = ANY ($1)", skus)
    await spec.driver.marks(DEBOUNCE)
    await Guard(spec.shop.database).recover(CHANNEL, RULE, None)


async def claimed(spec: Spec, _: Sequence[str]) -> None:
    await spec.driver.claims()


async def claimed_with_the_acknowledged_number(spec: Spec, skus: Sequence[str]) -> None:
    await spec.driver.sells(skus, 7)
    await spec.driver.claims()


async def claimed_with_a_number_acknowledged_in_doubt(spec: Spec, skus: Sequence[str]) -> None:
    await spec.sql.execute(
        "UPDATE stockrelay.ledger SET acked_at = clock_timestamp() WHERE sku = ANY ($1)", skus
    )
    await claimed_with_the_acknowledged_number(spec, skus)


async def claimed_and_cannot_be_sent(spec: Spec, skus: Sequence[str]) -> None:
    await spec.driver.sells(skus, None)
    await spec.driver.claims()


async def claimed_and_not_listed(spec: Spec, skus: Sequence[str]) -> None:
    await spec.driver.delists(skus)
    await spec.driver.claims()


async def claimed_and_off_sale_and_not_listed(spec: Spec, skus: Sequence[str]) -> None:
    await spec.sql.execute("UPDATE stockrelay.ledger SET acked_quantity = 0 WHERE sku = ANY ($1)", skus)
    await claimed_and_not_listed(spec, skus)


async def claimed_with_an_uncounted_zero(spec: Spec, skus: Sequence[str]) -> None:
    await spec.driver.guards(holds=True)
    await spec.driver.sells(skus, 0)
    await spec.driver.claims()


async def claimed_with_identifiers_of_another(spec: Spec, skus: Sequence[str]) -> None:
    await spec.sql.execute(
        "INSERT INTO shop.goods (sku, pn, brand, quantity) SELECT 'other than ' || s, 'other ' || s, 'brand', 4 "
        "FROM unnest($1::text[]) AS s",
        skus,
    )
    await spec.driver.marks(DEBOUNCE)
    await spec.sql.execute("UPDATE shop.goods SET pn = 'other ' || sku WHERE sku = ANY ($1)", skus)
    await spec.driver.claims()


async def claimed_as_part_of_a_sum(spec: Spec, skus: Sequence[str]) -> None:
    async with opened(spec.shop.place, guard=RULE, duplicates="sum") as other:
        other.owner = spec.shop.owner
        await spec.sql.execute(
            "INSERT INTO shop.goods (sku, pn, brand, quantity) SELECT '!' || sku, pn, brand, 4 FROM shop.goods "
            "WHERE sku = ANY ($1)",
            skus,
        )
        await other.drain(AT_ONCE)
        await other.claim()


async def claimed_for_sync(spec: Spec, _: Sequence[str]) -> None:
    await spec.driver.claims_sync()


async def claimed_for_sync_and_cannot_be_sent(spec: Spec, skus: Sequence[str]) -> None:
    await spec.driver.sells(skus, None)
    await spec.driver.claims_sync()


def ends_as(outcome: str) -> Callable[[Spec, Sequence[str]], Awaitable[None]]:
    async def event(spec: Spec, skus: Sequence[str]) -> None:
        await spec.driver.completes(skus, outcome, wait_s=5)

    return event


async def ends_after_its_lease_was_lost(spec: Spec, skus: Sequence[str]) -> None:
    old = spec.shop.owner
    try:
        await spec.shop.take("two")
        spec.shop.owner = old
        await spec.driver.completes(skus, "applied")
    finally:
        spec.shop.owner = old


async def rescued(spec: Spec, _: Sequence[str]) -> None:
    await spec.driver.rescues()


async def sync_is_asked_for(spec: Spec, skus: Sequence[str]) -> None:
    if "absent/none" in skus:
        await spec.driver.sells(["absent/none"], 7)
    await spec.shop.sync()


async def confirmed_by_the_night(spec: Spec, skus: Sequence[str]) -> None:
    runs = Reconciles(spec.shop.database)
    run = await runs.begin_by_hand(CHANNEL, date(2026, 3, 7), "one", LEASE, is_dry=False)
    await runs.reassert(run, LEASE, skus, 1000.0)


async def confirmed_after_a_failover(spec: Spec, _: Sequence[str]) -> None:
    await spec.driver.fails_over()


async def parked_is_retried(spec: Spec, _: Sequence[str]) -> None:
    await Parked(spec.shop.database, CHANNEL).retry(None, 1000.0)


async def parked_is_discarded(spec: Spec, skus: Sequence[str]) -> None:
    await Parked(spec.shop.database, CHANNEL).discard(skus)  # type: ignore[arg-type]


async def claimed_while_paused(spec: Spec, _: Sequence[str]) -> None:
    await Pauses(spec.shop.database).pause(CHANNEL, "somebody", "")
    await spec.driver.claims()
    await spec.driver.claims_sync()


async def takes_identifiers_over(spec: Spec, skus: Sequence[str]) -> None:
    """Another SKU had been sent under the identifiers, has left the listing, and is claimed."""
    await spec.sql.execute(
        "INSERT INTO stockrelay.ledger (channel, sku, want_seq, acked_seq, listed_rows, identifiers, acked_quantity, "
        "acked_at, urgent, due_at, zero_at, unacked_since) "
        "SELECT l.channel, 'old ' || l.sku, 1, 0, 0, l.listed_identifiers, 7, now(), true, now(), now(), now() "
        "FROM stockrelay.ledger AS l WHERE l.sku = ANY ($1)",
        skus,
    )
    await spec.driver.claims(limit=len(skus))


EVENTS: Final[Mapping[str, Callable[[Spec, Sequence[str]], Awaitable[None]]]] = {
    "number changes": number_changes,
    "number changes back": number_changes_back,
    "number falls to zero": number_falls_to_zero,
    "number cannot be sent": number_cannot_be_sent,
    "leaves the listing": leaves_the_listing,
    "identifiers change": identifiers_change,
    "changes while the listing fails": changes_unread,
    "is compared and nothing differs": is_compared,
    "identifiers become shared": identifiers_become_shared,
    "identifiers are its own again": identifiers_are_its_own_again,
    "falls to zero with too many others": guard_holds,
    "hold is released": hold_is_released,
    "held identifiers become another SKU's": held_identifiers_are_taken,
    "claimed": claimed,
    "claimed with the acknowledged number": claimed_with_the_acknowledged_number,
    "claimed with a number acknowledged in doubt": claimed_with_a_number_acknowledged_in_doubt,
    "claimed and cannot be sent": claimed_and_cannot_be_sent,
    "claimed and no longer listed": claimed_and_not_listed,
    "claimed, off sale and no longer listed": claimed_and_off_sale_and_not_listed,
    "claimed with a zero that nobody counted": claimed_with_an_uncounted_zero,
    "claimed with another SKU's identifiers": claimed_with_identifiers_of_another,
    "claimed as part of a sum": claimed_as_part_of_a_sum,
    "claimed while paused": claimed_while_paused,
    "claimed for sync": claimed_for_sync,
    "claimed for sync and cannot be sent": claimed_for_sync_and_cannot_be_sent,
    "takes identifiers over": takes_identifiers_over,
    "ends applied": ends_as("applied"),
    "ends refused": ends_as("refused"),
    "ends unknown": ends_as("unknown"),
    "ends unknown once too often": ends_as("given up"),
    "ends not sent": ends_as("not sent"),
    "ends in channel trouble": ends_as("trouble"),
    "ends refused while delisting": ends_as("gone"),
    "ends after its lease was lost": ends_after_its_lease_was_lost,
    "is rescued": rescued,
    "sync is asked for": sync_is_asked_for,
    "is confirmed after a reconcile": confirmed_by_the_night,
    "is confirmed after a failover": confirmed_after_a_failover,
    "parked is retried": parked_is_retried,
    "parked is discarded": parked_is_discarded,
}

BROKEN: Final[Mapping[str, str]] = {
    "L1": "num_nulls(attempt_id, attempt_epoch, attempt_seq, attempt_quantity, attempt_at, attempt_settles) "
    "NOT IN (0, 6)",
    "L2": "(want_seq > acked_seq OR doubt_at IS NOT NULL) "
    "AND num_nonnulls(due_at, attempt_id, sync_at, held_at, parked_at) = 0",
    "L3": "(doubt_at IS NULL) <> (doubt_until IS NULL)",
    "L4": "parked_at IS NOT NULL AND (num_nonnulls(due_at, attempt_id, sync_at) > 0 OR parked_reason IS NULL)",
    "L5": "greatest(acked_seq, attempt_seq) > want_seq",
    "L6": "identifiers IS NULL AND num_nonnulls(attempt_id, acked_quantity) > 0",
    "L7": "want_seq > acked_seq AND unacked_since IS NULL",
}
"""What a row looks like that breaks an invariant."""

_BROKEN_ROWS: Final = " UNION ALL ".join(
    f"SELECT '{name}: ' || sku FROM stockrelay.ledger WHERE {sql}" for name, sql in BROKEN.items()
)
_GONE_BACK: Final = """
SELECT 'L8: ' || l.sku FROM stockrelay.ledger AS l JOIN kept.ledger AS k USING (channel, sku)
WHERE l.want_seq < k.want_seq OR l.acked_seq < k.acked_seq
UNION ALL
SELECT 'L9: ' || k.sku FROM kept.ledger AS k LEFT JOIN stockrelay.ledger AS l USING (channel, sku)
WHERE k.attempt_id IS NOT NULL AND (l.attempt_id IS DISTINCT FROM k.attempt_id)
      <> ((SELECT count(*) FROM stockrelay.attempt AS a WHERE a.attempt_id = k.attempt_id) = 1)
"""


@pytest.fixture
async def spec(place: Place) -> AsyncIterator[Spec]:
    """Every state, played and kept."""
    async with opened(place, guard=RULE) as shop:
        spec = Spec(Driver(shop))
        await spec.keep()
        yield spec
        await shop.sql.execute("DROP SCHEMA kept CASCADE")


@pytest.mark.timeout(300)
async def test_every_event_does_in_every_state_what_the_document_says(spec: Spec) -> None:
    wrong = [found for event in document.events().values() for found in await differences(spec, event)]
    assert wrong == []


async def differences(spec: Spec, event: Event) -> list[str]:
    """Let one event happen to every state, and say what differs from the document or breaks an invariant."""
    await spec.restore()
    assert await spec.look() == {NAMES[state_]: [state_] for state_ in LIVES}
    await EVENTS[event.name](
        spec, [NAMES[state_] for state_, (cell,) in event.cells.items() if cell.to is not None]
    )
    after = await spec.look()
    wrong = [
        f"{NAMES[state_]} is {after[NAMES[state_]]}, and not {cell.to or 'as before'}"
        for state_, (cell,) in event.cells.items()
        if after[NAMES[state_]] != [cell.to or state_]
    ]
    broken = await spec.sql.fetch(f"{_BROKEN_ROWS} UNION ALL {_GONE_BACK}")
    return [f"{event.name}: {found}" for found in (*wrong, *(f"it breaks {row[0]}" for row in broken))]


# Whole lives

TRANSCRIPTS: Final = (
    # A lost reply is sent again at once, and confirmed when the lost request can't land any more.
    life() >> stock(7) >> change(6) >> claim() << sent(6) >> ends("unknown") << state("waiting", "open")
    >> claim() << sent(6) >> ends("applied") << state("waiting", "open")
    >> wait(61) >> claim() << sent(6) << state("in flight", "over") >> ends("applied") << state("clean"),
    # A SKU that leaves the listing is sold out first and forgotten then.
    life() >> stock(7) >> leave() << state("waiting") >> claim() << sent(0) << state("delisting")
    >> ends("applied") << state("waiting") >> claim() << state("absent"),
    # A change during an attempt goes out by itself.
    life() >> stock(7) >> change(6) >> claim() << sent(6) >> change(5) << state("overtaken")
    >> ends("applied") << state("waiting") >> claim() << sent(5) >> ends("applied") << state("clean"),
    # A zero that was held while a number was in flight stays held.
    life() >> stock(7) >> change(6) >> claim() << sent(6) >> hold() << state("held in flight")
    >> ends("applied") << state("held and due") >> claim() << state("held"),
)  # fmt: skip


async def test_a_row_lives_as_its_transcript_says(place: Place) -> None:
    async with opened(place, guard=RULE) as shop:
        await shop.resync()
        await shop.take()
        driver = Driver(shop)
        await driver.guards(holds=False)
        for number, transcript in enumerate(TRANSCRIPTS):
            await transcript.play(driver, f"life {number}")


# The document itself


def test_the_document_has_one_cell_for_every_state_and_event() -> None:
    events = document.events()
    assert sorted(events) == sorted(EVENTS), "an event without a test, or a test without an event"
    assert list(LIVES) == [*dict.fromkeys(LIVES)]
    assert sorted(LIVES) == sorted(document.possible_states()), "a state that no life leads to"
    wrong = {
        f"{name}: {'/'.join(state_)}": len(cells)
        for name, event in events.items()
        for state_, cells in event.cells.items()
        if len(cells) != 1
    }
    assert wrong == {}
    silent = [name for name, event in events.items() for (cell,) in event.cells.values() if not cell.effect]
    assert silent == [], "a cell without an effect or a reason"


def test_every_statement_that_writes_the_ledger_is_in_the_document() -> None:
    writes = re.compile(r"(?:UPDATE|INSERT INTO|DELETE FROM) stockrelay\.ledger\b")
    writers = set()
    for file in (ROOT / "daemon" / "store" / "sql").glob("*.sql"):
        parts = re.split(r"^-- name: (\w+)", file.read_text("utf-8"), flags=re.MULTILINE)
        writers |= {name for name, body in zip(parts[1::2], parts[2::2], strict=True) if writes.search(body)}
    for file in (ROOT / "migrations" / "versions").rglob("*.sql"):
        parts = re.split(r"^CREATE FUNCTION stockrelay\.(\w+)", file.read_text("utf-8"), flags=re.MULTILINE)
        writers |= {name for name, body in zip(parts[1::2], parts[2::2], strict=True) if writes.search(body)}
    named = {writer for event in document.events().values() for writer in event.writers}
    named |= set(re.findall(r"^- `(\w+)`", document.sections()["Other writers"], re.MULTILINE))
    assert named == writers


def test_every_invariant_says_what_enforces_it() -> None:
    found = document.invariants()
    assert set(BROKEN) | {"L8", "L9"} <= set(found)
    tests = {
        name
        for file in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", file.read_text("utf-8"), re.MULTILINE)
    }
    for name, text in found.items():
        assert "Enforced by:" in text, name
        assert set(re.findall(r"`(test_\w+)`", text)) <= tests, name
        assert name in BROKEN or name in _GONE_BACK or re.search(r"`test_\w+`", text), (
            f"nothing checks {name}"
        )
    assert len(document.assumptions()) >= 5
