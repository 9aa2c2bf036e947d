"""A marketplace that answers byte for byte what a test says, and keeps what it was sent."""

import asyncio
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

_RESET = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it stood on the wire. `connection` numbers the connections from 1."""

    line: str
    headers: dict[str, str]
    body: bytes
    connection: int


Behaviour = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]


def reply(body: bytes, status: str = "200 OK", **headers: str) -> Behaviour:
    """Answers every request so, and keeps the connection."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    async def answer(_request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(wire(body, status, **named))

    return answer


def wire(body: bytes, status: str = "200 OK", **headers: str) -> bytes:
    """A complete reply."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *(f"{k}: {v}" for k, v in headers.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def hang_up(_request: Request, writer: asyncio.StreamWriter) -> None:
    """Closes the connection in good order, without an answer."""
    writer.close()


async def reset(_request: Request, writer: asyncio.StreamWriter) -> None:
    """Resets the connection, without an answer."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()


async def stay_silent(_request: Request, _writer: asyncio.StreamWriter) -> None:
    """Never answers."""


class Scripted:
    """The server. Answers go through the list given, the last one again and again."""

    def __init__(self, *answers: Behaviour, tls: ssl.SSLContext | None = None) -> None:
        self.answers = list(answers)
        self.requests: list[Request] = []
        self.connections = 0
        self.most_open = 0
        self.arrived = asyncio.Event()
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._tls = tls
        self._server: asyncio.Server | None = None
        self.url = ""

    async def __aenter__(self) -> "Scripted":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"{'https' if self._tls else 'http'}://127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_error: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._open):
            writer.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._open.add(writer)
        self.connections += 1
        self.most_open = max(self.most_open, len(self._open))
        number = self.connections
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                while True:
                    await self._answer(await _read(reader, number), writer)
        finally:
            self._open.discard(writer)
            self._tasks.discard(task)
            writer.close()

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> None:
        self.requests.append(request)
        self.arrived.set()
        behave = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        await behave(request, writer)
        await writer.drain()


async def _read(reader: asyncio.StreamReader, connection: int) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (h.partition(":") for h in head[1:] if h)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(head[0], headers, body, connection)
