"""The receiving end: the simulator in a process of its own, and what it wrote down."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp

from bench.programs import BenchError, Program, running
from daemon.demo.place import free_port

_START_S: Final = 20.0
_LOOK_S: Final = 0.1
_PAGE: Final = 100_000


class SimulatedMarketplaces:
    """Both simulated marketplaces; `url` is theirs."""

    def __init__(self, url: str, program: Program, session: aiohttp.ClientSession) -> None:
        self.url = url
        self.program = program
        self._session = session

    async def reset(self) -> None:
        """Forget journal, numbers and counts; tokens stay."""
        await self._call("POST", "reset", {})

    async def accepted(self) -> int:
        """How many numbers have been accepted since the last reset."""
        stats = await self._call("GET", "stats")
        return sum(stats["accepted"].values())

    async def wait_for(self, count: int, timeout_s: float, *senders: Program) -> None:
        """Wait until `count` numbers have been accepted. Raises BenchError when it takes too long."""
        deadline = time.monotonic() + timeout_s
        while (accepted := await self.accepted()) < count:
            for sender in senders:
                sender.check()
            if time.monotonic() > deadline:
                raise BenchError(f"{accepted} of {count} numbers arrived within {timeout_s:g} s")
            await asyncio.sleep(_LOOK_S)

    async def journal(self) -> list[dict[str, Any]]:
        """The accepted writes, in order; `received_at` is when a request's head was read (unix seconds)."""
        answer = await self._call("GET", f"journal?limit={_PAGE}")
        entries: list[dict[str, Any]] = answer["entries"]
        return entries

    async def is_up(self) -> bool:
        try:
            await self._call("GET", "config")
        except aiohttp.ClientError:
            return False
        return True

    async def _call(self, method: str, name: str, body: object = None) -> dict[str, Any]:
        async with self._session.request(method, f"{self.url}/_sim/{name}", json=body) as response:
            answer: dict[str, Any] = await response.json()
            if response.status != 200:
                raise BenchError(f"the simulator refused {name}: {answer}")
            return answer


@asynccontextmanager
async def simulated_marketplaces() -> AsyncIterator[SimulatedMarketplaces]:
    """Start the simulator as `stockrelay simulate` does, and wait until it answers."""
    port = free_port()
    words = ("-m", "daemon", "simulate", "--port", str(port))
    async with running("simulator", words) as program, aiohttp.ClientSession() as session:
        end = SimulatedMarketplaces(f"http://127.0.0.1:{port}", program, session)
        deadline = time.monotonic() + _START_S
        while not await end.is_up():
            program.check()
            if time.monotonic() > deadline:
                raise BenchError("the simulator did not start")
            await asyncio.sleep(_LOOK_S / 2)
        yield end
