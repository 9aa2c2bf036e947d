"""The exposure clock against scripts whose sums are known: each step's time passes on command, to the tick."""

import asyncio
from datetime import UTC, date, timedelta

import pytest

from daemon import clock
from daemon.core.exposure import Reason, Sums, by_sku, total
from daemon.core.types import Sku
from daemon.store import queries
from daemon.store.exposure import Exposure
from daemon.store.ledger import Attempt
from daemon.store.parked import Parked
from daemon.store.rows import Connection
from tests.store.place import begun
from tests.store.shop import CHANNEL, DEBOUNCE, Shop

FIRST = date(2026, 1, 1)
Expected = dict[Reason, float]

SCRIPTS: dict[str, tuple[str, Expected, Expected]] = {
    "two falls in one debounce": (
        "sells 9, wait 3, sells 5, wait 2, claim, applied",
        {Reason.DEBOUNCE: 1 * 3 + 5 * 2},
        {},
    ),
    "a fall, a rise and another fall in one debounce": (
        "sells 4, wait 2, sells 13, wait 1, sells 8, wait 3, claim, wait 2, applied",
        {Reason.DEBOUNCE: 6 * 2 + 2 * 2, Reason.QUEUE: 2 * 1, Reason.MARKETPLACE: 2 * 2},
        {Reason.DEBOUNCE: 3},
    ),
    "a rise": (
        "sells 15, wait 4, claim, wait 3, applied",
        {},
        {Reason.DEBOUNCE: 10, Reason.QUEUE: 10, Reason.MARKETPLACE: 15},
    ),
    "a number that comes back before it was sent": (
        "sells 7, wait 2, sells 10, wait 2, claim",
        {Reason.DEBOUNCE: 6},
        {},
    ),
    "a fall in doubt": (
        "sells 5, wait 2, claim, wait 1, unknown, wait 60, claim, applied",
        {Reason.DEBOUNCE: 10, Reason.MARKETPLACE: 5, Reason.DOUBT: 300},
        {},
    ),
    "a rise in doubt": (
        "sells 15, wait 2, claim, unknown, wait 10, claim, applied, wait 60, claim, applied",
        {},
        {Reason.DEBOUNCE: 10, Reason.DOUBT: 50},
    ),
    "a higher number that may still land": (
        "sells 20, wait 2, claim, unknown, sells 15, wait 10, claim, applied, wait 80, claim, applied",
        {Reason.DOUBT: 5 * 90},
        {Reason.DEBOUNCE: 20, Reason.DOUBT: 50},
    ),
    "a lost process": (
        "sells 5, wait 2, claim, wait 4, rescue, wait 61, claim, applied",
        {Reason.DEBOUNCE: 10, Reason.MARKETPLACE: 20, Reason.DOUBT: 305},
        {},
    ),
    "a fall that was refused": (
        "sells 5, wait 2, claim, refused, wait 100",
        {Reason.DEBOUNCE: 10, Reason.PARKED: 500},
        {},
    ),
    "another number while it is parked": (
        "sells 5, wait 2, claim, refused, wait 10, sells 8, wait 10",
        {Reason.DEBOUNCE: 10, Reason.PARKED: 50 + 20},
        {},
    ),
    "an operator's retry": (
        "sells 5, wait 2, claim, refused, wait 10, retry, wait 3, claim, applied",
        {Reason.DEBOUNCE: 10, Reason.PARKED: 50, Reason.QUEUE: 15},
        {},
    ),
    "a fall while a request is in flight": (
        "sells 8, wait 2, claim, wait 1, sells 2, wait 3, applied, wait 4, claim, applied",
        {Reason.DEBOUNCE: 2 * 2, Reason.MARKETPLACE: 2 + 8 * 3, Reason.QUEUE: 6 * 4},
        {},
    ),
    "a claim that reads a newer number than the marking": (
        "sells 8, wait 4, unread 15, claim, applied",
        {Reason.DEBOUNCE: 2 * 2, Reason.QUEUE: 2 * 2},
        {},
    ),
    "a claim under other identifiers": (
        "sells 8, wait 4, renames 8, wait 4, claim, applied",
        {Reason.DEBOUNCE: 2 * 6, Reason.QUEUE: 2 * 2},
        {},
    ),
    "a request that was not sent": (
        "sells 5, wait 2, claim, wait 1, not_sent, wait 5, claim, applied",
        {Reason.DEBOUNCE: 10, Reason.MARKETPLACE: 5, Reason.QUEUE: 25},
        {},
    ),
    "a SKU that left the listing": (
        "delists, wait 3, claim, wait 2, applied",
        {Reason.QUEUE: 30, Reason.MARKETPLACE: 20},
        {},
    ),
    "a number that was never acknowledged": ("new 5, wait 20, claim, applied", {}, {}),
}
"""What happens to a SKU of which 10 were acknowledged, and what that comes to: over, and lost."""


