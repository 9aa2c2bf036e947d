"""Several listed SKUs with the same identifiers: the marketplace keeps one number for all of them."""

import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from daemon.core.explain.facts import Facts
from daemon.core.plan import sum_problem
from daemon.core.types import DEFAULT_MAX_QUANTITY, Duplicates, Sku
from daemon.store import queries
from daemon.store.answers import Answers
from daemon.store.comparing import ComparedNumbers
from daemon.store.ledger import Debounce
from daemon.store.listing import ChannelListing
from tests.store.place import Place
from tests.store.shop import CHANNEL, LISTING, Shop, opened
from tests.store.test_answers import KEPT
from tests.store.test_histories import DEBOUNCE, SKUS, History, is_clean

NO_QUIET = Debounce(timedelta(0), timedelta(0), 0)
NAME = ("PN", "brand")
ON_18 = pytest.mark.parametrize("server", ["pg18"], indirect=True)


async def settle(shop: Shop, *, whole: bool = False) -> list[tuple[str, str, int]]:
    """Read what has changed and send what is due, to its end: what was sent, as (SKU, first identifier, number)."""
    sent: list[tuple[str, str, int]] = []
    await (shop.resync(NO_QUIET) if whole else shop.drain(NO_QUIET))
    for _ in range(8):
        claim = await shop.claim()
        for attempt in claim.attempts:
            sent.append((attempt.push.sku, attempt.push.identifiers[0], attempt.push.quantity))
            await shop.complete(attempt, "applied")
        if not claim.captured:
            break
    return sent


async def parked(shop: Shop) -> dict[str, str]:
    """The parked SKUs and why."""
    rows = await shop.sql.fetch(
        "SELECT sku, parked_reason FROM stockrelay.ledger WHERE parked_at IS NOT NULL"
    )
    return {row["sku"]: row["parked_reason"] for row in rows}


def names(others: str, name: str = "PN / brand") -> str:
    verb = "have" if " and " in others else "has"
    return f"{others} {verb} the same identifiers ({name}): give each SKU its own"


# How they come about


async def test_two_new_skus_with_one_identifier_are_parked_and_name_each_other(shop: Shop) -> None:
    await shop.sells("A", 5, NAME)
    await shop.sells("B", 70, NAME)
    await shop.sells("C", 1, ("PN", "other brand"))
    assert await settle(shop) == [("C", "PN", 1)]
    assert await parked(shop) == {"A": names('"B"'), "B": names('"A"')}
    await shop.sells("A", 0, NAME)
    assert await settle(shop) == [], "one sells out: the other's number is not overwritten"


async def test_three_and_more_name_the_first_of_the_others(shop: Shop) -> None:
    for sku in "ABCDEFG":
        await shop.sells(sku, 5, NAME)
    assert await settle(shop, whole=True) == []
    reasons = await parked(shop)
    assert reasons["A"] == names('"B", "C", "D" and others')
    assert reasons["G"] == names('"A", "B", "C" and others')
    await shop.delists("B")
    await settle(shop)
    assert (await parked(shop))["A"] == names('"C", "D", "E" and others')


Change = Callable[[Shop], Coroutine[Any, Any, None]]


async def by_a_new_sku(shop: Shop) -> None:
    await shop.sells("B", 0, NAME)


async def by_other_identifiers(shop: Shop) -> None:
    await shop.deliver("B", 0, ("PN-B", "brand"))
    await shop.sells("B", 0, NAME)


async def without_looking(shop: Shop) -> None:
    """The listing is too slow for the intake: claims read it."""
    await shop.sells("B", 0, NAME)
    await shop.sql.execute("UPDATE stockrelay.read_position SET read_until = pg_current_snapshot()")
    await shop.sql.execute(queries.load("intake")["mark_blind"], CHANNEL, ["B"], timedelta(0))


async def by_a_sync(shop: Shop) -> None:
    await shop.sells("B", 0, NAME)
    await shop.sql.execute("UPDATE stockrelay.read_position SET read_until = pg_current_snapshot()")
    await shop.sync()
    while (claim := await shop.claim_turn()).captured:
        for attempt in claim.attempts:
            await shop.complete(attempt, "applied")


