"""A marketplace's token, shared by replicas (clause S04)."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from cryptography.fernet import Fernet

from daemon.store.database import Database
from daemon.store.tokens import Tokens
from tests.channels import SEKORM
from tests.store.place import Connection, Place

HOUR = timedelta(hours=1)
HOLD = timedelta(seconds=10)


@pytest.fixture
async def pool(place: Place) -> AsyncIterator[Database]:
    """The pool of a store."""
    database = Database(place.options(), 4)
    await database.open()
    yield database
    await database.close()


def tokens(database: Database, key: bytes | None = None) -> Tokens:
    return Tokens(database, SEKORM, None if key is None else key.decode())


async def test_there_is_none_before_the_first(pool: Database) -> None:
    assert await tokens(pool).load() is None


async def test_a_token_is_shared_and_known_by_its_generation(pool: Database) -> None:
    one, two = tokens(pool), tokens(pool)
    assert await one.begin_refresh(0, HOLD)
    saved = await one.save("secret-1", HOUR)
    found = await two.load()
    assert found is not None
    assert (found.value, found.generation) == ("secret-1", 1) == (saved.value, saved.generation)
    assert timedelta(minutes=59) < found.remaining <= HOUR
    assert (await two.save("secret-2", HOUR)).generation == 2


async def test_one_of_many_refreshes_at_a_time(pool: Database) -> None:
    won = await asyncio.gather(*(tokens(pool).begin_refresh(0, HOLD) for _ in range(8)))
    assert won.count(True) == 1
    assert not await tokens(pool).begin_refresh(0, HOLD)


async def test_who_has_not_seen_the_newest_does_not_refresh(pool: Database) -> None:
    store = tokens(pool)
    await store.save("secret-1", HOUR)
    assert not await store.begin_refresh(0, HOLD)
    assert await store.begin_refresh(1, HOLD), "ahead of its end"
    await store.save("secret-2", HOUR)
    assert not await store.begin_refresh(1, HOLD)


async def test_a_refresh_whose_process_died_is_taken_over(pool: Database, sql: Connection) -> None:
    store = tokens(pool)
    assert await store.begin_refresh(0, HOLD)
    await sql.execute("UPDATE stockrelay.token SET refresh_until = clock_timestamp() - interval '1 ms'")
    assert await store.begin_refresh(0, HOLD)


async def test_a_refresh_that_failed_is_not_repeated_before_its_time(pool: Database, sql: Connection) -> None:
    store = tokens(pool)
    assert await store.begin_refresh(0, HOLD)
    await store.fail_refresh(timedelta(seconds=30))
    assert not await store.begin_refresh(0, HOLD)
    await sql.execute("UPDATE stockrelay.token SET refresh_until = refresh_until - interval '31 s'")
    assert await store.begin_refresh(0, HOLD)


async def test_a_token_that_ran_out_is_none_and_is_refreshed(pool: Database, sql: Connection) -> None:
    store = tokens(pool)
    await store.save("secret", HOUR)
    await sql.execute("UPDATE stockrelay.token SET expires_at = clock_timestamp()")
    assert await store.load() is None
    assert await store.begin_refresh(0, HOLD)


async def test_only_the_generation_that_was_refused_is_dropped(pool: Database) -> None:
    store = tokens(pool)
    await store.save("secret-1", HOUR)
    await store.save("secret-2", HOUR)
    await store.invalidate(1)
    found = await store.load()
    assert found is not None
    assert found.value == "secret-2"
    await store.invalidate(2)
    assert await store.load() is None
    assert await store.begin_refresh(0, HOLD)
    assert (await store.save("secret-3", HOUR)).generation == 3, "a generation is never used twice"


async def test_with_a_key_the_value_is_not_in_the_database(pool: Database, sql: Connection) -> None:
    key = Fernet.generate_key()
    await tokens(pool, key).save("secret", HOUR)
    stored = await sql.fetchval("SELECT value FROM stockrelay.token")
    assert "secret" not in stored
    found = await tokens(pool, key).load()
    assert found is not None
    assert found.value == "secret"
    assert "secret" not in repr(found)


@pytest.mark.parametrize(("writer", "reader"), [("plain", "key"), ("key", "plain"), ("other", "key")])
async def test_a_token_that_cannot_be_read_is_none_and_is_fetched_anew(
    pool: Database, writer: str, reader: str
) -> None:
    keys = {"plain": None, "key": Fernet.generate_key(), "other": Fernet.generate_key()}
    await tokens(pool, keys[writer]).save("secret", HOUR)
    store = tokens(pool, keys[reader])
    assert await store.load() is None
    assert await store.begin_refresh(0, HOLD), "or no replica could work until the unreadable one has expired"
    await store.save("new", HOUR)
    found = await store.load()
    assert found is not None
    assert found.value == "new"
