"""The ops port's HTTP: short answers to a few clients at a time, also to hostile ones.

A connection carries one request and lives for seconds; a request is small, and its answer is made at once. A few
connections beside these may carry a stream, which lives for minutes.
"""

import asyncio
import errno
import logging
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace
from typing import Final

import structlog
from aiohttp import web

from daemon.core.callers import is_cross_origin, is_foreign_host
from daemon.core.errors import ConfigError
from daemon.ops.messages import (
    READS,
    HttpReply,
    HttpRequest,
    HttpStream,
    Page,
    Route,
    as_json,
    find_route,
    parameters,
)

log = structlog.get_logger(__name__)

MOST_CONNECTIONS: Final = 32
"""Probes and a scraper need three. One more closes the oldest, so a client that only
holds connections keeps no probe out."""
LONGEST_S: Final = 10.0
"""A connection ends after this many seconds, however slowly its client writes or reads."""
MOST_STREAMS: Final = 16
"""One more is refused: a client that comes back by itself would otherwise close another's, and that one the next."""
LONGEST_STREAM_S: Final = 600.0
LONGEST_LINE: Final = 4096
"""A SKU of 1,000 bytes fits, with each byte as three characters."""
MOST_HEADERS: Final = 64
LARGEST_BODY: Final = 16_384
# Clients' mistakes are not logged: anyone could fill the log with them.
_SILENT: Final = logging.getLogger("daemon.ops.requests")
_SILENT.disabled = True


@asynccontextmanager
async def listening(
    host: str,
    port: int,
    pages: Mapping[str, Page],
    longest_s: float = LONGEST_S,
    allowed_hosts: Collection[str] = (),
    routes: Sequence[Route] = (),
) -> AsyncIterator[int]:
    """Serve the pages, by path, and the routes until the end; the value is the port (0 asks for any that is free).

    A connection is cut off after `longest_s` seconds, a stream after LONGEST_STREAM_S. A request's Host must be an IP
    address, a loopback name, `host` or one of `allowed_hosts`. Raises ConfigError when it cannot be listened there.
    """
    loop = asyncio.get_running_loop()
    server = _Server(pages, routes, longest_s, (host, *allowed_hosts))
    try:
        listener = await loop.create_server(server, host, port)
    except (OSError, UnicodeError) as error:
        raise _refusal(host, port, error) from error
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        await server.shutdown(1.0)


def _refusal(host: str, port: int, error: Exception) -> ConfigError:
    """Name the setting that has to change."""
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.EADDRINUSE:
        return ConfigError(
            f"ops.port = {port}: another process listens on {host}:{port} already; end it, or set ops.port to a "
            "free one (0: any), or switch the port off with ops.enabled = false"
        )
    if number == errno.EACCES:
        return ConfigError(f"ops.port = {port}: may not be listened on; set ops.port to 1024 or more")
    return ConfigError(
        f'ops.host = "{host}": cannot be listened on ({error}); set it to an address of this machine: 127.0.0.1 for '
        "this machine alone, 0.0.0.0 for all"
    )


class _Connection(web.RequestHandler):
    """A connection with a deadline."""

    __slots__ = ("_end", "_longest_s", "is_stream")

    def __init__(self, server: "_Server", longest_s: float, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            server,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]  # None switches it off
            logger=_SILENT,
            max_line_size=LONGEST_LINE,
            max_field_size=LONGEST_LINE,
            max_headers=MOST_HEADERS,
            lingering_time=0,
            auto_decompress=False,
        )
        self._longest_s = longest_s
        self._end: asyncio.TimerHandle | None = None
        self.is_stream = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert isinstance(transport, asyncio.Transport)
        assert self._manager is not None
        # In the order in which they came.
        short = [one for one in self._manager.connections if not getattr(one, "is_stream", False)]
        for oldest in short[:-MOST_CONNECTIONS]:
            if oldest.transport is not None:
                oldest.transport.abort()
        self._end = asyncio.get_running_loop().call_later(self._longest_s, transport.abort)

    def become_stream(self) -> bool:
        """Live longer than other connections, and count apart from them. False: there are enough streams."""
        assert self._manager is not None
        streams = [one for one in self._manager.connections if getattr(one, "is_stream", False)]
        if self.transport is None or len(streams) >= MOST_STREAMS:
            return False
        self.is_stream = True
        if self._end is not None:
            self._end.cancel()
        longest_s = LONGEST_STREAM_S + self._longest_s
        self._end = asyncio.get_running_loop().call_later(longest_s, self.transport.abort)
        return True

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._end is not None:
            self._end.cancel()
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - the library's words for people may quote the request
    ) -> web.StreamResponse:
        """Answer a malformed request, and one whose page has failed."""
        if status >= 500:
            log.error("ops.page_failed", path=request.path, exc_info=exc)
        return _response(as_json(status, {"error": "bad request" if status < 500 else "internal error"}))