async def by_hand_without_a_trigger(shop: Shop) -> None:
    """Only a comparison of everything finds out."""
    await shop.sells("B", 0, NAME)
    await shop.sql.execute("UPDATE stockrelay.read_position SET read_until = pg_current_snapshot()")
    await shop.resync(NO_QUIET)


@ON_18
@pytest.mark.parametrize(
    "appears",
    [by_a_new_sku, by_other_identifiers, without_looking, by_a_sync, by_hand_without_a_trigger],
    ids=lambda change: change.__name__,
)
async def test_a_twin_of_a_sku_that_was_sent_parks_both_and_the_marketplace_keeps_its_number(
    shop: Shop, appears: Change
) -> None:
    await shop.deliver("A", 5, NAME)
    await appears(shop)
    assert ("B", "PN", 0) not in await settle(shop)
    assert set(await parked(shop)) == {"A", "B"}
    assert (await shop.row("A"))["acked_quantity"] == 5


@ON_18
async def test_a_sku_in_flight_is_parked_when_its_answer_is_there(shop: Shop) -> None:
    await shop.sells("A", 5, NAME)
    await shop.drain(NO_QUIET)
    attempt = await shop.claim_one()
    await shop.sells("B", 7, NAME)
    await shop.drain(NO_QUIET)
    assert (await shop.claim()).parked.keys() == {"B"}
    await shop.complete(attempt, "applied")
    assert await settle(shop) == []
    assert (await parked(shop)).keys() == {"A", "B"}


# How they end


async def by_leaving(shop: Shop) -> None:
    await shop.delists("B")


async def by_a_name_of_its_own(shop: Shop) -> None:
    await shop.sells("B", 7, ("PN-B", "brand"))


@ON_18
@pytest.mark.parametrize("ends", [by_leaving, by_a_name_of_its_own], ids=lambda change: change.__name__)
@pytest.mark.parametrize("was_sent", [(), ("A",), ("B",), ("A", "B")], ids="-".join)
async def test_when_one_goes_the_other_is_sent_and_nothing_overwrites_it(
    shop: Shop, ends: Change, was_sent: tuple[str, ...]
) -> None:
    """`was_sent`: also both, as by a release that knew of no twins."""
    for sku in "AB":
        await shop.sells(sku, 5, NAME)
    await settle(shop)
    await shop.sql.execute(
        "UPDATE stockrelay.ledger SET identifiers = listed_identifiers, acked_quantity = 5, acked_at = now(), "
        "acked_seq = want_seq WHERE sku = ANY ($1)",
        was_sent,
    )
    await ends(shop)
    sent = await settle(shop)
    await shop.pass_time(61)
    sent += await settle(shop)
    assert [one for one in sent if one[1] == "PN"], "whatever was acknowledged, it is confirmed"
    assert all(one == ("A", "PN", 5) for one in sent if one[1] == "PN"), sent
    assert await parked(shop) == {}
    assert (await shop.row("A"))["twins"] is None
    assert (await shop.claim()).captured == 0
    if ends is by_a_name_of_its_own:
        assert ("B", "PN-B", 7) in sent


@ON_18
async def test_one_of_three_goes_and_the_marketplace_is_not_told_zero(shop: Shop) -> None:
    await shop.deliver("A", 5, NAME)
    for sku in "BC":
        await shop.sells(sku, 9, NAME)
    await settle(shop)
    await shop.delists("A")
    assert await settle(shop) == []
    assert await parked(shop) == {"B": names('"C"'), "C": names('"B"')}
    assert await shop.find("A") is None
    await shop.delists("B")
    assert await settle(shop) == [("C", "PN", 9)]


async def test_a_rename_parks_nobody_also_in_two_transactions_within_the_quiet_time(shop: Shop) -> None:
    await shop.deliver("A", 5, NAME)
    await shop.sells("B", 5, NAME)
    await shop.drain()
    await shop.delists("A")
    await shop.drain()
    await shop.pass_time(3)
    sent = await settle(shop)
    assert [one for one in sent if one != ("B", "PN", 5)] == []
    assert (await parked(shop), await shop.find("A")) == ({}, None)


@ON_18
async def test_the_last_of_the_twins_that_leaves_takes_the_product_off_sale(shop: Shop) -> None:
    await shop.deliver("A", 5, NAME)
    await shop.sells("B", 9, NAME)
    await settle(shop)
    await shop.sql.execute("DELETE FROM shop.goods")
    assert set(await settle(shop)) == {("A", "PN", 0)}
    assert await shop.sql.fetchval("SELECT count(*) FROM stockrelay.ledger") == 0


