"""A stand-in for a pooler in transaction mode: each transaction gets another connection to the server."""

import asyncio
from types import TracebackType
from typing import Final, Self

_SERVERS: Final = 2
_SSL_REQUEST: Final = 80877103


class Pooler:
    """Listens on the loopback and forwards PostgreSQL's protocol, message by message.

    What a server connection sends while it is nobody's, such as a notification, is dropped, as poolers do.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        servers: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        try:
            startup, greeting = await _startup(reader, writer), b""
            for _ in range(_SERVERS):
                server = await asyncio.open_connection("127.0.0.1", self._target)
                servers.append(server)
                server[1].write(startup)
                greeting = await _until_ready(server[0])
            writer.write(greeting)
            await _Client(reader, writer, servers).serve()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.transport.abort()
            for _far_reader, far_writer in servers:
                far_writer.transport.abort()


class _Client:
    """One client, lent a server connection from its first word until the server is idle again."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        servers: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._servers = servers
        self._turn = 0
        self._is_linked = False

    async def serve(self) -> None:
        pumps = [
            asyncio.create_task(self._pump(turn, reader))
            for turn, (reader, _writer) in enumerate(self._servers)
        ]
        try:
            while True:
                kind, message = await _message(self._reader)
                if kind == b"X":
                    return
                self._is_linked = True
                self._servers[self._turn][1].write(message)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(self, turn: int, reader: asyncio.StreamReader) -> None:
        while True:
            kind, message = await _message(reader)
            if not (self._is_linked and self._turn == turn):
                continue
            if kind == b"Z" and message[-1:] == b"I":
                self._is_linked = False
                self._turn = (turn + 1) % _SERVERS
            self._writer.write(message)


async def _startup(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    while True:
        head = await reader.readexactly(8)
        body = await reader.readexactly(int.from_bytes(head[:4]) - 8)
        if int.from_bytes(head[4:]) != _SSL_REQUEST:
            return head + body
        writer.write(b"N")


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readexactly(5)
    body = await reader.readexactly(int.from_bytes(head[1:]) - 4)
    return head[:1], head + body


async def _until_ready(reader: asyncio.StreamReader) -> bytes:
    """All that the server says until it is ready."""
    answer = b""
    while True:
        kind, message = await _message(reader)
        answer += message
        if kind == b"Z":
            return answer
