"""The ERP's own speed: transactions a second that are left to it while its changes are captured."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from bench.captures import LISTING, OURS, PLAIN, ROWS, TEXTBOOK, all_three
from bench.marketplaces import simulated_marketplaces
from bench.place import CONDITIONS, Connection, Place, daemon_setup
from bench.programs import BenchError
from bench.results import Promise, Result, row

NAME: Final = "transactions"
WRITERS: Final = 16
_UNIT: Final = "tx/s"
_DAEMON: Final = "ours, daemon pushing"
_DAEMON_EVERY: Final = 3
_SETTLE_S: Final = 60.0


async def measure(place: Place) -> Result:
    """16 writers, each updating one row at a time, on tables that differ in their triggers alone."""
    dsn = place.database(NAME)
    rows = int(ROWS * max(place.size.scale, 0.1))
    found: dict[str, list[float]] = {name: [] for name in (PLAIN, TEXTBOOK, OURS, _DAEMON)}
    async with AsyncExitStack() as stack:
        end = await stack.enter_async_context(simulated_marketplaces())
        setup = stack.enter_context(daemon_setup(dsn, end.url, LISTING))
        connection = await stack.enter_async_context(all_three(dsn, setup, rows))
        for number in range(place.size.rounds):
            # In another order each time: what one leaves behind does not always meet the same other.
            order = (PLAIN, TEXTBOOK, OURS)
            turn = number % len(order)
            for schema in order[turn:] + order[:turn]:
                found[schema].append(await _pgbench(place, dsn, schema, rows))
            if number % _DAEMON_EVERY == 0:
                async with setup.run():
                    await _in_step(connection)
                    found[_DAEMON].append(await _pgbench(place, dsn, OURS, rows))
    plain = found[PLAIN]
    ours = row("ours", _UNIT, found[OURS], plain)
    assert ours.ratio is not None
    return Result(
        NAME,
        "ERP transactions per second kept",
        f"{WRITERS} writers, single-row UPDATEs of {rows:,} rows, {place.size.seconds:g} s a round; {CONDITIONS}",
        [
            row("no capture", _UNIT, plain, plain),
            row("textbook NOTIFY trigger, one listener", _UNIT, found[TEXTBOOK], plain),
            ours,
            row(f"{_DAEMON} at 20/s", _UNIT, found[_DAEMON], plain[::_DAEMON_EVERY]),
        ],
        [Promise("transactions kept with capture on", ours.ratio, 0.75, is_floor=True, must=0.70)],
    )


async def _in_step(connection: Connection) -> None:
    """Wait until the daemon that has just started has compared everything."""
    before = await connection.fetchval("SELECT clock_timestamp()")
    for _ in range(int(_SETTLE_S / 0.1)):
        if await connection.fetchval(
            "SELECT bool_and(resynced_at > $1) FROM stockrelay.read_position", before
        ):
            return
        await asyncio.sleep(0.1)
    raise BenchError("the daemon did not compare its listing in time")


async def _pgbench(place: Place, dsn: str, schema: str, rows: int) -> float:
    """Return transactions per second of one run."""
    script = f"\\set id random(1, {rows})\nUPDATE {schema}.stock SET on_hand = on_hand + 1 WHERE sku = 'SKU-' || :id;\n"
    with _file(script) as file:
        process = await asyncio.create_subprocess_exec(
            str(place.server.bin_dir / "pgbench"),
            *("-n", "-M", "prepared", "-c", str(WRITERS), "-j", "2"),
            *("-T", f"{max(1, round(place.size.seconds))}", "-f", file, dsn),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            out, err = await asyncio.wait_for(process.communicate(), place.size.seconds + 60)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    found = re.search(rb"tps = ([0-9.]+)", out)
    if found is None:
        raise BenchError(f"pgbench failed: {err.decode()}")
    return float(found[1])


@contextmanager
def _file(text: str) -> Iterator[str]:
    with TemporaryDirectory(prefix="stockrelay-bench-") as folder:
        file = Path(folder, "script.sql")
        file.write_text(text)
        yield str(file)
