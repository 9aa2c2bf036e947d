"""`make bench`: the budgets, measured in one run with the yardsticks beside them.

The machine is never quiet: variants take turns in rounds, and what counts are ratios within a round.
"""

import asyncio
import json
import os
import platform
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.table import Table

from bench import bulk, drain, exposure, isolation, latency, page_cost, slots, transactions
from bench.place import QUICK, SERVER, WHOLE, Place, Size
from bench.programs import ROOT
from bench.results import Result
from daemon import __version__
from daemon.demo.postgres import PostgresServer

Measurement = Callable[[Place], Awaitable[Result]]
MEASUREMENTS: Final[dict[str, Measurement]] = {
    each.NAME: each.measure
    for each in (transactions, bulk, latency, isolation, drain, slots, page_cost, exposure)
}
RESULTS: Final = ROOT / "bench" / "results"
_LONGEST_S: Final = 600.0


@click.command()
@click.option("--only", type=click.Choice(list(MEASUREMENTS)), multiple=True, help="Measure this alone.")
@click.option("--quick", is_flag=True, help="Little of everything: to see that it works, not for figures.")
@click.option(
    "--pages",
    type=click.IntRange(0, 16),
    default=0,
    help="latency, drain: alternate rounds with this many pages open and rounds with none.",
)
@click.option(
    "--json", "file", type=click.Path(path_type=Path), help="Write there. Default: bench/results/TIME.json."
)
def main(only: Sequence[str], file: Path | None, pages: int, *, quick: bool) -> None:
    """Measure, print a table, and write the figures as JSON. Exit code 1: something could not be measured."""
    console = Console()
    size = replace(QUICK if quick else WHOLE, pages=pages)
    results = asyncio.run(run(only or list(MEASUREMENTS), size, console))
    file = file or RESULTS / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(record(results, is_quick=quick), ensure_ascii=False, indent=2) + "\n", "utf-8")
    show_promises(console, results)
    console.print(f"Figures: {file}", soft_wrap=True)


async def run(names: Sequence[str], size: Size, console: Console) -> list[Result]:
    """Make the measurements one after the other, on one server."""
    results = []
    with PostgresServer(settings=SERVER) as server:
        for name in names:
            console.print(f"[dim]measuring {name} ...[/]")
            began = time.perf_counter()
            async with asyncio.timeout(_LONGEST_S):
                result = await MEASUREMENTS[name](Place(server, size))
            results.append(replace(result, took_s=round(time.perf_counter() - began, 1)))
            show(console, results[-1])
    return results


def show(console: Console, result: Result) -> None:
    """Print one measurement."""
    table = Table("", "median", "lowest to highest", "ratio", title=result.title, caption=result.conditions)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in result.rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        span = f"{_number(row.lowest)} to {_number(row.highest)}"
        table.add_row(row.label, f"{_number(row.median)} {row.unit}", span, ratio)
    console.print(table)


def show_promises(console: Console, results: Sequence[Result]) -> None:
    """Print which budgets are met."""
    table = Table("", "ratio", "", title="Budgets")
    for result in results:
        for promise in result.promises:
            style = "green" if promise.is_kept else "yellow"
            table.add_row(promise.what, f"{promise.ratio:.2f}", f"[{style}]{promise.verdict}[/]")
    console.print(table)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def record(results: Sequence[Result], *, is_quick: bool) -> dict[str, object]:
    """Everything as JSON knows it."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": __version__,
        "is_quick": is_quick,
        "machine": {
            "processors": os.cpu_count(),
            "load": os.getloadavg(),
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.release()}",
            "postgresql": dict(SERVER),
        },
        "results": [
            asdict(result)
            | {
                "promises": [
                    asdict(promise) | {"is_kept": promise.is_kept, "verdict": promise.verdict}
                    for promise in result.promises
                ]
            }
            for result in results
        ],
    }


if __name__ == "__main__":
    main()
