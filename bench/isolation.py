"""One channel's sell-outs while the other's listing is slow, or a table of it locked."""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

from bench.captures import LISTING, OURS, make_stock
from bench.marketplaces import SimulatedMarketplaces, simulated_marketplaces
from bench.place import CONDITIONS, Connection, Place, connected, daemon_setup
from bench.results import Promise, Result, Row
from daemon.simulator import SimulatorSettings
from daemon.simulator.marketplaces.ymatou.settings import YmatouShop

NAME: Final = "isolation"
_SKUS: Final = 500
_CALM: Final = "the other channel well"
_SLOW: Final = "its listing takes 6 s"
_LOCKED: Final = "its table is locked"
_BLOCK: Final = 25
_BLOCKS: Final = 8
_SPACING_S: Final = 0.04
_ARRIVE_S: Final = 30.0
_OTHER: Final = (
    "SELECT sku, sku AS outer_sku_id, on_hand AS quantity FROM erp.stock "
    "WHERE (SELECT pg_sleep(s) FROM erp.pace) IS NOT NULL AND (SELECT count(*) FROM erp.prices) >= 0"
)
_BUSY: Final = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"


async def measure(place: Place) -> Result:
    """Blocks of single sell-outs, in turn while all is well and while the other channel is in trouble."""
    dsn = place.database(NAME)
    blocks = max(2, round(_BLOCKS * place.size.scale))
    found: dict[str, list[float]] = {_CALM: [], _SLOW: [], _LOCKED: []}
    async with AsyncExitStack() as stack:
        end = await stack.enter_async_context(simulated_marketplaces())
        writer = await stack.enter_async_context(connected(dsn))
        locker = await stack.enter_async_context(connected(dsn))
        await make_stock(writer, OURS, _SKUS)
        await writer.execute("CREATE TABLE erp.pace AS SELECT 0.0::float8 AS s; CREATE TABLE erp.prices ()")
        setup = stack.enter_context(daemon_setup(dsn, end.url, LISTING, _sections(end.url), rate_per_s=1_000))
        await setup.migrate()
        daemon = await stack.enter_async_context(setup.run())
        await end.wait_for(2 * _SKUS, 120, daemon)
        for block in range(blocks):
            for trouble in found:
                async with _trouble(trouble, writer, locker):
                    found[trouble] += await _block(writer, end, block)
                daemon.check()
    return _result(found, blocks)


def _sections(url: str) -> Mapping[str, Mapping[str, Any]]:
    account = SimulatorSettings().of(YmatouShop)
    other = {
        "base_url": url,
        "app_id": account.app_id,
        "app_secret": account.app_secret,
        "auth_code": account.auth_code,
        "listing": _OTHER,
        "first_start": "live",
        "rate_per_s": 1_000,
    }
    return {"channels.ymatou": other, "guard": {"enabled": False}, "reconcile": {"enabled": False}}


@asynccontextmanager
async def _trouble(trouble: str, writer: Connection, locker: Connection) -> AsyncIterator[None]:
    """Have the other channel in trouble inside, and wait until it is over."""
    if trouble == _LOCKED:
        async with locker.transaction():
            await locker.execute("LOCK TABLE erp.prices IN ACCESS EXCLUSIVE MODE")
            yield
    else:
        await writer.execute("UPDATE erp.pace SET s = $1", 6.0 if trouble == _SLOW else 0.0)
        yield
        await writer.execute("UPDATE erp.pace SET s = 0")
        while await writer.fetchval(_BUSY):  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.1)
    await asyncio.sleep(0.5)


async def _block(writer: Connection, end: SimulatedMarketplaces, block: int) -> list[float]:
    """Return the milliseconds from commit to request of one block; every other SKU is the trouble's first change."""
    first = 1 + block * (_BLOCK + 1) % (_SKUS - _BLOCK - 1)
    await writer.execute("UPDATE erp.stock SET on_hand = 1000 WHERE on_hand = 0")
    await writer.execute("UPDATE erp.stock SET on_hand = on_hand + 1 WHERE sku = $1", f"SKU-{first}")
    await asyncio.sleep(1.0)
    await end.reset()
    committed: dict[str, float] = {}
    for number in range(first + 1, first + 1 + _BLOCK):
        await writer.execute("UPDATE erp.stock SET on_hand = 0 WHERE sku = $1", f"SKU-{number}")
        committed[f"PN-SKU-{number}"] = time.time()
        await asyncio.sleep(_SPACING_S)
    deadline = time.monotonic() + _ARRIVE_S
    while True:
        arrived = {
            entry["key"][0]: entry["received_at"]
            for entry in reversed(await end.journal())
            if entry["quantity"] == 0
        }
        if committed.keys() <= arrived.keys() or time.monotonic() > deadline:
            break
        await asyncio.sleep(0.1)
    late = (time.time() - min(committed.values())) * 1000
    return [(arrived[key] - at) * 1000 if key in arrived else late for key, at in committed.items()]


def _result(found: Mapping[str, list[float]], blocks: int) -> Result:
    calm = found[_CALM]
    rows, promises = [], []
    for trouble, values in found.items():
        for name, point in (("p50", statistics.median), ("p99", _p99)):
            ratio = point(values) / point(calm)
            rows.append(Row(f"{trouble}, {name}", "ms", point(values), min(values), max(values), ratio))
        if trouble != _CALM:
            ratio = _p99(values) / _p99(calm)
            promises.append(Promise(f"sell-out p99, {trouble}, against without", ratio, 2, is_floor=False))
    return Result(
        NAME,
        "sell-outs of one channel while the other is in trouble",
        f"{blocks * _BLOCK} single sell-outs each, {_SPACING_S * 1000:.0f} ms apart; {CONDITIONS}",
        rows,
        promises,
    )


def _p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[98]
