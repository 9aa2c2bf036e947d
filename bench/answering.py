"""A marketplace that costs next to nothing: the least of HTTP that the daemon's client needs."""

import asyncio
from abc import ABC, abstractmethod
from email.utils import formatdate


class Answering(asyncio.Protocol, ABC):
    """Reads one request after another from a connection, and answers each with status 200.

    Enough for a client that sends a length and waits for the answer before it asks again.
    """

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._buffer = b""

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, rest = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(rest) < length:
            return
        self._buffer = rest[length:]
        body = self.answer(head, rest[:length])
        date = formatdate(usegmt=True)
        reply = f"HTTP/1.1 200 OK\r\nDate: {date}\r\nContent-Length: {len(body)}\r\n\r\n"
        self._transport.write(reply.encode() + body)

    @abstractmethod
    def answer(self, head: bytes, body: bytes, /) -> bytes:
        """The body of the answer to a request, of which `head` is everything above the empty line."""
