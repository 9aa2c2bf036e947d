"""What a push costs beside a bare POST loop: requests per second and CPU of the sender, in one run.

    python -m bench.marketplace_push [REQUESTS]

A minimal server in a process of its own answers both, so that only the sender is measured.
"""

import asyncio
import multiprocessing
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from multiprocessing.queues import Queue

import aiohttp
from pydantic import SecretStr

from bench.answering import Answering
from daemon import clock
from daemon.core.outcome import Kind
from daemon.core.types import ChannelName, Push, Sku, StoredToken
from daemon.marketplaces.client import Client
from daemon.marketplaces.sekorm.client import SekormClient
from daemon.marketplaces.sekorm.settings import SekormSettings
from daemon.marketplaces.ymatou.client import YmatouClient
from daemon.marketplaces.ymatou.settings import YmatouSettings

IN_FLIGHT = 32
ROUNDS = 9
GRANT = b'{"code":0,"msg":"ok","data":{"expiresIn":3600,"accessToken":"sgOQYs6UKqp/6EUP6e7QEgzcbYgow2KM=="}}'
SEKORM_OK = b'{"code":0,"msg":"OK","data":null}'
YMATOU_OK = (
    b'{"code":"0000","message":null,"content":'
    b'{"results":[{"outer_sku_id":"393992","success":true,"msg":"ok"}]}}'
)


class _Both(Answering):
    """Accepts every request to either marketplace."""

    def answer(self, head: bytes, _body: bytes, /) -> bytes:
        line = head.partition(b"\r\n")[0]
        return GRANT if b"getAccessToken" in line else SEKORM_OK if b"serviceGate" in line else YMATOU_OK


class _Tokens:
    """Keeps one token for one process."""

    def __init__(self) -> None:
        self._token: StoredToken | None = None

    async def load(self) -> StoredToken | None:
        return self._token

    async def begin_refresh(self, _seen_generation: int, _hold: timedelta) -> bool:
        return True

    async def save(self, value: str, valid_for: timedelta) -> StoredToken:
        self._token = StoredToken(value, 1, valid_for)
        return self._token

    async def fail_refresh(self, _retry_in: timedelta) -> None:
        return

    async def invalidate(self, _generation: int) -> None:
        self._token = None


def _serve(ports: "Queue[int]") -> None:
    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(_Both, "127.0.0.1", 0)
        ports.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


async def _measure(one: Callable[[], Awaitable[None]], requests: int) -> tuple[float, float]:
    """Requests per second, and microseconds of CPU for each."""
    left = iter(range(requests))

    async def work() -> None:
        for _ in left:
            await one()

    began_at, cpu = clock.monotonic(), time.process_time()
    await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
    return requests / (clock.monotonic() - began_at), (time.process_time() - cpu) / requests * 1e6


def _pushing(client: Client, push: Push) -> Callable[[], Awaitable[None]]:
    async def one() -> None:
        outcome = await client.push(push, timedelta(seconds=5))
        if outcome.kind is not Kind.APPLIED:
            raise SystemExit(f"{client.channel}: {outcome}")

    return one


async def _run(port: int, requests: int) -> None:
    base = f"http://127.0.0.1:{port}"
    secret = SecretStr("x" * 32)
    sekorm = SekormClient(
        ChannelName("sekorm"),
        SekormSettings(
            base_url=f"{base}/serviceGate",
            account=secret,
            app_secret=secret,
            listing="SELECT",
            concurrency=IN_FLIGHT,
        ),
        _Tokens(),
    )
    ymatou = YmatouClient(
        ChannelName("ymatou"),
        YmatouSettings(
            base_url=base,
            app_id="x" * 18,
            app_secret=secret,
            auth_code=secret,
            listing="SELECT",
            concurrency=IN_FLIGHT,
        ),
    )
    connector = aiohttp.TCPConnector(limit=IN_FLIGHT)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def bare() -> None:
            async with session.post(f"{base}/serviceGate/stock/updQuantity", data=b"x" * 180) as response:
                await response.read()

        ways = {
            "bare": bare,
            "sekorm": _pushing(sekorm, Push(Sku("a"), ("1211LL的ON2", "AMS"), 10)),
            "ymatou": _pushing(ymatou, Push(Sku("a"), ("393992",), 10)),
        }
        # Taken in turns, best of all rounds: a shared machine is noisy.
        figures = [{name: await _measure(one, requests) for name, one in ways.items()} for _ in range(ROUNDS)]
    best = {name: (max(f[name][0] for f in figures), min(f[name][1] for f in figures)) for name in ways}
    for name, (rate, cpu) in best.items():
        ratios = f"{rate / best['bare'][0]:.2f}x rate, {cpu / best['bare'][1]:.2f}x CPU"
        print(f"{name:8}{rate:8.0f}/s {cpu:7.1f} µs CPU   {ratios}")
    await sekorm.close()
    await ymatou.close()


def main() -> None:
    requests = int(sys.argv[1]) if len(sys.argv) > 1 else 4_000
    context = multiprocessing.get_context("spawn")
    ports: Queue[int] = context.Queue()
    server = context.Process(target=_serve, args=(ports,), daemon=True)
    server.start()
    try:
        asyncio.run(_run(ports.get(timeout=30), requests))
    finally:
        server.terminate()
        server.join()


if __name__ == "__main__":
    main()