async def play(shop: Shop, script: str) -> None:
    attempt: Attempt | None = None
    for step in script.split(", "):
        match step.split():
            case ["sells", quantity]:
                await shop.sells("A", int(quantity))
                await shop.drain()
            case ["unread", quantity]:
                await shop.sells("A", int(quantity))
            case ["renames", quantity]:
                await shop.sells("A", int(quantity), ("PN-2", "brand"))
                await shop.drain()
            case ["new", quantity]:
                await shop.sells("B", int(quantity))
                await shop.drain()
            case ["delists"]:
                await shop.delists("A")
                await shop.drain()
            case ["wait", seconds]:
                await shop.pass_time(float(seconds))
            case ["claim"]:
                attempt = next(iter((await shop.claim()).attempts), None)
            case ["rescue"]:
                await shop.ledger.rescue(shop.owner, [], timedelta(seconds=60))
            case ["retry"]:
                await Parked(shop.database, CHANNEL).retry([Sku("A")], 1)
            case [outcome]:
                assert attempt is not None, step
                await shop.complete(attempt, outcome)


def assert_agrees(found: list[float], expected: Expected, elapsed_s: float) -> None:
    """Assert that no sum is off by more than the time that the script has really taken, for the most units."""
    for place, reason in enumerate(Reason):
        assert found[place] == pytest.approx(expected.get(reason, 0), abs=10 * elapsed_s), (reason, found)


@pytest.mark.parametrize("name", SCRIPTS)
async def test_sums_are_exact_for_scripts_of_every_kind(shop: Shop, name: str) -> None:
    script, over, lost = SCRIPTS[name]
    exposure = Exposure(shop.database, UTC)
    began = clock.monotonic()
    await shop.deliver("A", 10)
    await play(shop, script)
    pending = by_sku(await exposure.since(CHANNEL, FIRST))
    while await exposure.add_up(CHANNEL) is not None:
        pass
    added_up = by_sku(await exposure.since(CHANNEL, FIRST))
    of_days = total((await exposure.by_day(CHANNEL, FIRST)).values())
    elapsed_s = clock.monotonic() - began
    assert pending.keys() | added_up.keys() <= {"A"}, "a number of which nothing is known counts"
    for found in (pending.get("A", Sums()), added_up.get("A", Sums()), of_days):
        assert_agrees(found.over, over, elapsed_s)
        assert_agrees(found.lost, lost, elapsed_s)


async def test_a_number_that_changes_while_it_waits_is_counted_in_its_row(shop: Shop) -> None:
    await shop.deliver("A", 10)
    began = clock.monotonic()
    for quantity in (9, 12, 7):
        await shop.sells("A", quantity)
        await shop.drain()
        await shop.pass_time(1)
    [sums] = (await Exposure(shop.database, UTC).since(CHANNEL, FIRST)).values()
    elapsed_s = clock.monotonic() - began
    assert sum(sums.over) == pytest.approx(1 + 3, abs=10 * elapsed_s)
    assert sum(sums.lost) == pytest.approx(2, abs=10 * elapsed_s)
    assert await shop.sql.fetchval("SELECT count(*) FROM stockrelay.exposure_log") == 0


