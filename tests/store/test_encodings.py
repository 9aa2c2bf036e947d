"""Databases that are not UTF-8: only the SKU or the marketplace's words that the encoding lacks are set aside."""

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from itertools import count
from typing import Final

import pytest

from daemon.core.notice import GUARD_QUESTION, Notice
from daemon.core.outcome import Conclusion, Kind, Outcome, Trouble
from daemon.core.types import Sku
from daemon.demo.postgres import PostgresServer
from daemon.store.foreign_text import storable
from daemon.store.ledger import Completion, Debounce
from daemon.store.migrate import migration_sql
from daemon.store.outbox import Outbox
from daemon.store.parked import Parked
from tests.store.place import SHOP, WATCHES, Place
from tests.store.shop import CHANNEL, SETTLE, Shop, opened

NO_QUIET: Final = Debounce(timedelta(0), timedelta(0), 0)
# Bytes that the encoding takes and that are no text, or no text that comes back as the same bytes.
GARBLED: Final = {"SQL_ASCII": r"\xb5c2d6dd", "EUC_CN": r"\xaaa1", "EUC_JP": r"\xf5a1"}
WORDS: Final = "庫存錯誤 😀 \0 \ud800 ok"
_numbers = count(1)


def _place(server: PostgresServer, encoding: str) -> Iterator[Place]:
    name = f"encoded_{next(_numbers)}"
    server.run_sql(
        f"CREATE DATABASE {name} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    )
    server.run_sql(SHOP + migration_sql(WATCHES, has_doorbell=True), name)
    yield Place(server, name)
    server.run_sql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=GARBLED)
def encoded(request: pytest.FixtureRequest, server: PostgresServer) -> Iterator[tuple[Place, str]]:
    """A database of another encoding, and bytes in it that are no text."""
    for place in _place(server, request.param):
        garbled = GARBLED[request.param]
        yield place, f"convert_from('{garbled}'::bytea, '{request.param}')"


@pytest.fixture(params=["LATIN1", "EUC_CN"])
async def shop(request: pytest.FixtureRequest, server18: PostgresServer) -> AsyncIterator[Shop]:
    """A shop in a database that lacks most characters."""
    for place in _place(server18, request.param):
        async with opened(place) as shop:
            await shop.take()
            yield shop
        await place.close()


async def test_a_sku_or_an_identifier_that_is_no_text_stops_no_reading(encoded: tuple[Place, str]) -> None:
    place, garbled = encoded
    async with opened(place) as shop:
        await shop.take()
        await shop.sells("A", 5)
        await shop.sql.execute(f"INSERT INTO shop.goods VALUES ({garbled} || '-1', 'PN-1', 'AMS', 5)")
        await shop.sql.execute(f"INSERT INTO shop.goods VALUES ('B', {garbled}, 'AMS', 5)")
        drained = await shop.drain(NO_QUIET)
        assert (drained.failed, drained.rows_failed, drained.marked.rows) == (None, None, 2)
        assert [one.sku[-2:] for one in drained.refused] == ["-1"]
        assert drained.refused[0].sku.isascii()
        claim = await shop.claim()
        assert [one.push.sku for one in claim.attempts] == ["A"]
        assert "no text" in claim.parked[Sku("B")]
        await shop.complete(claim.attempts[0], "applied")
        parked = await Parked(shop.database, CHANNEL).all(10, with_discarded=True)
        assert [one.sku for one in parked] == ["B"]
        drained = await shop.resync(NO_QUIET)
        assert (drained.marked.rows, [one.sku[-2:] for one in drained.refused]) == (0, ["-1"])
        assert (await shop.sync())[1] == 1, "what was acknowledged before it"
        # A row that fails on its bytes has words that are no text either.
        await shop.sql.execute("UPDATE shop.goods SET pn = 'PN-B' WHERE sku = 'B'")
        await shop.drain(NO_QUIET)
        assert [one.push.sku for one in (await shop.claim()).attempts] == ["B"]
        await shop.sql.execute(f"INSERT INTO shop.goods VALUES ('C', 'PN-C', 'AMS', 5, {garbled})")
    listing = "SELECT sku, pn AS pn_code, brand AS brand_name, coalesce(note::integer, 1) AS quantity FROM shop.goods"
    async with opened(place, listing) as other:
        other.owner = shop.owner
        drained = await other.drain(NO_QUIET)
        assert (drained.failed, drained.marked.rows) == (None, 1)
        assert (await other.claim()).parked[Sku("C")].isascii()
    await place.close()


async def test_outcomes_are_written_whatever_words_the_marketplace_used(shop: Shop) -> None:
    for sku in ("A", "B", "C"):
        await shop.sells(sku, 5)
    await shop.drain(NO_QUIET)
    attempts = (await shop.claim()).attempts
    words = {"A": "", "B": WORDS, "C": "plain"}
    done = [
        Completion(
            one.push.sku,
            one.slot,
            one.attempt_id,
            Conclusion(
                "refused" if one.push.sku == "B" else "applied", words[one.push.sku], one.push.sku == "B"
            ),
            timedelta(milliseconds=1),
        )
        for one in attempts
    ]
    assert len((await shop.ledger.complete(shop.owner.holder, done, SETTLE)).took_s) == 2
    reason = (await shop.row("B"))["parked_reason"]
    assert reason.endswith("ok")
    assert r"\u5eab" in reason
    if "EUC_CN" in str(await shop.sql.fetchval("SELECT getdatabaseencoding()")):
        assert "存" in reason, "what the encoding has is kept"


async def test_notices_troubles_and_names_read_back_are_kept_whatever_they_hold(shop: Shop) -> None:
    assert await Outbox(shop.database).post(Notice(GUARD_QUESTION, f"key {WORDS}", CHANNEL, {WORDS: [WORDS]}))
    await shop.trouble(Outcome(Kind.TROUBLE, WORDS, Trouble.CREDENTIAL, advice=WORDS))
    assert r"\u5eab" in (await shop.leases.troubles())[0].reason
    async with shop.database.transaction("storing") as connection:
        kept = await storable(connection, ["😀", None, "A"])
        assert kept == [r"\U0001f600", None, "A"]
        assert await connection.fetchval("SELECT 1") == 1, "the transaction goes on"
