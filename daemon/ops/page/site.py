"""The page's addresses, and what answers each."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import quote, urlencode

import structlog

from daemon.core.errors import StockrelayError
from daemon.core.page_words import Language, accepted_language, known_language
from daemon.ops.messages import HttpReply, HttpRequest, Route
from daemon.ops.page.rendering import Renderer

log = structlog.get_logger(__name__)

STATIC: Final = {"page.css": "text/css; charset=utf-8", "page.js": "text/javascript; charset=utf-8"}
SECTIONS: Final = {"overview": ("summary", "channels", "replicas", "notices", "capture")}
"""The parts of a page that change by themselves; each is a template and the id of an element."""
_A_YEAR_S: Final = 31_536_000
_LONGEST_NAME: Final = 1000


Made = tuple[int, str, Mapping[str, Any]]
"""A status, a template and its facts."""
Make = Callable[[HttpRequest], Awaitable[Made | HttpReply]]


class Source(Protocol):
    """Where the facts come from. Each method raises StockrelayError where they cannot be read."""

    def channels(self, language: Language) -> Mapping[str, str]:
        """Return the enabled channels, with their names for people."""

    async def overview(self) -> Mapping[str, Any]: ...


@dataclass(eq=False)
class Site:
    """Answers with pages; all of them are read-only. `account` says what each page shows of who is signed in."""

    source: Source
    renderer: Renderer
    account: Callable[[HttpRequest], Mapping[str, Any]] = lambda _request: {}
    _files: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        folder = Path(__file__).with_name("static")
        self._files = {name: folder.joinpath(name).read_bytes() for name in STATIC}

    def routes(self) -> list[Route]:
        """Return what the ops port has to answer."""
        return [
            Route("/", partial(self._page, self._overview)),
            Route("/static/*", self._static),
        ]

    async def _static(self, request: HttpRequest) -> HttpReply:
        kind = STATIC.get(request.parameter)
        if kind is None:
            return await self._page(self._unknown, request)
        return HttpReply(200, self._files[request.parameter], kind)

    async def _overview(self, _request: HttpRequest) -> tuple[int, str, Mapping[str, Any]]:
        return 200, "overview.html", {"sections": SECTIONS["overview"], **await self.source.overview()}

    async def _unknown(self, _request: HttpRequest) -> tuple[int, str, Mapping[str, Any]]:
        return 404, "message.html", {"message": "not_found"}

    async def page(self, make: Make, request: HttpRequest) -> HttpReply:
        """Answer with a page that is made elsewhere."""
        return await self._page(make, request)

    async def _page(self, make: Make, request: HttpRequest) -> HttpReply:
        """Render one page, in the language of the request."""
        chosen = known_language(request.query.get("lang"))
        language = chosen or _remembered(request)
        try:
            made = await make(request)
            if isinstance(made, HttpReply):
                return made
            status, template, facts = made
        except StockrelayError as error:
            log.warning("ops.page_unavailable", path=request.path, reason=str(error))
            status, template, facts = 503, "message.html", {"message": "unavailable"}
        reply = self.renderer.page(template, language, {**self._frame(request, language), **facts}, status)
        # A person has chosen; a link that names the language is remembered.
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


def _remembered(request: HttpRequest) -> Language:
    return known_language(request.cookies.get("lang")) or accepted_language(
        request.headers.get("accept-language", "")
    )


def _language_cookie(language: Language) -> str:
    return f"lang={language}; Path=/; Max-Age={_A_YEAR_S}; SameSite=Lax; HttpOnly"
