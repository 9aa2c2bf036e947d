"""A channel's rows describe one account at one marketplace, and follow it to another name."""

import asyncio
from datetime import timedelta

import pytest

from daemon.core.errors import ConfigError, StoreUnavailable
from daemon.core.types import ChannelName
from daemon.store.accounts import Accounts, known_channels
from daemon.store.control import Pauses
from tests.store.shop import CHANNEL, SETTLE, Shop

NEW = ChannelName("renamed")
OTHER = ChannelName("other")


async def takes(shop: Shop, channel: ChannelName, account: str, marketplace: str = "sekorm") -> None:
    """Alone in the configuration, the channel begins with that account."""
    await Accounts(shop.database).take(channel, marketplace, account, [channel], 1000.0, SETTLE)


async def skus(shop: Shop, channel: ChannelName) -> dict[str, bool]:
    """The channel's SKUs, and whether their numbers are in doubt."""
    rows = await shop.sql.fetch(
        "SELECT sku, doubt_at IS NOT NULL AS is_doubted FROM stockrelay.ledger WHERE channel = $1", channel
    )
    return {row["sku"]: row["is_doubted"] for row in rows}


async def delivered(shop: Shop) -> None:
    """The marketplace has acknowledged A and B, and the daemon has ended."""
    for sku in ("A", "B"):
        await shop.sells(sku, 5)
    await shop.drain()
    await shop.pass_time(3)
    for attempt in (await shop.claim()).attempts:
        await shop.complete(attempt, "applied")
    await takes(shop, CHANNEL, "one")
    await shop.give_up(shop.owner)


async def test_a_channel_under_another_name_takes_its_rows_and_its_pause_along(shop: Shop) -> None:
    await delivered(shop)
    await Pauses(shop.database).pause(CHANNEL, "somebody", "their maintenance")
    await takes(shop, NEW, "one")
    assert (await skus(shop, CHANNEL), await skus(shop, NEW)) == ({}, {"A": False, "B": False})
    assert list(await Pauses(shop.database).all()) == [NEW]
    epochs = await shop.sql.fetch("SELECT channel, max(epoch) FROM stockrelay.lease GROUP BY channel")
    assert [tuple(row) for row in epochs] == [(NEW, 1)], (
        "the next owner has a higher epoch than every attempt"
    )


async def test_a_channel_that_gets_its_old_name_back_has_the_newer_rows(shop: Shop) -> None:
    await delivered(shop)
    await shop.sql.execute(
        "INSERT INTO stockrelay.ledger (channel, sku, want_seq, listed_rows, listed_identifiers) "
        "SELECT $1, sku, want_seq, listed_rows, listed_identifiers FROM stockrelay.ledger WHERE sku = 'A'",
        NEW,
    )
    await shop.sql.execute("INSERT INTO stockrelay.channel_account VALUES ($1, 'sekorm', 'old')", NEW)
    await takes(shop, NEW, "one")
    assert await skus(shop, NEW) == {"A": False, "B": False}
    await takes(shop, CHANNEL, "one")
    assert (await skus(shop, CHANNEL), await skus(shop, NEW)) == ({"A": False, "B": False}, {})


async def test_another_account_is_sent_every_number(shop: Shop) -> None:
    await delivered(shop)
    await takes(shop, CHANNEL, "two")
    assert await skus(shop, CHANNEL) == {"A": True, "B": True}
    await takes(shop, CHANNEL, "two")
    row = await shop.sql.fetchrow(
        "SELECT account FROM stockrelay.channel_account WHERE channel = $1", CHANNEL
    )
    assert row is not None
    assert row["account"] == "two"


async def test_a_channel_that_lost_its_account_to_another_is_sent_every_number_when_it_returns(
    shop: Shop,
) -> None:
    await delivered(shop)
    accounts = Accounts(shop.database)
    # Switched off, and still in the configuration: it was not renamed.
    await accounts.take(OTHER, "sekorm", "one", [CHANNEL, OTHER], 1000.0, SETTLE)
    assert await skus(shop, CHANNEL) == {"A": False, "B": False}
    await accounts.take(CHANNEL, "sekorm", "one", [CHANNEL, OTHER], 1000.0, SETTLE)
    assert await skus(shop, CHANNEL) == {"A": True, "B": True}


async def test_the_rows_of_another_marketplace_are_refused_and_kept(shop: Shop) -> None:
    await delivered(shop)
    with pytest.raises(ConfigError, match=r"channels\.sekorm\.marketplace = \"webhook\".*another name"):
        await takes(shop, CHANNEL, "two", "webhook")
    assert await skus(shop, CHANNEL) == {"A": False, "B": False}
    known = await known_channels(shop.database.connection)
    assert [(one.channel, one.marketplace, one.skus) for one in known] == [(CHANNEL, "sekorm", 2)]


async def test_a_channel_waits_while_its_old_name_is_served(shop: Shop) -> None:
    await delivered(shop)
    await shop.take("two")
    with pytest.raises(StoreUnavailable, match="which a daemon serves still"):
        await takes(shop, NEW, "one")
    assert (await skus(shop, CHANNEL), await skus(shop, NEW)) == ({"A": False, "B": False}, {})


async def test_replicas_that_begin_at_once_with_the_new_name_move_the_rows_once(shop: Shop) -> None:
    await delivered(shop)
    async with asyncio.timeout(timedelta(seconds=20).total_seconds()):
        await asyncio.gather(*(takes(shop, NEW, "one") for _ in range(4)))
    assert (await skus(shop, CHANNEL), await skus(shop, NEW)) == ({}, {"A": False, "B": False})
