"""Operators with the page open: half of them the overview, half a channel's page, each live and loaded anew every 2 s.

python -m bench.pages PORT COUNT CHANNEL SOCKET

The pages are open while a client is connected to the UNIX socket SOCKET: it is sent a line once each of them shows
live data, and the figures as a line of JSON after it has closed its side.
"""

import asyncio
import contextlib
import json
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from bench.programs import BenchError, running

RELOAD_S: Final = 2.0
_SPREAD_S: Final = 1.0
_LONGEST_S: Final = 20.0


@dataclass(slots=True)
class _Viewers:
    """The viewers of one time that the pages are open."""

    port: int
    count: int
    channel: str
    loads_ms: list[float] = field(default_factory=list)
    received: int = 0
    live: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))

    async def watch(self, number: int) -> None:
        """Keep one page open, from its first load on."""
        await asyncio.sleep(_SPREAD_S * number / self.count)
        page, events = ("/", "/events")
        if number % 2:
            page, events = f"/channel/{self.channel}", f"/events?channel={self.channel}"
        is_first = True
        while True:
            began = time.perf_counter()
            async with self._answering(page) as reader:
                self.received += len(await reader.read())
            self.loads_ms.append((time.perf_counter() - began) * 1000)
            async with self._answering(events) as reader:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(RELOAD_S):
                        while line := await reader.readline():
                            self.received += len(line)
                            if is_first and line.startswith(b"event: section"):
                                is_first = False
                                self.live.release()

    @asynccontextmanager
    async def _answering(self, path: str) -> AsyncIterator[asyncio.StreamReader]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=2**20)
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200 "):
                raise BenchError(f"{path}: {head.splitlines()[0].decode()}")
            yield reader
        finally:
            writer.close()

    def figures(self) -> dict[str, Any]:
        return {"loads_ms": self.loads_ms, "received": self.received}


async def serve(port: int, count: int, channel: str, socket: str) -> None:
    """Open the pages for each client of the socket, one client at a time, until stopped."""

    async def open_pages(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        viewers = _Viewers(port, count, channel)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(viewers.watch(number)) for number in range(count)]
            for _ in range(count):
                await viewers.live.acquire()
            writer.write(b"open\n")
            await reader.read()
            for task in tasks:
                task.cancel()
        writer.write(json.dumps(viewers.figures()).encode() + b"\n")
        writer.close()

    server = await asyncio.start_unix_server(open_pages, socket)
    await server.serve_forever()


@dataclass(slots=True)
class OpenPages:
    """The viewers' program, and what it has found so far."""

    socket: Path
    loads_ms: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Keep the pages open in the block; it begins when all of them are live."""
        reader, writer = await self._connected()
        try:
            async with asyncio.timeout(_LONGEST_S):
                if not await reader.readline():
                    raise BenchError("the pages could not be opened; the log of the viewers says why")
            began = time.perf_counter()
            yield
            self.seconds += time.perf_counter() - began
            writer.write_eof()
            async with asyncio.timeout(_LONGEST_S):
                self.loads_ms += json.loads(await reader.readline())["loads_ms"]
        finally:
            writer.close()

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with asyncio.timeout(_LONGEST_S):
            while True:
                try:
                    return await asyncio.open_unix_connection(str(self.socket), limit=2**24)
                except OSError:
                    await asyncio.sleep(0.05)

    def conditions(self, count: int) -> str:
        """Describe the open pages and how long they took to load."""
        if not self.loads_ms:
            return f"{count} pages open"
        middle = statistics.median(self.loads_ms)
        return (
            f"{count} pages open, each loaded anew every {RELOAD_S:g} s: "
            f"{len(self.loads_ms)} loads, {middle:.0f} ms in the middle, {max(self.loads_ms):.0f} ms at most"
        )


@asynccontextmanager
async def viewing(port: int, count: int, channel: str) -> AsyncIterator[OpenPages]:
    """Start the viewers' program; its pages are closed until they are opened."""
    with TemporaryDirectory(prefix="stockrelay-bench-") as folder:
        socket = Path(folder, "socket")
        words = ("-m", "bench.pages", str(port), str(count), channel, str(socket))
        async with running("pages", words):
            yield OpenPages(socket)


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]))
