"""`stockrelay explain` as docs/answers.md shows it: each state is made in a real database, and its text compared.

Times differ from run to run, so both texts are compared without them. STOCKRELAY_WRITE_DOCS=1 puts the texts that were
made into the document.
"""

import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import click
import pytest

from daemon.app.explaining import explained
from daemon.commands.explain import explained_lines
from daemon.core.guard import GuardRule
from daemon.core.outcome import Conclusion, Kind, Outcome, conclude
from daemon.core.types import Sku
from daemon.settings import Settings
from daemon.store.ledger import Attempt, Completion, Debounce
from tests.settings import settings_of
from tests.store.place import Place
from tests.store.shop import CHANNEL, SETTLE, Shop, opened

DOCUMENT = Path(__file__).parents[2] / "docs" / "answers.md"
SKU = "RES-10K"
NAME = ("RC0402FR-0710KL", "YAGEO")
LISTING = (
    "SELECT sku, pn AS pn_code, brand AS brand_name, quantity - 20 AS quantity, "
    "quantity AS on_hand, 20 AS safety_stock FROM shop.goods"
)
AT_ONCE = Debounce(timedelta(0), timedelta(0), 0)
RULE = GuardRule(zero_share=0.3, zero_count=5, row_share=0.5, window=timedelta(minutes=5))
_TIME = re.compile(r"(\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d( [A-Z+\d-]+)?")
_AWAY = re.compile(r"\b(in )?\d+(\.\d)? (s|min|h|days)( ago)?\b")


def timeless(text: str) -> str:
    """The text without what differs from run to run: times, and where lines that hold them are folded."""
    return " ".join(_AWAY.sub("(away)", _TIME.sub("(time)", text)).split())


def settings(place: Place) -> Settings:
    return settings_of(
        {
            "database": {"dsn": place.dsn()},
            "watch": [{"table": "shop.goods", "sku": "sku"}],
            "channels": {"sekorm": {"account": "a", "app_secret": "s", "listing": LISTING}},
        }
    )


@pytest.fixture
async def goods(place: Place) -> AsyncIterator[Shop]:
    """A shop that keeps twenty of everything back; the marketplace holds 480 of our SKU."""
    async with opened(place, LISTING, guard=RULE) as shop:
        await shop.take()
        await shop.resync()
        yield shop


async def pass_time(shop: Shop, seconds: float) -> None:
    """All of it happened so much earlier, the log and the guard's holding included."""
    await shop.pass_time(seconds)
    ago = timedelta(seconds=seconds)
    await shop.sql.execute("UPDATE stockrelay.attempt SET at = at - $1::interval", ago)
    await shop.sql.execute("UPDATE stockrelay.ledger SET held_at = held_at - $1::interval", ago)


async def ended(shop: Shop, attempt: Attempt, conclusion: Conclusion, took_ms: float) -> None:
    done = Completion(
        attempt.push.sku, attempt.slot, attempt.attempt_id, conclusion, timedelta(milliseconds=took_ms)
    )
    await shop.ledger.complete(shop.owner.holder, [done], SETTLE)


async def marked(shop: Shop, on_hand: int) -> None:
    """The ERP's number changes, and is read."""
    await shop.sells(SKU, on_hand, NAME)
    await shop.drain()


async def claimed(shop: Shop, on_hand: int) -> Attempt:
    """... and its debounce is over."""
    await marked(shop, on_hand)
    await pass_time(shop, 20)
    return await shop.claim_one()


async def in_sync(shop: Shop) -> None:
    await ended(shop, await claimed(shop, 500), Conclusion("applied", ""), 38)
    await pass_time(shop, 45)


async def debouncing(shop: Shop) -> None:
    await in_sync(shop)
    await pass_time(shop, 600)
    await marked(shop, 470)


async def in_doubt(shop: Shop) -> None:
    await in_sync(shop)
    await pass_time(shop, 600)
    lost = Conclusion("unknown", "no complete answer in time (TimeoutError)", wait=timedelta(0))
    await ended(shop, await claimed(shop, 470), lost, 5000)
    await pass_time(shop, 6)
    await ended(shop, await shop.claim_one(), Conclusion("applied", ""), 41)
    await pass_time(shop, 2)


async def parked(shop: Shop) -> None:
    await in_sync(shop)
    await pass_time(shop, 600)
    await marked(shop, 470)
    for tries in range(1, 6):
        await pass_time(shop, 20)
        outcome = Outcome(Kind.UNKNOWN, "-1 pn not found")
        conclusion = conclude(
            outcome, failures=tries - 1, is_delisting=False, do_others_pass=True, park_after=5, jitter=0
        )
        await ended(shop, await shop.claim_one(), conclusion, 30 + tries)
    await pass_time(shop, 300)


async def held(shop: Shop) -> None:
    await in_sync(shop)
    await shop.sql.execute(
        "INSERT INTO shop.goods SELECT 'RES-' || i, 'RC-' || i, 'YAGEO', 120 FROM generate_series(1, 39) AS i"
    )
    await shop.drain(AT_ONCE)
    for attempt in (await shop.claim()).attempts:
        await ended(shop, attempt, Conclusion("applied", ""), 30)
    await pass_time(shop, 600)
    await shop.sql.execute("UPDATE shop.goods SET quantity = 0")
    await shop.drain()
    await pass_time(shop, 90)


async def delisted(shop: Shop) -> None:
    await in_sync(shop)
    await pass_time(shop, 600)
    await shop.delists(SKU)
    await shop.drain()


STATES: dict[str, Callable[[Shop], Awaitable[None]]] = {
    "in sync": in_sync,
    "debouncing": debouncing,
    "in doubt": in_doubt,
    "parked": parked,
    "held by the guard": held,
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
    text = click.unstyle("\n".join(explained_lines(answer))) + "\n"
    assert f"sekorm: {state}\n" in text
    if os.environ.get("STOCKRELAY_WRITE_DOCS") == "1":
        place = shown(state)
        whole = place.string
        DOCUMENT.write_text(whole[: place.start(2)] + text + whole[place.end(2) :], "utf-8")
    assert timeless(shown(state)[2]) == timeless(text)
