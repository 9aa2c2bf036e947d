"""Databases with our schema, on PostgreSQL 18 and 15.

`place` is a database that the tests share, emptied before each; `fresh` is a copy for one test that breaks our schema;
`empty` has no schema of ours. `shop` is a listing with a ledger over it.
"""

from collections.abc import AsyncIterator
from itertools import count

import asyncpg
import pytest

from daemon.demo.postgres import PostgresServer
from daemon.store.migrate import migration_sql
from tests.store.place import RESET, SHOP, WATCHES, Connection, Place
from tests.store.roles import Roles, make_roles
from tests.store.shop import Shop, opened

_TEMPLATE = "template_shop"
_SHARED = "shop"
_numbers = count(1)


@pytest.fixture(scope="session")
def _prepared() -> dict[int, PostgresServer]:
    """The servers that have the template, by their processes."""
    return {}


@pytest.fixture
def store_server(server: PostgresServer, _prepared: dict[int, PostgresServer]) -> PostgresServer:
    """A server with the template and the shared database."""
    if id(server) not in _prepared:
        server.run_sql(f"CREATE DATABASE {_TEMPLATE}")
        server.run_sql(SHOP + migration_sql(WATCHES, has_doorbell=True), _TEMPLATE)
        server.run_sql(f"CREATE DATABASE {_SHARED} TEMPLATE {_TEMPLATE}")
        _prepared[id(server)] = server
    return server


@pytest.fixture
async def place(store_server: PostgresServer) -> AsyncIterator[Place]:
    """The shared database, as if it were new."""
    place = Place(store_server, _SHARED)
    try:
        connection = await place.connect()
        await _empty(connection)
        # A backend that is new reads much of the catalogue: the test goes on with this one.
        place.spare = connection
        yield place
    finally:
        await place.close()


async def _empty(connection: Connection) -> None:
    """Setting the triggers waits 300 ms for a lock, and a session of the last test may take longer to end."""
    for is_last in (*[False] * 20, True):
        try:
            await connection.execute(RESET)
        except asyncpg.LockNotAvailableError:
            if is_last:
                raise
            await connection.execute("ROLLBACK")
        else:
            return


@pytest.fixture
async def fresh(store_server: PostgresServer) -> AsyncIterator[Place]:
    """A database of its own, with our schema."""
    name = f"fresh_{next(_numbers)}"
    store_server.run_sql(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE}")
    store_server.run_sql(RESET, name)
    place = Place(store_server, name)
    yield place
    await place.close()
    store_server.run_sql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def empty(server: PostgresServer) -> AsyncIterator[Place]:
    """A database without our schema, with the shop in it."""
    name = f"empty_{next(_numbers)}"
    server.run_sql(f"CREATE DATABASE {name}")
    server.run_sql(SHOP, name)
    place = Place(server, name)
    yield place
    await place.close()
    server.run_sql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def roles(empty: Place) -> Roles:
    """An ERP with roles; none of them, nor of ours, is a superuser."""
    return make_roles(empty)


@pytest.fixture
async def sql(place: Place) -> Connection:
    """A session of the superuser."""
    return await place.connect()


@pytest.fixture
async def shop(place: Place) -> AsyncIterator[Shop]:
    """A listing with a ledger over it; every slot is ours."""
    async with opened(place) as shop:
        await shop.take()
        yield shop