PARKED = '[{"sku": "A", "reason": "x", "rows": 1, "identifiers": ["PN-A", "brand"], "quantity": 5}]'
RACES: dict[str, tuple[str, list[object]]] = {
    "retry_parked": ("answers", [["A"], 1.0]),
    "push": ("control", ["A"]),
    "close_settled": ("ledger", [["A"]]),
    "settle_into_sum": ("ledger", [["A"], ["A"]]),
    "park": ("ledger", [PARKED]),
    "mark": ("ledger", []),
    "note_twins": ("ledger", []),
}
"""The statements that end the segment of a row, with their parameters after the channel."""


@pytest.mark.parametrize("name", RACES)
async def test_a_segment_is_logged_once_though_another_session_changes_its_row(shop: Shop, name: str) -> None:
    await shop.deliver("A", 10)
    await play(shop, "sells 5, wait 2, claim, refused, wait 100")
    await shop.sql.execute("DELETE FROM stockrelay.exposure_log")
    await shop.sells("A", 4, ("PN-2", "brand"))
    if name == "note_twins":
        await shop.sql.execute("UPDATE stockrelay.ledger SET twins = ARRAY['B'], duplicates = 'park'")
    other = await shop.place.connect()
    async with shop.database.connection("ending a segment") as mine:
        async with other.transaction():
            await other.execute("UPDATE stockrelay.ledger SET failures = failures + 1")
            running = await begun(end_segment(shop, mine, name), shop.sql, mine.get_server_pid())
        await running
    segments = await shop.sql.fetch("SELECT unnest(segments) FROM stockrelay.exposure_log")
    assert len(segments) == 1, segments


async def end_segment(shop: Shop, connection: Connection, name: str) -> None:
    async with connection.transaction():
        match name:
            case "mark":
                await shop.ledger.mark(connection, ["A"], DEBOUNCE)
            case "note_twins":
                note = "SELECT stockrelay.note_twins($1, '[[\"PN-A\", \"brand\"]]', 'park', '0')"
                await connection.execute(note, CHANNEL)
            case _:
                file, parameters = RACES[name]
                await connection.execute(queries.load(file)[name], CHANNEL, *parameters)


async def test_replicas_that_add_up_at_once_and_one_that_is_killed_count_each_segment_once(
    shop: Shop,
) -> None:
    await shop.deliver("A", 10)
    await play(shop, "sells 5, wait 2, claim, wait 1, applied, sells 2, wait 4, claim, wait 1, applied")
    # Statements enough for several portions, so that the replicas really share them.
    await shop.sql.execute(
        "INSERT INTO stockrelay.exposure_log (channel, segments) "
        "SELECT channel, segments FROM stockrelay.exposure_log CROSS JOIN generate_series(1, 299)"
    )
    expected = total((await Exposure(shop.database, UTC).by_day(CHANNEL, FIRST)).values())
    dying = await shop.place.connect()
    transaction = dying.transaction()
    await transaction.start()
    # One has taken its portion and added nothing yet when it is killed.
    taken = await dying.fetch(queries.load("exposure")["take_segments"], CHANNEL, 100)
    assert len(taken) == 100

    async def adds_up() -> int:
        count, exposure = 0, Exposure(shop.database, UTC)
        while await exposure.add_up(CHANNEL) is not None:
            count += 1
        return count

    assert sum(await asyncio.gather(adds_up(), adds_up())) > 0
    dying.terminate()
    async with asyncio.timeout(10):
        while await shop.sql.fetchval("SELECT count(*) FROM stockrelay.exposure_log"):
            await adds_up()
    found = total((await Exposure(shop.database, UTC).by_day(CHANNEL, FIRST)).values())
    assert found.over == pytest.approx(expected.over)
    assert sum(found.over) > 0
