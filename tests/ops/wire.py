"""A client that says what it is told to, byte by byte."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: status, headers in lower case, body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:  # noqa: ANN401 - whatever JSON can hold
        return json.loads(self.body)


async def said(port: int, data: bytes, timeout: float = 20.0) -> bytes:
    """Send bytes and return all that comes until the server closes."""
    async with asyncio.timeout(timeout):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(data)
            return await reader.read()
        finally:
            writer.close()


async def asked(port: int, path: str, method: str = "GET") -> Answer:
    """Ask for one page."""
    return parsed(await said(port, f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()))


def parsed(raw: bytes) -> Answer:
    """Take an answer apart."""
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    return Answer(int(first.split()[1]), headers, body)
