"""The HTTP server's connections, which note when a request begins to arrive and when its client goes."""

import asyncio
import select
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage

from daemon import clock
from daemon.simulator.settings import MIB

if TYPE_CHECKING:
    from daemon.simulator.traffic import Traffic

MAX_BODY: Final = 64 * MIB

# Linux reports that the peer has closed; elsewhere only a full hang-up is seen.
_CLOSED: Final = getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR


class ClientConnection(web.RequestHandler):
    """A client's connection, which notes when a request begins to arrive.

    Handlers run one after the other: without this, requests that wait in their sockets would look as if they
    had come only when the one before was answered.
    """

    __slots__ = ("arrived", "traffic")

    def __init__(self, server: web.Server, traffic: "Traffic", loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(server, loop=loop, access_log=None)  # type: ignore[arg-type]  # None switches it off
        self.traffic = traffic
        self.arrived = 0.0

    def data_received(self, data: bytes) -> None:
        if not self.arrived:
            self.arrived = clock.monotonic()
            if b" /_sim/" not in data[:24]:
                self.traffic.began(self)
        super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.traffic.disconnected(self)
        super().connection_lost(exc)


class ConnectionServer(web.Server):
    """Takes larger bodies, and reports its connections to the traffic."""

    def __init__(
        self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], traffic: "Traffic"
    ) -> None:
        super().__init__(handler)
        self._traffic = traffic

    def __call__(self) -> web.RequestHandler:
        return ClientConnection(self, self._traffic, self._loop)

    def _make_request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> web.BaseRequest:
        return web.BaseRequest(message, payload, protocol, writer, task, self._loop, client_max_size=MAX_BODY)


def has_hung_up(connection: ClientConnection) -> bool:
    transport = connection.transport
    if transport is None or transport.is_closing():
        return True
    sock = transport.get_extra_info("socket")
    if sock is None:
        return False
    poll = select.poll()
    poll.register(sock.fileno(), _CLOSED)
    return any(event & _CLOSED for _, event in poll.poll(0))
