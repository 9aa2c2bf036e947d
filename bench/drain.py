"""A backlog of single-SKU requests, sent as fast as one channel goes."""

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Final

from bench.captures import LISTING, OURS, make_stock
from bench.marketplaces import SimulatedMarketplaces, simulated_marketplaces
from bench.pages import OpenPages, viewing
from bench.place import CONDITIONS, Connection, Place, connected, daemon_setup
from bench.programs import BenchError, Program, answer_of
from bench.results import Promise, Result, Row, row
from daemon.demo.place import free_port

NAME: Final = "drain"
SKUS: Final = 20_000
CONCURRENCY: Final = 32
_LONGEST_S: Final = 120.0
_WITH_PAGES: Final = "pages"


async def measure(place: Place) -> Result:
    """The same numbers to the same server with the same concurrency, in turn by a bare loop and by the daemon."""
    dsn = place.database(NAME)
    skus, pages, port = int(SKUS * place.size.scale), place.size.pages, free_port()
    variants = ("bare", "ours", _WITH_PAGES)[: 3 if pages else 2]
    rate: dict[str, list[float]] = {name: [] for name in variants}
    cpu: dict[str, list[float]] = {name: [] for name in variants}
    viewers: OpenPages | None = None
    async with AsyncExitStack() as stack:
        end = await stack.enter_async_context(simulated_marketplaces())
        writer = await stack.enter_async_context(connected(dsn))
        await make_stock(writer, OURS, skus)
        setup = stack.enter_context(
            daemon_setup(
                dsn,
                end.url,
                LISTING,
                {"ops": {"port": port}},
                rate_per_s=10_000,
                concurrency=CONCURRENCY,
            )
        )
        await setup.migrate()
        daemon = await stack.enter_async_context(setup.run())
        await end.wait_for(skus, _LONGEST_S, daemon)
        await written(writer, daemon)
        if pages:
            viewers = await stack.enter_async_context(viewing(port, pages, "sekorm"))
        for number in range(place.size.rounds):
            for who in variants[:: 1 if number % 2 else -1]:
                await end.reset()
                async with AsyncExitStack() as opened:
                    if who == _WITH_PAGES:
                        assert viewers is not None
                        await opened.enter_async_context(viewers.opened())
                    send = _bare if who == "bare" else _ours
                    used = await send(end, writer, daemon, skus, 1_100 + number + 100 * variants.index(who))
                cpu[who].append(used / skus * 1e6)
                rate[who].append(rate_of(await end.journal(), skus))
    ours, ours_cpu = (
        row("ours", "push/s", rate["ours"], rate["bare"]),
        row("ours", "µs", cpu["ours"], cpu["bare"]),
    )
    beside = _beside(rate, cpu, pages) if pages else []
    assert ours.ratio is not None
    assert ours_cpu.ratio is not None
    return Result(
        NAME,
        f"drain of {skus:,} SKUs, one channel, {CONCURRENCY} at a time",
        "; ".join(
            [
                f"single-SKU requests to the simulator in a process of its own; {CONDITIONS}",
                *([viewers.conditions(pages)] if viewers else []),
            ]
        ),
        [
            row("bare POST loop", "push/s", rate["bare"], rate["bare"]),
            ours,
            row("bare POST loop, processor time a push", "µs", cpu["bare"], cpu["bare"]),
            row("ours, processor time a push", "µs", cpu["ours"], cpu["bare"]),
            *beside,
        ],
        [
            Promise("drain against a bare POST loop", ours.ratio, 0.65, is_floor=True, must=0.5),
            Promise("processor time a push against the bare loop", ours_cpu.ratio, 2, is_floor=False),
            *(
                [
                    Promise(
                        f"drain with {pages} open pages against none",
                        beside[0].ratio or 0,
                        0.95,
                        is_floor=True,
                    )
                ]
                if beside
                else []
            ),
        ],
    )


def _beside(rate: dict[str, list[float]], cpu: dict[str, list[float]], pages: int) -> list[Row]:
    """Ours with open pages, beside ours without."""
    label = f"ours with {pages} open pages"
    return [
        row(f"{label} (ratio: to ours)", "push/s", rate[_WITH_PAGES], rate["ours"]),
        row(f"{label}, processor time a push (ratio: to ours)", "µs", cpu[_WITH_PAGES], cpu["ours"]),
    ]


def rate_of(journal: list[dict[str, float]], skus: int) -> float:
    """By the receiver's clock, from the first request to the last."""
    if len(journal) != skus:
        raise BenchError(f"{len(journal)} numbers arrived, not {skus}")
    times = [entry["received_at"] for entry in journal]
    return (skus - 1) / (max(times) - min(times))


async def _bare(
    end: SimulatedMarketplaces, _writer: Connection, _daemon: Program, skus: int, number: int
) -> float:
    """Return the processor time it took, in seconds."""
    words = ("-m", "bench.bare", "drain", end.url, str(skus), str(CONCURRENCY), str(number))
    answer = await answer_of(words, _LONGEST_S)
    return float(answer["cpu_s"])


async def _ours(
    end: SimulatedMarketplaces, writer: Connection, daemon: Program, skus: int, number: int
) -> float:
    """Return the processor time it took, from the change in the ERP to the last outcome written, in seconds."""
    before = daemon.cpu_s
    await writer.execute("UPDATE erp.stock SET on_hand = $1", number)
    await end.wait_for(skus, _LONGEST_S, daemon)
    await written(writer, daemon)
    used = daemon.cpu_s - before
    await writer.execute("VACUUM erp.stock")
    return used


async def written(writer: Connection, daemon: Program) -> None:
    """Wait until the ledger has every outcome."""
    deadline = time.monotonic() + _LONGEST_S
    while await writer.fetchval(
        "SELECT EXISTS (SELECT FROM stockrelay.ledger WHERE attempt_id IS NOT NULL OR want_seq > acked_seq)"
    ):
        daemon.check()
        if time.monotonic() > deadline:
            raise BenchError("outcomes are not written")
        await asyncio.sleep(0.05)
