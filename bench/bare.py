"""The baseline: the least a program can do that sends numbers to Sekorm. It loses what goes wrong.

python -m bench.bare drain URL SKUS CONCURRENCY FIRST
python -m bench.bare relay URL DSN CHANNEL
"""

import asyncio
import json
import resource
import sys
import time
from urllib.parse import urlencode

import aiohttp
import asyncpg

from daemon.simulator import SimulatorSettings
from daemon.simulator.marketplaces.sekorm import SekormShop

_FORM = {"Content-Type": "application/x-www-form-urlencoded"}


async def fetch_token(session: aiohttp.ClientSession, url: str) -> str:
    """Ask for a token once."""
    account = SimulatorSettings().of(SekormShop)
    data = {"accessToken": account.account, "appSecret": account.app_secret}
    async with session.post(f"{url}/serviceGate/getAccessToken", data=data) as response:
        token: str = json.loads(await response.read())["data"]["accessToken"]
        return token


async def push(session: aiohttp.ClientSession, url: str, token: str, sku: str, quantity: int) -> None:
    """One number, with the body that the daemon writes too."""
    body = urlencode(
        {"accessToken": token, "pnCode": f"PN-{sku}", "brandName": "AMS", "stockQuantity": quantity}
    ).encode()
    async with session.post(f"{url}/serviceGate/stock/updQuantity", data=body, headers=_FORM) as response:
        if json.loads(await response.read())["code"] != 0:
            raise AssertionError(response)


async def drain(url: str, skus: int, concurrency: int, first: int) -> None:
    """Send one number for each SKU; print the seconds it took and the processor time of it."""
    connector = aiohttp.TCPConnector(limit=concurrency)
    async with aiohttp.ClientSession(connector=connector) as session:
        token = await fetch_token(session, url)
        numbers = iter(range(skus))

        async def work() -> None:
            for number in numbers:
                await push(session, url, token, f"SKU-{number + 1}", first)

        cpu, began = _cpu_s(), time.perf_counter()
        await asyncio.gather(*(work() for _ in range(concurrency)))
        took, cpu = time.perf_counter() - began, _cpu_s() - cpu
    print(json.dumps({"seconds": took, "cpu_s": cpu}))


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def relay(url: str, dsn: str, channel: str) -> None:
    """LISTEN, and POST what each notification says, until stopped."""
    connection = await asyncpg.connect(dsn)
    async with aiohttp.ClientSession() as session:
        token = await fetch_token(session, url)
        rung: asyncio.Queue[str] = asyncio.Queue()
        await connection.add_listener(channel, lambda *arguments: rung.put_nowait(str(arguments[3])))
        while True:
            sku, _, quantity = (await rung.get()).partition(":")
            await push(session, url, token, sku, int(quantity))


def main(words: list[str]) -> None:
    match words:
        case ["drain", url, skus, concurrency, first]:
            asyncio.run(drain(url, int(skus), int(concurrency), int(first)))
        case ["relay", url, dsn, channel]:
            asyncio.run(relay(url, dsn, channel))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
