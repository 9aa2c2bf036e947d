"""A receiver for the notifications of the demo's daemon."""

import asyncio
from typing import Final, Self

_TIMEOUT_S: Final = 5.0
_MOST_BYTES: Final = 1_000_000
_REPLY: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Inbox:
    """Accepts and counts the notifications that are posted to it."""

    def __init__(self) -> None:
        self.notifications = 0
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._receive, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        """The receiver's address, as apprise writes it."""
        assert self._server is not None
        return f"json://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _receive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
                _, found, length = head.partition("content-length:")
                if found and int(length.split()[0]) <= _MOST_BYTES:
                    await reader.readexactly(int(length.split()[0]))
                    self.notifications += 1
                writer.write(_REPLY)
                await writer.drain()
        except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            # Not a notification.
            return
        finally:
            writer.close()