class _Server(web.Server):
    """Hands each request to its page."""

    def __init__(
        self,
        pages: Mapping[str, Page],
        routes: Sequence[Route],
        longest_s: float,
        own_names: Collection[str],
    ) -> None:
        super().__init__(self._answer, handler_cancellation=True)
        self._routes = {route.path: route for route in routes}
        self._pages = pages
        self._longest_s = longest_s
        self._own_names = own_names

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, self._longest_s, self._loop)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        refusal = self._refusal(request, headers)
        if refusal is not None:
            return _response(refusal)
        if (page := self._pages.get(request.path)) is not None:
            return _response(await page() if request.method in READS else _wrong_method(READS))
        found = find_route(self._routes, request.rel_url.raw_path)
        if found is None:
            return _response(as_json(404, {"error": "there is no such page", "pages": sorted(self._pages)}))
        route, parameter = found
        if request.method not in route.methods:
            return _response(_wrong_method(route.methods))
        asked = await _request(request, headers, parameter)
        answer = asked if isinstance(asked, HttpReply) else await route.answer(asked)
        if isinstance(answer, HttpReply):
            return _response(answer)
        return await self._stream(request, answer)

    def _refusal(self, request: web.BaseRequest, headers: Mapping[str, str]) -> HttpReply | None:
        hosts = request.headers.getall("Host", [])
        if len(hosts) > 1 or is_foreign_host(hosts[0] if hosts else None, self._own_names):
            error = "this is not a name of this daemon; ops.allowed_hosts takes the names that it is asked by"
            return as_json(421, {"error": error})
        if is_cross_origin(headers):
            return as_json(403, {"error": "pages of other sites are not answered"})
        return None

    async def _stream(self, request: web.BaseRequest, stream: HttpStream) -> web.StreamResponse:
        connection = request.protocol
        async with aclosing(stream.parts):
            if request.method != "GET" or not isinstance(connection, _Connection):
                return _response(HttpReply(200, b"", stream.content_type))
            if not connection.become_stream():
                return _response(as_json(503, {"error": "too many pages are open"}))
            response = web.StreamResponse(headers=_headers(HttpReply(200, b"", stream.content_type)))
            response.force_close()
            await response.prepare(request)
            try:
                # A client that has gone needs no answer.
                with suppress(ConnectionError):
                    async with asyncio.timeout(LONGEST_STREAM_S):
                        await _write_parts(response, stream, self._longest_s)
            except TimeoutError:
                if connection.transport is not None:
                    connection.transport.abort()
        return response


async def _write_parts(response: web.StreamResponse, stream: HttpStream, longest_s: float) -> None:
    """Raises TimeoutError where the client takes nothing for `longest_s` seconds while its buffer is full."""
    async for part in stream.parts:
        async with asyncio.timeout(longest_s):
            await response.write(part)


async def _request(
    request: web.BaseRequest, headers: Mapping[str, str], parameter: str
) -> HttpRequest | HttpReply:
    """What a route sees of a request, or why it is refused."""
    body = b""
    if request.method not in READS:
        if (request.content_length or 0) > LARGEST_BODY:
            return as_json(413, {"error": "too large"})
        while len(body) <= LARGEST_BODY and (
            part := await request.content.read(LARGEST_BODY + 1 - len(body))
        ):
            body += part
        if len(body) > LARGEST_BODY:
            return as_json(413, {"error": "too large"})
    try:
        query = parameters(request.rel_url.raw_query_string)
    except ValueError:
        return as_json(400, {"error": "bad request"})
    return HttpRequest(
        request.method,
        request.path,
        query,
        parameter,
        headers,
        request.remote or "",
        body,
    )


def _wrong_method(methods: Sequence[str]) -> HttpReply:
    allowed = ", ".join(methods)
    return replace(as_json(405, {"error": f"only {allowed} are answered"}), headers={"Allow": allowed})


def _headers(reply: HttpReply) -> dict[str, str]:
    return {
        "Content-Type": reply.content_type,
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
        # Library and release would help only an attacker.
        "Server": "stockrelay",
        **reply.headers,
    }


def _response(reply: HttpReply) -> web.Response:
    response = web.Response(status=reply.status, body=reply.body, headers=_headers(reply))
    for cookie in reply.cookies:
        response.headers.add("Set-Cookie", cookie)
    response.force_close()
    return response