@ON_18
async def test_missing_identifiers_are_no_common_ones(shop: Shop) -> None:
    for sku in "AB":
        await shop.sells(sku, 5, ("", "brand"))
        await shop.sells(sku + "null", 5, (None, "brand"))
    await settle(shop, whole=True)
    assert set((await parked(shop)).values()) == {"pn_code is missing"}
    assert (await shop.row("A"))["twins"] is None


@ON_18
async def test_an_operator_who_retries_a_twin_finds_it_parked_again(shop: Shop) -> None:
    from daemon.core.types import Sku
    from daemon.store.parked import Parked

    for sku in "AB":
        await shop.sells(sku, 5, NAME)
    await settle(shop)
    await Parked(shop.database, CHANNEL).retry([Sku("A")], 10)
    assert (await shop.claim()).parked == {"A": names('"B"')}


@ON_18
async def test_names_longer_than_an_index_takes_stop_nobody(shop: Shop) -> None:
    long = ("p" * 100_000, "b" * 100_000)
    for sku in "AB":
        await shop.sells(sku, 5, long)
    await shop.sells("C", 5)
    assert await settle(shop) == [("C", "PN-C", 5)]
    assert set((await parked(shop)).values()) == {"pn_code is too long"}


# Sums


@pytest.fixture
async def summing(place: Place) -> AsyncIterator[Shop]:
    """A channel to which the sum is sent."""
    async with opened(place, duplicates="sum") as shop:
        await shop.take()
        yield shop


async def test_the_marketplace_holds_the_sum_and_each_change_is_sent_once(summing: Shop) -> None:
    shop = summing
    for sku, quantity in (("B", 70), ("A", 5), ("C", 1)):
        await shop.sells(sku, quantity, NAME)
    assert await settle(shop) == [("A", "PN", 76)], "under the first of them by name"
    for sku, quantity, total in (("B", 60, 66), ("C", -2, 63), ("A", 0, 58), ("A", 8, 66)):
        await shop.sells(sku, quantity, NAME)
        assert await settle(shop) == [("A", "PN", total)]
    assert await settle(shop, whole=True) == []
    assert await parked(shop) == {}
    for sku in "ABC":
        await shop.sells(sku, 0, NAME)
    assert await settle(shop) == [("A", "PN", 0)]
    await shop.sql.execute("DELETE FROM shop.goods")
    assert await settle(shop) == []
    assert await shop.sql.fetchval("SELECT count(*) FROM stockrelay.ledger") == 0


@ON_18
@pytest.mark.parametrize(
    "appears",
    [by_a_new_sku, by_other_identifiers, without_looking, by_a_sync, by_hand_without_a_trigger],
    ids=lambda change: change.__name__,
)
async def test_a_twin_of_a_sku_that_was_sent_is_added_to_its_number(summing: Shop, appears: Change) -> None:
    shop = summing
    await shop.deliver("A", 5, NAME)
    await appears(shop)
    await settle(shop)
    await shop.sells("B", 9, NAME)
    assert await settle(shop) == [("A", "PN", 14)]
    assert (await shop.row("B"))["identifiers"] is None


@ON_18
@pytest.mark.parametrize("ends", [by_leaving, by_a_name_of_its_own], ids=lambda change: change.__name__)
async def test_a_twin_that_goes_is_taken_from_the_sum(summing: Shop, ends: Change) -> None:
    shop = summing
    await shop.deliver("B", 70, NAME)
    await shop.sells("A", 5, NAME)
    assert await settle(shop) == [("A", "PN", 75)], "the first by name takes it over"
    await ends(shop)
    sent = await settle(shop)
    await shop.pass_time(61)
    sent += await settle(shop)
    assert {one for one in sent if one[1] == "PN"} == {("A", "PN", 5)}
    assert ends is by_leaving or ("B", "PN-B", 7) in sent


