"""Every event of docs/ledger.md, as what happens to the SKUs that it can happen to."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import date
from typing import Final

from daemon.core.types import Sku
from daemon.store.control import Pauses
from daemon.store.guard import Guard
from daemon.store.live import LiveChannels
from daemon.store.parked import Parked
from daemon.store.pushes import Pushes
from daemon.store.reconcile import Reconciles
from tests.store.ledger_states import RULE, Spec
from tests.store.playbook import AT_ONCE
from tests.store.shop import CHANNEL, DEBOUNCE, EVERY_SLOT, LEASE, opened


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


async def is_left_out(spec: Spec, skus: Sequence[str]) -> None:
    spec.shop.send_only(where=without(skus))
    await spec.shop.resync(DEBOUNCE)
    spec.shop.send_only()


async def claimed_and_left_out(spec: Spec, skus: Sequence[str]) -> None:
    spec.shop.send_only(where=without(skus))
    await spec.driver.claims()
    spec.shop.send_only()


def without(skus: Sequence[str]) -> str:
    """Return the condition that leaves out these SKUs."""
    names = ", ".join(f"'{sku}'" for sku in skus)
    return f"sku NOT IN ({names})"


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
    await runs.reassert(run, skus, 1000.0)


async def confirmed_after_a_failover(spec: Spec, _: Sequence[str]) -> None:
    await spec.driver.fails_over()


async def parked_is_retried(spec: Spec, _: Sequence[str]) -> None:
    await Parked(spec.shop.database, CHANNEL).retry(None, 1000.0)


async def pushed_by_an_operator(spec: Spec, skus: Sequence[str]) -> None:
    for sku in skus:
        await Pushes(spec.shop.database, CHANNEL).ask(Sku(sku))


async def parked_is_discarded(spec: Spec, skus: Sequence[str]) -> None:
    await Parked(spec.shop.database, CHANNEL).discard(skus)  # type: ignore[arg-type]


async def claimed_in_shadow(spec: Spec, _: Sequence[str]) -> None:
    await spec.driver.claims_in_shadow()


async def shadow_ends(spec: Spec, _: Sequence[str]) -> None:
    await spec.shop.ledger.end_shadow(EVERY_SLOT, 100)


async def read_from_the_marketplace(spec: Spec, skus: Sequence[str]) -> None:
    """Each SKU is read back with another number, and the channel goes live."""
    runs = Reconciles(spec.shop.database)
    run = await runs.begin_by_hand(CHANNEL, date(2026, 3, 7), "one", LEASE, is_dry=True)
    await spec.sql.execute(
        "INSERT INTO stockrelay.reconcile_read SELECT $1, 1, l.sku, l.listed_identifiers[1], 9, true "
        "FROM stockrelay.ledger AS l WHERE l.sku = ANY ($2)",
        run.run_id,
        skus,
    )
    await spec.sql.execute("DELETE FROM stockrelay.live")
    await LiveChannels(spec.shop.database).begin(CHANNEL, "ann", "here", reading=run)


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
    "is left out": is_left_out,
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
    "claimed and left out": claimed_and_left_out,
    "claimed with a zero that no marking has counted": claimed_with_an_uncounted_zero,
    "claimed with another SKU's identifiers": claimed_with_identifiers_of_another,
    "claimed as part of a sum": claimed_as_part_of_a_sum,
    "claimed in shadow": claimed_in_shadow,
    "shadow ends": shadow_ends,
    "is read from the marketplace": read_from_the_marketplace,
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
    "is pushed by an operator": pushed_by_an_operator,
    "parked is discarded": parked_is_discarded,
}
