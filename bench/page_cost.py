"""What open pages cost while nothing else happens: processor time of the daemon and of PostgreSQL."""

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Final

from bench.captures import LISTING, OURS, make_stock
from bench.marketplaces import simulated_marketplaces
from bench.pages import viewing
from bench.place import Place, connected, daemon_setup
from bench.programs import Program
from bench.results import Promise, Result, row
from daemon.demo.place import free_port

NAME: Final = "pages"
PAGES: Final = 10
_SKUS: Final = 20_000
_SECONDS: Final = 10.0
_ROUNDS: Final = 3


async def measure(place: Place) -> Result:
    """Alternate rounds with and without open pages. 20,000 SKUs have been sent before, so that the pages have rows."""
    dsn, port, pages = place.database(NAME), free_port(), place.size.pages or PAGES
    found: dict[tuple[bool, str], list[float]] = {}
    async with AsyncExitStack() as stack:
        end = await stack.enter_async_context(simulated_marketplaces())
        writer = await stack.enter_async_context(connected(dsn))
        await make_stock(writer, OURS, _SKUS)
        setup = stack.enter_context(
            daemon_setup(dsn, end.url, LISTING, {"ops": {"port": port}}, rate_per_s=10_000, concurrency=32)
        )
        await setup.migrate()
        daemon = await stack.enter_async_context(setup.run())
        await end.wait_for(_SKUS, 120, daemon)
        viewers = await stack.enter_async_context(viewing(port, pages, "sekorm"))
        for _ in range(min(_ROUNDS, place.size.rounds)):
            for is_open in (False, True):
                async with AsyncExitStack() as opened:
                    if is_open:
                        await opened.enter_async_context(viewers.opened())
                    for who, used in (await _used(place, daemon)).items():
                        found.setdefault((is_open, who), []).append(used)
    return Result(
        NAME,
        f"processor time with {pages} open pages and nothing else to do",
        f"ms of processor time a second; {viewers.conditions(pages)}",
        [
            row(f"{who}, {pages if is_open else 'no'} open pages", "ms/s", values)
            for (is_open, who), values in sorted(found.items(), key=lambda one: (one[0][1], one[0][0]))
        ],
        [
            Promise(
                f"part of a processor that {pages} open pages take in the daemon",
                row("", "", _more(found, "daemon")).median / 1000,
                0.1,
                is_floor=False,
            )
        ],
    )


async def _used(place: Place, daemon: Program) -> dict[str, float]:
    """Return the milliseconds of processor time a second, by process."""
    before, began = (daemon.cpu_s, place.server_cpu_s), time.perf_counter()
    await asyncio.sleep(_SECONDS)
    after, took = (daemon.cpu_s, place.server_cpu_s), time.perf_counter() - began
    used = [(b - a) * 1000 / took for a, b in zip(before, after, strict=True)]
    return dict(zip(("daemon", "PostgreSQL"), used, strict=True))


def _more(found: dict[tuple[bool, str], list[float]], who: str) -> list[float]:
    return [b - a for a, b in zip(found[False, who], found[True, who], strict=True)]
