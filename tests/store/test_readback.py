"""What a reading of everything keeps of any answer: bounded, no repeats, malformed things aside."""

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from daemon.core.outcome import Outcome
from daemon.core.readback import SPARE, ReadPage, ReadSku
from daemon.marketplaces.client import ReadsBack
from daemon.services.reconcile.reading import ReadRun
from daemon.services.reconcile.session import ReconcileLimits, Session
from daemon.settings.sections import Reconcile
from daemon.store.database import Database
from daemon.store.reconcile_rows import ReconcileRun
from tests.store.place import Place
from tests.store.test_reconcile import LEASE, Night, sku

LIMITS = ReconcileLimits(
    Reconcile.model_construct(settle_s=0, patience_s=0, rate_per_s=100_000, chunk=100, timezone="UTC"),
    lease=LEASE,
    timeout=timedelta(seconds=5),
    heal_per_s=1,
)


class Shown:
    """A marketplace that shows page after page as `page` makes them."""

    def __init__(self, page: Callable[[int], ReadPage]) -> None:
        self._page = page
        self.asked: list[int] = []

    async def read_page(self, number: int, timeout: timedelta) -> ReadPage | Outcome:  # noqa: ARG002 - the port
        self.asked.append(number)
        return self._page(number)


@pytest.fixture
async def night(place: Place) -> AsyncIterator[Night]:
    database = Database(place.options(), 4)
    await database.open()
    try:
        yield Night(database, await place.connect())
    finally:
        await database.close()


async def read(night: Night, shown: Shown) -> tuple[ReconcileRun, str | None]:
    run = await night.begun(is_reading=True)
    session = Session(run, night.runs, night.reading, LIMITS, lambda _progress: None)
    return run, await ReadRun(session, ReadsBack(shown.read_page)).look()


async def kept(night: Night) -> int:
    number: int = await night.sql.fetchval("SELECT count(*) FROM stockrelay.reconcile_read")
    return number


def pages(*found: Sequence[ReadSku], total: int, set_aside: int = 0) -> Callable[[int], ReadPage]:
    """These pages, and empty ones beyond them; `set_aside` on the first."""

    def page(number: int) -> ReadPage:
        skus = tuple(found[number - 1]) if number <= len(found) else ()
        aside = set_aside if number == 1 else 0
        return ReadPage(total, len(skus) + aside, skus, aside, "a product is no object" if aside else "")

    return page


async def test_a_page_that_comes_again_and_again_is_kept_once_and_ends_the_reading(night: Night) -> None:
    await night.holds("same", "other", "absent")
    page = (sku("same"), sku("other", 9), *(sku(f"stranger {n}", 0) for n in range(98)))
    shown = Shown(lambda _number: ReadPage(10**9, 100, page))
    run, why = await read(night, shown)
    assert why == "page 2 of the marketplace's products is not read: it repeats another page"
    assert shown.asked == [1, 2, 1], "and the page that differs once more"
    assert await kept(night) == 100
    assert await night.found(run, 2) == {("marketplace_differs", "other", True)}


async def test_a_shop_without_end_costs_no_more_than_twice_our_own_and_a_margin(night: Night) -> None:
    await night.holds("A")
    shown = Shown(lambda number: ReadPage(10**9, 1, tuple(sku(f"{number}-{n}", 0) for n in range(6_000))))
    _, why = await read(night, shown)
    assert why == (
        f"page 4 of the marketplace's products is not read: there is more than {SPARE + 2} numbers, with names of 128 "
        "characters, can be"
    )
    assert await kept(night) == 18_000


async def test_a_malformed_product_is_counted_and_what_it_may_be_is_not_missing(night: Night) -> None:
    await night.holds("same", "other", "absent")
    shown = Shown(pages([sku("same"), sku("other", 9), ReadSku(None, 3, "P-9"), ReadSku(None, 0, "P-8")],
                        total=6, set_aside=2))  # fmt: skip
    with capture_logs() as lines:
        run, why = await read(night, shown)
    assert why is None
    assert await night.found(run, 2) == {("marketplace_differs", "other", True)}
    (line,) = [line for line in lines if line["event"] == "reconcile.products_set_aside"]
    assert (line["page"], line["set_aside"], line["reason"]) == (1, 2, "a product is no object")
    assert (await night.runs.progress(run, 1)).set_aside == 2
    found = await night.reading.without_identifier(run, 10)
    assert (found.skus, found.products) == (1, ("P-9",))


async def test_where_nothing_can_be_read_the_reading_says_so(night: Night) -> None:
    await night.holds("A")
    _, why = await read(night, Shown(pages([], total=2, set_aside=2)))
    assert why == "none of the marketplace's 2 products could be read"