@ON_18
@pytest.mark.parametrize("leaves", [True, False])
async def test_when_the_first_of_them_goes_the_next_has_the_sum(summing: Shop, leaves: bool) -> None:
    shop = summing
    for sku, quantity in (("A", 1), ("B", 20), ("C", 300)):
        await shop.sells(sku, quantity, NAME)
    await settle(shop)
    await (shop.delists("A") if leaves else shop.sells("A", 1, ("PN-A", "brand")))
    sent = await settle(shop)
    await shop.pass_time(61)
    sent += await settle(shop)
    assert {one for one in sent if one[1] == "PN"} == {("B", "PN", 320)}, sent
    assert leaves or ("A", "PN-A", 1) in sent


PART = 'the quantity of "{}", which is part of the sum, is {}'
TOO_MUCH = "which is more than the channel's max_quantity"


@ON_18
async def test_a_sum_that_cannot_be_sent_names_the_sku_and_its_quantity(summing: Shop) -> None:
    shop = summing
    twice, most = "INSERT INTO shop.goods SELECT * FROM shop.goods WHERE sku = 'B'", DEFAULT_MAX_QUANTITY
    reading = "let the query say how many may be sold"
    for first, second, reason in (
        (5, "NaN", PART.format("B", f"NaN: {reading}")),
        (5, "-Infinity", PART.format("B", f"-Infinity: {reading}")),
        ("NaN", 5, PART.format("A", f"NaN: {reading}")),
        (5, None, PART.format("B", "NULL: let the query say 0 where nothing may be sold")),
        ("Infinity", None, PART.format("A", f"Infinity: {reading}")),
        (5, most + 1, PART.format("B", f"{most + 1}, {TOO_MUCH}")),
        (-5, most + 1, PART.format("B", f"{most + 1}, {TOO_MUCH}")),
        (most, most, f"the sum of all SKUs with these identifiers is {2 * most}, {TOO_MUCH}"),
        (5, "twice", 'the listing has 2 rows for "B", which is part of the sum: make it one row per SKU'),
    ):
        await shop.sells("A", first, NAME)
        await shop.sells("B", 5 if second == "twice" else second, NAME)
        if second == "twice":
            await shop.sql.execute(twice)
        await settle(shop)
        assert (await parked(shop))["A"] == reason, (first, second)
        facts = {sku: await _facts(shop, sku) for sku in "AB"}
        assert {sku: one.listed and sum_problem(one.listed) for sku, one in facts.items()} == dict.fromkeys(
            "AB", reason
        )
        await shop.sql.execute("DELETE FROM shop.goods WHERE sku = 'B'")
        await shop.sells("B", 2, NAME)
        await shop.sells("A", 3, NAME)
        await settle(shop)
        assert await parked(shop) == {}, (first, second)


async def _facts(shop: Shop, sku: str) -> Facts:
    return await Answers(shop.database).facts(shop.listing, Sku(sku), KEPT, 5)


@ON_18
async def test_what_may_still_land_of_a_twin_is_followed_by_the_sum(summing: Shop) -> None:
    """B's request has no answer; meanwhile the sum is sent for A."""
    shop = summing
    await shop.sells("B", 70, NAME)
    await shop.drain(NO_QUIET)
    lost = await shop.claim_one()
    await shop.sells("A", 5, NAME)
    await shop.drain(NO_QUIET)
    attempt = await shop.claim_one()
    assert attempt.push.quantity == 75
    await shop.complete(attempt, "applied")
    await shop.complete(lost, "unknown")
    await settle(shop)
    await shop.pass_time(61)
    assert await settle(shop) == [("A", "PN", 75)]
    await shop.pass_time(61)
    assert await settle(shop) == []


@ON_18
async def test_another_setting_holds_from_the_next_comparison_of_everything_on(
    place: Place, shop: Shop
) -> None:
    for sku, quantity in (("A", 5), ("B", 70)):
        await shop.sells(sku, quantity, NAME)
    await settle(shop)
    assert (await parked(shop)).keys() == {"A", "B"}
    async with opened(place, duplicates="sum") as summing:
        summing.owner = shop.owner
        assert await settle(summing, whole=True) == [("A", "PN", 75)]
        assert await settle(summing, whole=True) == []
    assert await settle(shop, whole=True) == []
    assert (await parked(shop)).keys() == {"A", "B"}
    assert (await shop.row("A"))["acked_quantity"] == 75


