"""From a commit in the ERP to the request at the marketplace, with nothing else to do."""

import asyncio
import random
import statistics
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Final

from bench.captures import LISTING, OURS, make_stock, make_textbook
from bench.marketplaces import SimulatedMarketplaces, simulated_marketplaces
from bench.pages import viewing
from bench.place import CONDITIONS, Connection, Place, connected, daemon_setup
from bench.programs import BenchError, running
from bench.results import Promise, Result, Row
from daemon.demo.place import free_port

NAME: Final = "latency"
CHANGES: Final = 500
_BARE: Final = "bare"
_WITH_PAGES: Final = "pages"
_BLOCK: Final = 25
_BLOCKS_WITH_PAGES: Final = 5
"""A variant's blocks in succession where pages are opened: some reloads fall into them."""
_SPACING_S: Final = (0.015, 0.025)
_SKUS: Final = 500
_ARRIVE_S: Final = 10.0


async def measure(place: Place) -> Result:
    """Single changes, in turn for the bare loop and for the daemon, both of which run all the time."""
    dsn = place.database(NAME)
    blocks, pages, port = max(2, round(CHANGES * place.size.scale / _BLOCK)), place.size.pages, free_port()
    found: dict[str, list[list[float]]] = {_BARE: [], OURS: []}
    conditions = CONDITIONS
    async with AsyncExitStack() as stack:
        end = await stack.enter_async_context(simulated_marketplaces())
        writer = await stack.enter_async_context(connected(dsn))
        for schema in (_BARE, OURS):
            await make_stock(writer, schema, _SKUS)
        await make_textbook(writer, _BARE)
        ops = {"ops": {"port": port}}
        setup = stack.enter_context(daemon_setup(dsn, end.url, LISTING, ops, rate_per_s=10_000))
        await setup.migrate()
        daemon = await stack.enter_async_context(setup.run())
        words = ("-m", "bench.bare", "relay", end.url, dsn, _BARE)
        bare = await stack.enter_async_context(running("bare", words))
        await end.wait_for(_SKUS, 60, daemon)  # what is there already has been sent
        await _ready(writer, end)
        if not pages:
            for _ in range(blocks):
                for schema in (_BARE, OURS):
                    found[schema].append(await _block(writer, end, schema))
        else:
            viewers = await stack.enter_async_context(viewing(port, pages, "sekorm"))
            found[_WITH_PAGES] = []
            for _ in range(max(1, blocks // _BLOCKS_WITH_PAGES)):
                for schema in (_BARE, OURS):
                    found[schema] += await _blocks(writer, end, schema)
                async with viewers.opened():
                    found[_WITH_PAGES] += await _blocks(writer, end, OURS)
            conditions += f"; {viewers.conditions(pages)}"
        bare.check()
        daemon.check()
    rows, ratios = _compare(found)
    of_pages: list[Promise] = []
    if pages:
        more, with_pages = _beside(found, pages)
        rows += more
        of_pages = [
            Promise(f"latency p50 with {pages} open pages against none", with_pages[0], 1.1, is_floor=False),
            Promise(f"latency p99 with {pages} open pages against none", with_pages[1], 1.25, is_floor=False),
        ]
    return Result(
        NAME,
        "commit to request at the marketplace, idle, debounce 0",
        f"{len(found[OURS]) * _BLOCK} single changes, 15 to 25 ms apart; {conditions}",
        rows,
        [
            Promise("latency p50 against a bare LISTEN + POST loop", ratios[0], 4, is_floor=False, must=5),
            Promise("latency p99 against a bare LISTEN + POST loop", ratios[1], 8, is_floor=False),
            *of_pages,
        ],
    )


async def _ready(writer: Connection, end: SimulatedMarketplaces) -> None:
    """Let both send one number first: the bare loop has to listen, and connections are made with the first."""
    deadline = time.monotonic() + _ARRIVE_S
    for schema in (_BARE, OURS):
        await end.reset()
        while not await end.accepted():
            if time.monotonic() > deadline:
                raise BenchError(f"nothing arrives from {schema}")
            await writer.execute(f"UPDATE {schema}.stock SET on_hand = on_hand + 1 WHERE sku = 'SKU-1'")
            await asyncio.sleep(0.2)
    await asyncio.sleep(0.5)


async def _blocks(writer: Connection, end: SimulatedMarketplaces, schema: str) -> list[list[float]]:
    return [await _block(writer, end, schema) for _ in range(_BLOCKS_WITH_PAGES)]


async def _block(writer: Connection, end: SimulatedMarketplaces, schema: str) -> list[float]:
    """Return the milliseconds of one block of changes."""
    await end.reset()
    committed: dict[str, float] = {}
    update = await writer.prepare(f"UPDATE {schema}.stock SET on_hand = on_hand + 1 WHERE sku = $1")
    for sku in random.sample([f"SKU-{n}" for n in range(2, _SKUS)], _BLOCK):
        await update.fetchval(sku)
        committed[sku] = time.time()
        await asyncio.sleep(random.uniform(*_SPACING_S))
    await end.wait_for(_BLOCK, _ARRIVE_S)
    arrived = {entry["key"][0]: entry["received_at"] for entry in reversed(await end.journal())}
    return [(arrived[f"PN-{sku}"] - at) * 1000 for sku, at in committed.items()]


def _compare(found: dict[str, list[list[float]]]) -> tuple[list[Row], tuple[float, float]]:
    """The middle is compared block by block, so that a busy moment counts once; the tail over all blocks."""
    bare, ours = found[_BARE], found[OURS]
    middles = tuple(statistics.median(b) / statistics.median(a) for a, b in zip(bare, ours, strict=True))
    tails = (_tail(bare), _tail(ours))
    p50, p99 = statistics.median(middles), tails[1] / tails[0]
    rows = [
        _row("bare LISTEN + POST loop, p50", bare, statistics.median, 1.0),
        _row("bare LISTEN + POST loop, p99", bare, _p99, 1.0),
        _row("ours, p50", ours, statistics.median, p50, middles),
        _row("ours, p99", ours, _p99, p99),
    ]
    return rows, (p50, p99)


def _beside(found: dict[str, list[list[float]]], pages: int) -> tuple[list[Row], tuple[float, float]]:
    """Ours with open pages, beside ours without."""
    without, having = found[OURS], found[_WITH_PAGES]
    middles = tuple(statistics.median(b) / statistics.median(a) for a, b in zip(without, having, strict=True))
    p50, p99 = statistics.median(middles), _tail(having) / _tail(without)
    rows = [
        _row(f"ours with {pages} open pages, p50 (ratio: to ours)", having, statistics.median, p50, middles),
        _row(f"ours with {pages} open pages, p99 (ratio: to ours)", having, _p99, p99),
    ]
    return rows, (p50, p99)


def _row(
    label: str,
    blocks: list[list[float]],
    point: Callable[[list[float]], float],
    ratio: float,
    ratios: tuple[float, ...] = (),
) -> Row:
    values = [value for block in blocks for value in block]
    each = [point(block) for block in blocks]
    return Row(label, "ms", point(values), min(each), max(each), ratio, ratios)


def _tail(blocks: list[list[float]]) -> float:
    return _p99([value for block in blocks for value in block])


def _p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[98]
