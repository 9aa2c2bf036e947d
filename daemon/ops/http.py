"""The ops port's HTTP: short answers to a few clients at a time, also to hostile ones.

A connection carries one request and lives for seconds; a request is small, GET or HEAD, and its answer is made at once.
"""

import asyncio
import errno
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import structlog
from aiohttp import web

from daemon.core.callers import is_cross_origin, is_foreign_host
from daemon.core.errors import ConfigError

log = structlog.get_logger(__name__)

MOST_CONNECTIONS: Final = 32
"""Probes and a scraper need three. One more closes the oldest, so a client that only
holds connections keeps no probe out."""
LONGEST_S: Final = 10.0
"""A connection ends after this many seconds, however slowly its client writes or reads."""
LONGEST_LINE: Final = 2048
MOST_HEADERS: Final = 64
_JSON: Final = "application/json; charset=utf-8"
_METHODS: Final = "GET, HEAD"
# Clients' mistakes are not logged: anyone could fill the log with them.
_SILENT: Final = logging.getLogger("daemon.ops.requests")
_SILENT.disabled = True


@dataclass(frozen=True, slots=True)
class HttpReply:
    """An answer: status, body and its type."""

    status: int
    body: bytes
    content_type: str = _JSON


Page = Callable[[], Awaitable[HttpReply]]


def as_json(status: int, answer: Mapping[str, Any]) -> HttpReply:
    """An answer as JSON, with a newline at its end for terminals."""
    text = json.dumps(answer, ensure_ascii=False, indent=2, default=_json)
    return HttpReply(status, text.encode(errors="backslashreplace") + b"\n")


def _json(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


@asynccontextmanager
async def listening(
    host: str,
    port: int,
    pages: Mapping[str, Page],
    longest_s: float = LONGEST_S,
    allowed_hosts: Collection[str] = (),
) -> AsyncIterator[int]:
    """Serve the pages, by path, until the end; the value is the port (0 asks for any that is free).

    A connection is cut off after `longest_s` seconds. A request's Host must be an IP address, a loopback name, `host`
    or one of `allowed_hosts`. Raises ConfigError when it cannot be listened there.
    """
    loop = asyncio.get_running_loop()
    server = _Server(pages, longest_s, (host, *allowed_hosts))
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

    __slots__ = ("_end", "_longest_s")

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

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert isinstance(transport, asyncio.Transport)
        assert self._manager is not None
        # In the order in which they came.
        for oldest in self._manager.connections[:-MOST_CONNECTIONS]:
            if oldest.transport is not None:
                oldest.transport.abort()
        self._end = asyncio.get_running_loop().call_later(self._longest_s, transport.abort)

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

    def __init__(self, pages: Mapping[str, Page], longest_s: float, own_names: Collection[str]) -> None:
        super().__init__(self._answer, handler_cancellation=True)
        self._pages = pages
        self._longest_s = longest_s
        self._own_names = own_names

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, self._longest_s, self._loop)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        hosts = request.headers.getall("Host", [])
        if len(hosts) > 1 or is_foreign_host(hosts[0] if hosts else None, self._own_names):
            error = "this is not a name of this daemon; ops.allowed_hosts takes the names that it is asked by"
            return _response(as_json(421, {"error": error}))
        if is_cross_origin({name.lower(): value for name, value in request.headers.items()}):
            return _response(as_json(403, {"error": "pages of other sites are not answered"}))
        page = self._pages.get(request.path)
        if page is None:
            return _response(as_json(404, {"error": "there is no such page", "pages": sorted(self._pages)}))
        if request.method not in _METHODS.split(", "):
            response = _response(as_json(405, {"error": f"only {_METHODS} are answered"}))
            response.headers["Allow"] = _METHODS
            return response
        return _response(await page())


def _response(reply: HttpReply) -> web.Response:
    headers = {
        "Content-Type": reply.content_type,
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
        # Library and release would help only an attacker.
        "Server": "stockrelay",
    }
    response = web.Response(status=reply.status, body=reply.body, headers=headers)
    response.force_close()
    return response
