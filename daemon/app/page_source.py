"""Reads what the operators' page shows."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import partial
from typing import Any, Final

from daemon import clock
from daemon.app.building import connect_options, operators_zone
from daemon.app.configuration import titles
from daemon.app.explaining import ExplainedSku, explained
from daemon.core.exposure import Sums
from daemon.core.exposure_plot import first_day
from daemon.core.page_states import channel_views
from daemon.core.page_words import Language
from daemon.core.sku_timeline import timeline
from daemon.core.types import ChannelName, Sku
from daemon.ops.pages import STATUS_DUTY, StatusPage
from daemon.ops.shared_reads import SharedReads
from daemon.settings import Settings
from daemon.store import migrate as migrations
from daemon.store.connecting import ConnectOptions
from daemon.store.database import Database
from daemon.store.exposure import Exposure
from daemon.store.history import PAGE, PageHistory, PushMinute
from daemon.store.leases import Leases

_CONNECTIONS: Final = 2
_ATTEMPTS: Final = 50
_MINUTE_S: Final = 60.0
_KEPT_S: Final = 2.0
"""As often as open pages are brought up to date."""
_EXPOSURE_KEPT_S: Final = 30.0


@dataclass(eq=False)
class PageSource:
    """`settings` returns those of now. The status is the ops port's, read at most every few seconds for all pages.

    The page has connections of its own, made when it is first looked at: it takes none from what sends. Its viewers
    share what is read.
    """

    settings: Callable[[], Settings]
    status: StatusPage
    list_size: int = PAGE
    _database: Database | None = None
    _options: ConnectOptions | None = None
    _opening: asyncio.Lock = field(default_factory=asyncio.Lock)
    _shared: SharedReads[Mapping[str, Any]] = field(default_factory=lambda: SharedReads(_KEPT_S, STATUS_DUTY))
    _exposure: SharedReads[Mapping[date, Sums]] = field(
        default_factory=lambda: SharedReads(_EXPOSURE_KEPT_S, STATUS_DUTY)
    )

    def channels(self, language: Language) -> Mapping[str, str]:
        """Return the enabled channels, with their names for people."""
        settings = self.settings()
        names = titles(settings, language)
        return {name: names[name] for name in settings.enabled_channels()}

    async def overview(self) -> Mapping[str, Any]:
        """Return the state of everything. Raises StockrelayError."""
        return await self._shared.get("overview", self._overview)

    async def _overview(self) -> Mapping[str, Any]:
        status = await self.status.facts()
        channels = list(self.settings().enabled_channels())
        history = PageHistory(await self._opened())
        return {
            "status": status,
            "states": channel_views(status["channels"]),
            "rates": {name: one.rate_per_s for name, one in self.settings().enabled_channels().items()},
            "hours": _by_channel(channels, await history.minutes(channels)),
            "successes": await history.last_success(),
            "attempts": await history.newest_attempts(channels),
        }

    async def channel(
        self,
        name: ChannelName,
        held: tuple[int, str] | None,
        parked: tuple[datetime, str] | None,
        differences: tuple[str, str] | None,
    ) -> Mapping[str, Any]:
        """Return all of one channel, its lists from these rows on. Raises StockrelayError."""
        rows = (name, held, parked, differences)
        return await self._shared.get(rows, partial(self._channel, *rows))

    async def _channel(
        self,
        name: ChannelName,
        held: tuple[int, str] | None,
        parked: tuple[datetime, str] | None,
        differences: tuple[str, str] | None,
    ) -> Mapping[str, Any]:
        history = PageHistory(await self._opened())
        leases = await Leases(await self._opened()).all()
        return {
            "held": await history.held(name, held),
            "parked": await history.parked(name, parked),
            "differences": await history.differences(name, differences),
            "runs": await history.runs(name),
            "slots": [lease for lease in leases if lease.channel == name],
            "slot_changes": await history.slot_changes(name),
        }

    async def sku(self, asked: str, channel: str | None) -> tuple[ExplainedSku, Mapping[str, Any]]:
        """Return a SKU's explanation, and its timeline by channel. Raises StockrelayError where it is unknown."""
        name = None if channel is None else ChannelName(channel)
        found = await explained(self.settings(), Sku(asked), name, _ATTEMPTS)
        return found, {facts.channel: timeline(facts) for facts, _ in found.explained}

    async def exposure(self, channels: Collection[ChannelName]) -> Mapping[str, Mapping[date, Sums]]:
        """Return the exposure of the last days, by channel and day. Raises StockrelayError."""
        return {name: await self._exposure.get(name, partial(self._by_day, name)) for name in channels}

    async def _by_day(self, name: ChannelName) -> Mapping[date, Sums]:
        zone = operators_zone(self.settings())
        first = first_day(clock.now().astimezone(zone).date())
        return await Exposure(await self._opened(), zone).by_day(name, first)

    async def close(self) -> None:
        """End what is being read, and close the connections."""
        await self._shared.close()
        await self._exposure.close()
        await self._disconnect()

    async def _disconnect(self) -> None:
        if self._database is not None:
            await self._database.close()
            self._database = None

    async def _opened(self) -> Database:
        async with self._opening:
            settings = self.settings()
            options = connect_options(settings, is_direct=False)
            if self._options != options:
                # The first time, or a password has changed.
                await self._disconnect()
            if self._database is None:
                await migrations.check_version(connect_options(settings, is_direct=True))
                database = Database(options, _CONNECTIONS)
                try:
                    await database.open()
                except BaseException:
                    await database.close()
                    raise
                self._database, self._options = database, options
            return self._database


def _by_channel(channels: Sequence[str], minutes: Sequence[PushMinute]) -> dict[str, dict[str, Any]]:
    """The last hour of each channel: pushes and average latency by the minute, and the rate of the last minute."""
    found: dict[str, dict[str, Any]] = {}
    for channel in channels:
        own = [one for one in minutes if one.channel == channel]
        latest = own[-1].applied if own else None
        found[channel] = {
            "pushes": [one.applied for one in own],
            "failures": sum(one.failed or 0 for one in own),
            "latencies": [(one.latency_s or 0.0) / one.delivered if one.delivered else None for one in own],
            "rate": None if latest is None else latest / _MINUTE_S,
        }
    return found
