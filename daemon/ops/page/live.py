"""Sends open pages what has changed, by server-sent events. One reader and renderer serves all of them."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, Final, NamedTuple

import structlog

from daemon.core.errors import StockrelayError
from daemon.core.page_words import Language
from daemon.ops.page.rendering import Renderer
from daemon.threads import in_thread

log = structlog.get_logger(__name__)

OVERVIEW: Final = ("age", "summary", "channels", "attempts", "replicas", "notices", "capture")
"""The overview's sections that change by themselves; each is a template and the id of an element."""
CHANNEL: Final = ("age", "channel", "attempts")
READ_S: Final = 2.0
_RETRY_MS: Final = 3_000
_QUIET_S: Final = 15.0


class View(NamedTuple):
    """What a page shows: the overview, or one channel, in a language."""

    language: Language
    channel: str | None


@dataclass(eq=False)
class _Client:
    """An open page: the sections that it has not been sent yet. A slow client skips what is overtaken, so that it keeps
    at most one text for each section."""

    pending: dict[str, str] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    is_over: bool = False

    def offer(self, sections: Mapping[str, str]) -> None:
        self.pending |= sections
        self.changed.set()

    def end(self) -> None:
        self.is_over = True
        self.changed.set()


@dataclass(eq=False)
class LiveUpdates:
    """Reads while a page is open, and only then. `read` returns the overview's facts, which hold every channel's."""

    read: Callable[[], Awaitable[Mapping[str, Any]]]
    channels: Callable[[Language], Mapping[str, str]]
    renderer: Renderer
    every_s: float = READ_S
    _clients: dict[View, set[_Client]] = field(default_factory=dict)
    _shown: dict[View, dict[str, str]] = field(default_factory=dict)
    _reading: asyncio.Task[None] | None = None
    _read_at: datetime | None = None
    _is_closed: bool = False

    async def events(self, view: View) -> AsyncGenerator[bytes, None]:
        """Yield events until the client leaves: every section first, then those that change."""
        client = _Client(dict(self._shown.get(view, {})))
        client.changed.set()
        self._clients.setdefault(view, set()).add(client)
        if self._reading is None and not self._is_closed:
            # The page was loaded a moment ago.
            self._read_at = self.renderer.now()
            self._reading = asyncio.create_task(self._read_on(), name="ops-page-live")
        try:
            yield f"retry: {_RETRY_MS}\n\n".encode()
            while not (client.is_over or self._is_closed):
                sections, client.pending = client.pending, {}
                client.changed.clear()
                for name, text in sections.items():
                    yield f"event: section\ndata: {json.dumps({'id': name, 'html': text})}\n\n".encode()
                if not await _is_set_within(client.changed, _QUIET_S):
                    # A proxy ends a connection that says nothing.
                    yield b": still here\n\n"
        finally:
            self._leave(view, client)

    async def close(self) -> None:
        """End every stream."""
        self._is_closed = True
        for clients in self._clients.values():
            for client in clients:
                client.end()
        await self._stop_reading()

    def _leave(self, view: View, client: _Client) -> None:
        clients = self._clients.get(view, set())
        clients.discard(client)
        if not clients:
            self._clients.pop(view, None)
            self._shown.pop(view, None)
        if not self._clients and self._reading is not None:
            self._reading.cancel()
            self._reading = None

    async def _stop_reading(self) -> None:
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.cancel()
            await asyncio.wait({reading})

    async def _read_on(self) -> None:
        try:
            while True:
                try:
                    facts = await self.read()
                    self._read_at = self.renderer.now()
                    await self._show(facts)
                except StockrelayError as error:
                    # The log of the status has the reason.
                    log.debug("ops.live_update_delayed", reason=str(error))
                    self._show_age()
                await asyncio.sleep(self.every_s)
        except Exception:
            # A bug of ours ends the streams; browsers come back, and the next reader tries again.
            log.exception("ops.page_failed", path="/events")
            self._reading = None
            for clients in self._clients.values():
                for client in clients:
                    client.end()

    async def _show(self, facts: Mapping[str, Any]) -> None:
        for view in list(self._clients):
            sections = await in_thread(partial(self._sections, view, facts), "ops-page-rendering")
            if view in self._clients:
                self._offer(view, sections)

    def _show_age(self) -> None:
        """Say on open pages that the database does not answer, and from when their data is."""
        facts = {"stale_since": self._read_at}
        for view in self._clients:
            self._offer(view, {"age": self.renderer.text("sections/age.html", view.language, facts).strip()})

    def _offer(self, view: View, fresh: Mapping[str, str]) -> None:
        before = self._shown.setdefault(view, {})
        changed = {name: text for name, text in fresh.items() if before.get(name) != text}
        before |= changed
        if changed:
            for client in self._clients[view]:
                client.offer(changed)

    def _sections(self, view: View, facts: Mapping[str, Any]) -> dict[str, str]:
        if view.channel is not None and view.channel not in facts["status"]["channels"]:
            return {}
        names = OVERVIEW if view.channel is None else CHANNEL
        shown = {
            **facts,
            "stale_since": None,
            "only": view.channel,
            "channels_by_name": self.channels(view.language),
        }
        return {
            name: self.renderer.text(f"sections/{name}.html", view.language, shown).strip() for name in names
        }


async def _is_set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
