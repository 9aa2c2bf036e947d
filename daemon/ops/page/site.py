"""The page's addresses, and what answers each."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import quote, urlencode

import structlog

from daemon.core.errors import StockrelayError, StoreUnavailable
from daemon.core.exposure import Sums
from daemon.core.page_words import Language, accepted_language, known_language
from daemon.core.types import ChannelName
from daemon.ops.messages import HttpReply, HttpRequest, HttpStream, Route, as_json
from daemon.ops.page.cursors import decode_cursor, list_page
from daemon.ops.page.live import OVERVIEW, READ_S, LiveUpdates, View
from daemon.ops.page.rendering import Renderer
from daemon.ops.shared_reads import SharedReads
from daemon.threads import in_thread

log = structlog.get_logger(__name__)

STATIC: Final = {
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_A_YEAR_S: Final = 31_536_000
_LONGEST_NAME: Final = 1000
_KEYS: Final[Mapping[str, Callable[[Any], tuple[object, ...]]]] = {
    "held": lambda row: (-1 if row.was is None else row.was, row.sku),
    "parked": lambda row: (row.since, row.sku),
    "differences": lambda row: (row.sku, row.kind),
}
"""The key by which each list of a channel is ordered."""


PageContent = tuple[int, str, Mapping[str, Any]]
"""A status, a template and its facts."""
MakePage = Callable[[HttpRequest], Awaitable[PageContent | HttpReply]]


class Source(Protocol):
    """Where the facts come from. Each method raises StockrelayError where they cannot be read."""

    def channels(self, language: Language) -> Mapping[str, str]:
        """Return the enabled channels, with their names for people."""

    @property
    def list_size(self) -> int:
        """How many rows of a list a page has."""

    async def overview(self) -> Mapping[str, Any]: ...

    async def channel(
        self,
        name: ChannelName,
        held: tuple[int, str] | None,
        parked: tuple[datetime, str] | None,
        differences: tuple[str, str] | None,
    ) -> Mapping[str, Any]: ...

    async def sku(self, asked: str, channel: str | None) -> tuple[Any, Mapping[str, Any]]: ...

    async def exposure(self, channels: Collection[ChannelName]) -> Mapping[str, Mapping[date, Sums]]:
        """Return the exposure of the last days, by channel and day."""


@dataclass(eq=False)
class Site:
    """Answers with pages; all of them are read-only. `account` returns what each page shows about the session."""

    source: Source
    renderer: Renderer
    live: LiveUpdates
    account: Callable[[HttpRequest], Mapping[str, Any]] = lambda _request: {}
    keep_s: float = READ_S
    _rendered: SharedReads[HttpReply] = field(init=False)
    _files: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        folder = Path(__file__).with_name("static")
        self._rendered = SharedReads(self.keep_s)
        self._files = {name: folder.joinpath(name).read_bytes() for name in STATIC}

    def routes(self) -> list[Route]:
        """Return the routes of the pages."""
        return [
            Route("/", partial(self._shared, self._overview)),
            Route("/channel/*", partial(self._shared, self._channel)),
            Route("/sku", partial(self.page, self._sku)),
            Route("/events", self._events),
            Route("/static/*", self._static),
        ]

    async def _static(self, request: HttpRequest) -> HttpReply:
        kind = STATIC.get(request.parameter)
        if kind is None:
            return await self.page(self._unknown, request)
        return HttpReply(200, self._files[request.parameter], kind)

    async def _overview(self, _request: HttpRequest) -> PageContent:
        facts = dict(await self.source.overview())
        facts["exposure"] = await self.source.exposure([*map(ChannelName, self.source.channels("en"))])
        return 200, "overview.html", {"sections": OVERVIEW, "only": None, "stale_since": None, **facts}

    async def _channel(self, request: HttpRequest) -> PageContent:
        name = ChannelName(request.parameter)
        if name not in self.source.channels("en"):
            return await self._unknown(request)
        query = request.query
        try:
            held = decode_cursor(query.get("held", ""), int)
            parked = decode_cursor(query.get("parked", ""), datetime)
            differences = decode_cursor(query.get("differences", ""), str)
        except ValueError:
            return 400, "message.html", {"message": "bad_request"}
        facts = {**await self.source.overview(), "only": name, "stale_since": None}
        facts["exposure"] = await self.source.exposure([name])
        lists = dict(await self.source.channel(name, held, parked, differences))
        for kind, key in _KEYS.items():
            lists[kind] = list_page(lists[kind], self.source.list_size, key, query.get(kind, ""))
        return 200, "channel.html", facts | lists

    async def _sku(self, request: HttpRequest) -> PageContent:
        asked, channel = request.query.get("q", ""), request.query.get("channel") or None
        if channel is not None and channel not in self.source.channels("en"):
            return await self._unknown(request)
        nothing: dict[str, Any] = {"found": None, "problem": None, "timelines": {}}
        if not asked.strip():
            return 200, "sku.html", nothing
        try:
            found, timelines = await self._named(asked, channel)
        except StockrelayError as error:
            # Only an unknown SKU is said to the reader: other errors may name the database's address.
            if type(error) is not StockrelayError:
                raise
            return 200, "sku.html", nothing | {"problem": str(error)}
        return 200, "sku.html", {"found": found, "problem": None, "timelines": timelines}

    async def _named(self, asked: str, channel: str | None) -> tuple[Any, Mapping[str, Any]]:
        """Look for a SKU as it was given first: blanks at its ends may belong to it, or to what was typed."""
        try:
            return await self.source.sku(asked, channel)
        except StockrelayError as error:
            if type(error) is not StockrelayError or asked == asked.strip():
                raise
        return await self.source.sku(asked.strip(), channel)

    async def _events(self, request: HttpRequest) -> HttpReply | HttpStream:
        channel = request.query.get("channel")
        if channel is not None and channel not in self.source.channels("en"):
            return as_json(404, {"error": "there is no such channel"})
        view = View(_language(request), channel)
        return HttpStream(self.live.events(view), "text/event-stream; charset=utf-8")

    async def _unknown(self, _request: HttpRequest) -> PageContent:
        return 404, "message.html", {"message": "not_found"}

    async def _shared(self, make: MakePage, request: HttpRequest) -> HttpReply:
        """Render one page for all who request the same within a moment."""
        account = self.account(request).get("account", {})
        who = (account.get("name"), account.get("csrf"))
        key = (request.path, tuple(request.query.items()), _language(request), who)
        return await self._rendered.get(key, partial(self.page, make, request))

    async def page(self, make: MakePage, request: HttpRequest) -> HttpReply:
        """Render the page that `make` returns, in the language of the request."""
        chosen = known_language(request.query.get("lang"))
        language = _language(request)
        try:
            made = await make(request)
            if isinstance(made, HttpReply):
                return made
            status, template, facts = made
        except StockrelayError as error:
            log.warning("ops.page_unavailable", path=request.path, reason=str(error))
            message = "unavailable" if isinstance(error, StoreUnavailable) else "unreadable"
            status, template, facts = 503, "message.html", {"message": message}
        facts = {**self._frame(request, language), **facts}
        # A page takes tens of milliseconds, in which nothing would be sent.
        reply = await in_thread(
            partial(self.renderer.page, template, language, facts, status), "ops-page-rendering"
        )
        # A language that was chosen by a link is remembered.
        return replace(reply, cookies=(_language_cookie(chosen),)) if chosen else reply

    def _frame(self, request: HttpRequest, language: Language) -> dict[str, Any]:
        """What every page shows around its facts."""
        query = {name: value for name, value in request.query.items() if name != "lang"}
        return {
            "channels_by_name": self.source.channels(language),
            "path": quote(request.path),
            "language_link": lambda code: f"{quote(request.path)}?{urlencode(query | {'lang': code})}",
            "asked": request.query.get("q", "")[:_LONGEST_NAME],
            "asked_channel": request.query.get("channel", ""),
            **self.account(request),
        }


def _language(request: HttpRequest) -> Language:
    chosen = known_language(request.query.get("lang")) or known_language(request.cookies.get("lang"))
    return chosen or accepted_language(request.headers.get("accept-language", ""))


def _language_cookie(language: Language) -> str:
    return f"lang={language}; Path=/; Max-Age={_A_YEAR_S}; SameSite=Lax; HttpOnly"
