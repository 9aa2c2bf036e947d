"""What reading back a million SKUs takes: peak memory of the command, and time.

    python -m bench.readback [SKUS]

`stockrelay reconcile --channel ymatou` runs as an operator runs it, against a light marketplace in a process of its own
that makes each page up. Ten numbers differ and three SKUs are not there, so that both looks are taken.
"""

import asyncio
import json
import os
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import psutil

from bench.answering import Answering
from bench.place import SERVER, connected
from bench.programs import ROOT, BenchError, running
from daemon.demo.place import free_port
from daemon.demo.postgres import PostgresServer

PAGE: Final = 100
HELD: Final = 5
DIFFERING: Final = 10
MISSING: Final = 3
_START_S: Final = 20.0
_SCHEMA: Final = """
CREATE SCHEMA erp;
CREATE TABLE erp.stock (sku text PRIMARY KEY, on_hand integer NOT NULL);
INSERT INTO erp.stock SELECT 'SKU-' || lpad(i::text, 8, '0'), 5 FROM generate_series(1, $SKUS) AS i;
ANALYZE erp.stock;
"""
_IN_SYNC: Final = """
INSERT INTO stockrelay.ledger (channel, sku, want_seq, listed_rows, listed_identifiers, listed_quantity, acked_seq,
                               acked_quantity, acked_at, identifiers)
SELECT 'ymatou', sku, 1, 1, ARRAY[sku], on_hand, 1, on_hand, clock_timestamp() - interval '1 hour', ARRAY[sku]
FROM erp.stock;
ANALYZE stockrelay.ledger;
"""


class _Pages(Answering):
    """Answers every request with the page that it asks for."""

    def __init__(self, skus: int) -> None:
        self._held = skus - MISSING
        self._step = max(1, self._held // DIFFERING)

    def answer(self, _head: bytes, body: bytes, /) -> bytes:
        asked = json.loads(json.loads(body)["biz_content"])
        return json.dumps(self._page(asked["page_no"], asked["page_rows"])).encode()

    def _page(self, page: int, rows: int) -> dict[str, Any]:
        first = (page - 1) * rows
        numbers = range(first + 1, min(first + rows, self._held) + 1)
        infos = [
            {
                "product_id": f"P{n:08d}",
                "skus": [
                    {
                        "sku_id": f"S{n:08d}",
                        "outer_id": f"SKU-{n:08d}",
                        "stock_num": HELD + (n % self._step == 0 and n // self._step <= DIFFERING),
                        "used": True,
                    }
                ],
            }
            for n in numbers
        ]
        return {
            "code": "0000",
            "message": None,
            "content": {"total_count": self._held, "product_infos": infos},
        }


async def marketplace(port: int, skus: int) -> None:
    """Serve until the process is ended."""
    server = await asyncio.get_running_loop().create_server(lambda: _Pages(skus), "127.0.0.1", port)
    await server.serve_forever()


async def measure(skus: int) -> None:
    """Print what one run takes."""
    with PostgresServer(settings=SERVER) as server, TemporaryDirectory(prefix="stockrelay-bench-") as folder:
        server.run_sql("CREATE DATABASE readback")
        dsn, port = server.dsn("readback"), free_port()
        config = _written(Path(folder, "config.toml"), dsn, port)
        server.run_sql(_SCHEMA.replace("$SKUS", str(skus)), "readback")
        await _command(config, "migrate")
        server.run_sql(_IN_SYNC, "readback")
        day = datetime.now(UTC).date() - timedelta(days=2)
        words = (
            "-c",
            f"import asyncio; from bench.readback import marketplace; asyncio.run(marketplace({port}, {skus}))",
        )
        async with running("marketplace", words) as program:
            await _is_up(port)
            began = time.perf_counter()
            out, peak = await _command(
                config, "reconcile", "--channel", "ymatou", "--date", f"{day}", "--json"
            )
            took = time.perf_counter() - began
            program.check()
        answer = json.loads(out)["channels"]["ymatou"]
        async with connected(dsn) as sql:
            pages = await sql.fetch(
                "SELECT look, count(*), max(at) - min(at) AS took FROM stockrelay.reconcile_chunk "
                "GROUP BY look ORDER BY look"
            )
        _show(skus, took, peak, answer, [tuple(row) for row in pages])


def _show(skus: int, took: float, peak: int, answer: dict[str, Any], looks: list[tuple[Any, ...]]) -> None:
    opened = len(answer["opened"])
    if answer["incomplete"] or opened != DIFFERING + MISSING:
        raise BenchError(f"found {opened} of {DIFFERING + MISSING} differences: {answer['incomplete']}")
    print(f"{skus:,} SKUs, {os.cpu_count()} processors")
    print(f"peak memory of the command: {peak / 1e6:.0f} MB")
    print(f"time: {took:.1f} s, of which reading:")
    for look, pages, reading in looks:
        print(f"  look {look}: {pages:,} pages in {reading.total_seconds():.1f} s")
    print(f"found: {opened} differences, {answer['checked']:,} SKUs checked, {answer['unsettled']} unsettled")


def _written(config: Path, dsn: str, port: int) -> Path:
    text = f"""
[database]
dsn = "{dsn}"
[[watch]]
table = "erp.stock"
sku = "sku"
[reconcile]
rate_per_s = 10000
settle_s = 1
patience_s = 10
[channels.ymatou]
base_url = "http://127.0.0.1:{port}"
app_id = "bench"
app_secret = "bench-secret"
auth_code = "bench-code"
first_start = "live"
listing = "SELECT sku, sku AS outer_sku_id, on_hand AS quantity FROM erp.stock"
"""
    config.write_text(text, "utf-8")
    return config


async def _command(config: Path, *words: str) -> tuple[str, int]:
    """Run one command; return its output and its peak memory in bytes."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("STOCKRELAY_", "PG"))
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "daemon",
        "--config",
        str(config),
        *words,
        stdout=asyncio.subprocess.PIPE,
        cwd=config.parent,
        env={**environment, "PYTHONPATH": str(ROOT)},
    )
    watching = asyncio.create_task(_peak(process.pid))
    try:
        out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise BenchError(f"{words[0]} ended with exit code {process.returncode}: {out.decode()[-2000:]}")
    return out.decode(), await watching


async def _peak(pid: int) -> int:
    """The highest resident size until the process ends."""
    peak = 0
    try:
        usage = psutil.Process(pid)
        while usage.is_running() and usage.status() != psutil.STATUS_ZOMBIE:
            peak = max(peak, usage.memory_info().rss)
            await asyncio.sleep(0.05)
    except psutil.NoSuchProcess:
        pass
    return peak


async def _is_up(port: int) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            if time.monotonic() > deadline:
                raise BenchError("the marketplace did not start") from None
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return


if __name__ == "__main__":
    asyncio.run(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000))
