"""Notices in the database: kept once, taken by one replica, ended by that one."""

from collections.abc import AsyncIterator

import pytest

from daemon.core.notice import CHANNEL_TROUBLE, Notice
from daemon.store.database import Database
from daemon.store.outbox import Outbox, post_within
from tests.channels import SEKORM
from tests.store.place import Connection, Place


@pytest.fixture
async def database(place: Place) -> AsyncIterator[Database]:
    database = Database(place.options(), 4)
    await database.open()
    yield database
    await database.close()


@pytest.fixture
def outbox(database: Database) -> Outbox:
    return Outbox(database)


def notice(key: str, kind: str = CHANNEL_TROUBLE, **data: object) -> Notice:
    return Notice(kind, key, SEKORM, data)


async def test_of_notices_with_one_key_the_first_is_kept(outbox: Outbox, sql: Connection) -> None:
    assert await outbox.post(notice("a", reason="first"))
    assert not await outbox.post(notice("a", reason="second"))
    assert await sql.fetchval("SELECT data ->> 'reason' FROM stockrelay.notice") == "first"


async def test_a_notice_goes_with_the_transaction_it_is_posted_in(
    outbox: Outbox, database: Database, sql: Connection
) -> None:
    async def post_and_fail() -> None:
        async with database.transaction("trying") as connection:
            assert await post_within(connection, notice("a"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await post_and_fail()
    assert await sql.fetchval("SELECT count(*) FROM stockrelay.notice") == 0
    assert await outbox.post(notice("a"))


async def test_what_a_marketplace_says_can_be_kept_whatever_it_is(outbox: Outbox, sql: Connection) -> None:
    assert await outbox.post(notice("a", words="\0\ud800 余额 \\u0000", rows=[{"sku": "\0"}]))
    assert await sql.fetchval("SELECT data ->> 'words' FROM stockrelay.notice") == "\ufffd? 余额 \\u0000"
