"""`stockrelay explain` as docs/answers.md shows it: each state is made in a real database, and its text compared.

Times differ from run to run, so both texts are compared without them. STOCKRELAY_WRITE_DOCS=1 puts the texts that were
made into the document.
"""

import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest

from daemon.commands.explain import explained
from daemon.core.conclusion import Conclusion
from daemon.core.types import Sku
from daemon.settings import Settings
from daemon.store.ledger import Attempt, Completion
from tests.store.place import Place
from tests.store.shop import CHANNEL, SETTLE, Shop, opened

DOCUMENT = Path(__file__).parents[2] / "docs" / "answers.md"
SKU = "RES-10K"
NAME = ("RC0402FR-0710KL", "YAGEO")
LISTING = (
    "SELECT sku, pn AS pn_code, brand AS brand_name, quantity - 20 AS quantity, quantity AS on_hand, 20 AS safety_stock "
    "FROM shop.goods"
)
_TIME = re.compile(r"(\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d( [A-Z+\d-]+)?")
_AWAY = re.compile(r"\b(in )?\d+(\.\d)? (s|min|h|days)( ago)?\b")


def timeless(text: str) -> str:
    """The text without what differs from run to run."""
    return re.sub(r"attempt \d+", "attempt N", _AWAY.sub("(away)", _TIME.sub("(time)", text)))


def settings(place: Place) -> Settings:
    return Settings.model_validate(
        {
            "database": {"dsn": place.dsn()},
            "watch": [{"table": "shop.goods", "sku": "sku"}],
            "channels": {"sekorm": {"account": "a", "app_secret": "s", "listing": LISTING}},
        }
    )


@pytest.fixture
async def goods(place: Place) -> AsyncIterator[Shop]:
    """A shop that keeps twenty of everything back; the partner holds 480 of our SKU."""
    async with opened(place, LISTING) as shop:
        await shop.take()
        yield shop


async def ended(shop: Shop, attempt: Attempt, conclusion: Conclusion, took_ms: float) -> None:
    done = Completion(attempt.push.sku, attempt.attempt_id, conclusion, timedelta(milliseconds=took_ms))
    await shop.ledger.complete(shop.owner, [done], SETTLE)


async def marked(shop: Shop, on_hand: int) -> None:
    """The ERP's number changes, and is read."""
    await shop.sells(SKU, on_hand, NAME)
    await shop.drain()


async def claimed(shop: Shop, on_hand: int) -> Attempt:
    """... and its debounce is over."""
    await marked(shop, on_hand)
    await shop.pass_time(20)
    return await shop.claim_one()


async def in_sync(shop: Shop) -> None:
    await ended(shop, await claimed(shop, 500), Conclusion("applied", ""), 38)


async def debouncing(shop: Shop) -> None:
    await in_sync(shop)
    await shop.pass_time(600)
    await marked(shop, 470)


async def in_doubt(shop: Shop) -> None:
    await in_sync(shop)
    await shop.pass_time(600)
    lost = Conclusion("unknown", "no complete answer in time (TimeoutError)", wait=timedelta(0))
    await ended(shop, await claimed(shop, 470), lost, 5000)
    await shop.pass_time(1)
    await ended(shop, await shop.claim_one(), Conclusion("applied", ""), 41)


async def parked(shop: Shop) -> None:
    await in_sync(shop)
    await shop.pass_time(600)
    why = "failed 5 times in a row while others passed: code -1: pn not found"
    await ended(shop, await claimed(shop, 470), Conclusion("unknown", why, is_parked=True), 36)
    await shop.pass_time(SETTLE.total_seconds())


async def delisted(shop: Shop) -> None:
    await in_sync(shop)
    await shop.pass_time(600)
    await shop.delists(SKU)
    await shop.drain()


STATES: dict[str, Callable[[Shop], Awaitable[None]]] = {
    "in sync": in_sync,
    "debouncing": debouncing,
    "in doubt": in_doubt,
    "parked": parked,
    "delisted": delisted,
}


def shown(state: str) -> re.Match[str]:
    """Where the document shows that state."""
    found = re.search(
        rf"<!-- explain: {state} -->\n```text\n(\$ [^\n]*\n)(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL
    )
    assert found is not None, f"docs/answers.md does not show {state!r}"
    return found


@pytest.mark.parametrize("state", STATES)
async def test_the_document_shows_what_the_command_prints(goods: Shop, state: str) -> None:
    await STATES[state](goods)
    answer = await explained(settings(goods.place), Sku(SKU), CHANNEL, 3)
    text = "\n".join(answer.lines()) + "\n"
    assert f"sekorm: {state}\n" in text
    if os.environ.get("STOCKRELAY_WRITE_DOCS") == "1":
        place = shown(state)
        whole = place.string
        DOCUMENT.write_text(whole[: place.start(2)] + text + whole[place.end(2) :], "utf-8")
    assert timeless(shown(state)[2]) == timeless(text)
