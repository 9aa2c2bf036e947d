"""A signal ends the daemon within its grace and a little, whatever it waits for just then."""

import asyncio
import time

import asyncpg
import pytest

from tests.acceptance.harness import Stage
from tests.acceptance.proxy import Proxy

GRACE_S = 2.0
BOUND_S = GRACE_S + 12.0
"""Everything has its grace; then what still waits for the database is cut off, which has a few seconds, too."""


def _through(stage: Stage, proxy: Proxy) -> dict[str, str]:
    server = stage.database.server
    return {"dsn": stage.database.dsn.replace(f":{server.port}/", f":{proxy.port}/")}


@pytest.fixture
def grace() -> dict[str, float]:
    return {"grace_s": GRACE_S}


async def test_stopped_while_the_database_is_silent_it_ends(stage18: Stage, grace: dict[str, float]) -> None:
    async with Proxy(stage18.database.server.port) as proxy:
        stage18.configure(database=_through(stage18, proxy), run=grace)
        replica = await stage18.running(20)
        since = replica.mark()
        proxy.swallow()
        await replica.wait_for("slots.leases_not_renewed", since=since)
        began = time.monotonic()
        assert await replica.stop(timeout=90) == 0
        assert time.monotonic() - began < BOUND_S
        proxy.heal()


async def test_stopped_while_a_listing_waits_for_a_lock_it_ends(
    stage18: Stage, grace: dict[str, float]
) -> None:
    stage18.configure(run=grace)
    replica = await stage18.running(20)
    locker = await asyncpg.connect(stage18.database.dsn)
    try:
        async with locker.transaction():
            await locker.execute("LOCK TABLE erp.stock IN ACCESS EXCLUSIVE MODE")
            async with asyncio.timeout(20):
                while not await locker.fetchval(
                    "SELECT count(*) FROM pg_locks WHERE relation = 'erp.stock'::regclass AND NOT granted"
                ):
                    await stage18.erp.execute("SELECT pg_notify('stockrelay', 'resync')")
                    await asyncio.sleep(0.1)
            began = time.monotonic()
            assert await replica.stop(timeout=90) == 0
            assert time.monotonic() - began < BOUND_S
    finally:
        locker.terminate()