@ON_18
async def test_the_night_asks_about_the_sum(summing: Shop) -> None:
    for sku, quantity in (("A", 5), ("B", 70)):
        await summing.sells(sku, quantity, NAME)
    await settle(summing)
    listing = ChannelListing(CHANNEL, LISTING, ("pn_code", "brand_name"), duplicates="sum")
    rows = await ComparedNumbers(summing.database, listing).rows(["A", "B"], timedelta(0))
    found = {row.sku: (row.quantity, row.is_listed, row.is_settled) for row in rows}
    assert found == {"A": (75, True, True), "B": (None, False, False)}
    only_b = await ComparedNumbers(summing.database, listing).rows(["B"], timedelta(0))
    assert [row.sku for row in only_b] == ["B"]


# Whatever happens


SEEDS = (0, 1)


@dataclass
class Collisions(History):
    """A history in which SKUs get each other's identifiers and leave them again."""

    duplicates: Duplicates = "park"
    taken: dict[str, tuple[str, str]] = field(default_factory=dict)

    async def move(self) -> None:
        """Identifiers of another SKU, or never used ones."""
        if self.random.random() < 0.7:
            name = self.random.choice(SKUS)
            self.taken.pop(name, None)
            if self.random.random() < 0.6:
                self.taken[name] = self.identifiers(self.random.choice(SKUS))
                self.seen["collision"] += 1
            else:
                self.parts[name] += 1
            await self.shop.sells(self.sku(name), self.random.choice([0, 4]), self.identifiers(name))

    def identifiers(self, name: str) -> tuple[str, str]:
        return self.taken.get(name) or super().identifiers(name)

    async def check(self) -> None:
        """Nothing that is parked for its twins is clean, and at rest it is asked what the marketplace holds."""
        rows = await self.shop.sql.fetch("SELECT * FROM stockrelay.ledger")
        self.seen["parked"] += sum(row["parked_at"] is not None for row in rows)
        self.seen["summed"] += sum(row["duplicates"] == "sum" and row["identifiers"] is None for row in rows)
        for row in rows:
            is_due = {row["due_at"], row["attempt_id"], row["sync_at"], row["parked_at"]} != {None}
            assert is_due or is_clean(row), dict(row)

    async def rest(self) -> None:
        """What one SKU alone is named has that SKU's number; the others have their sum, or any number."""
        while self.waiting:
            request = self.waiting.pop()
            self.apply(request)
            await self.shop.complete(request.attempt, "applied", owner=request.owner)
        for turn in range(16):
            await self.shop.drain(DEBOUNCE)
            await self.shop.pass_time(61 if turn % 2 else 11)
            if turn == 1:
                self.late.clear()
            for attempt in (*(await self.shop.claim()).attempts, *(await self.shop.claim_turn()).attempts):
                self.marketplace[attempt.push.identifiers] = attempt.push.quantity
                await self.shop.complete(attempt, "applied")
        wanted: dict[tuple[str, str], list[int]] = {}
        for row in await self.shop.sql.fetch("SELECT * FROM shop.goods"):
            wanted.setdefault((row["pn"], row["brand"]), []).append(int(row["quantity"]))
        parked_names = {
            name for name, numbers in wanted.items() if len(numbers) > 1 and self.duplicates == "park"
        }
        holds = {name: number for name, number in self.marketplace.items() if name not in parked_names}
        expected = {name: sum(numbers) for name, numbers in wanted.items() if name not in parked_names}
        assert holds == dict.fromkeys(holds, 0) | expected
        assert len(await parked(self.shop)) == sum(len(wanted[name]) for name in parked_names)
        await self.shop.resync(DEBOUNCE)
        await self.shop.pass_time(100)
        assert (await self.shop.claim()).captured == 0


@ON_18
@pytest.mark.parametrize("duplicates", ["park", "sum"])
async def test_whatever_happens_to_identifiers_the_marketplace_ends_with_the_erps_numbers(
    place: Place, duplicates: Duplicates
) -> None:
    seen: Counter[str] = Counter()
    async with opened(place, duplicates=duplicates) as shop:
        await shop.take()
        for seed in SEEDS:
            history = Collisions(shop, random.Random(seed), seen=seen, duplicates=duplicates)
            for _ in range(300):
                await history.step()
            await history.rest()
            await shop.sql.execute("DELETE FROM shop.goods; DELETE FROM stockrelay.ledger")
            await shop.drain()
    rare = "parked" if duplicates == "park" else "summed"
    for state in ("claimed", "collision", "late", "landed", "synced", rare):
        assert seen[state], seen
