"""Reports once what a new channel would be sent, and makes channels live whose settings say so."""

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Protocol

import structlog

from daemon import clock
from daemon.core.backoff import Interval
from daemon.core.errors import StockrelayError
from daemon.core.first_day import ListingSummary
from daemon.core.types import ChannelName
from daemon.liveness import Watchdog, unwatched
from daemon.services.loop import Pace, run_loop
from daemon.store.live import BY_CONFIGURATION, LiveChannel

log = structlog.get_logger(__name__)

_CALM_S: Final = 60.0
_LONGEST_LOOK_S: Final = 300.0
_LONGEST_DECISION_S: Final = 60.0


class FirstStartStore(Protocol):
    """What the service needs of the database."""

    async def all(self) -> dict[ChannelName, LiveChannel]: ...

    async def begin(self, channel: ChannelName, by: str, origin: str) -> LiveChannel | None: ...

    async def is_undecided(self, channel: ChannelName) -> bool: ...

    async def listing_summary(self, channel: ChannelName) -> ListingSummary: ...


@dataclass(eq=False)
class FirstStart:
    """Runs in every replica. No claim depends on it: each reads for itself whether the channel is live.

    `begins`: the channels that go live without a question, by the current settings.
    """

    live_channels: FirstStartStore
    channels: Collection[ChannelName]
    begins: Callable[[], Collection[ChannelName]]
    origin: str
    every: timedelta
    watchdog: Watchdog = field(default_factory=unwatched)
    monotonic: Callable[[], float] = clock.monotonic
    _waiting: set[ChannelName] = field(default_factory=set)
    _marked: dict[ChannelName, float] = field(default_factory=dict)

    async def run(self, stop: asyncio.Event) -> None:
        pace = Pace(self.every.total_seconds(), _LONGEST_LOOK_S)
        await run_loop(self._look, stop, self.watchdog, pace, self._on_failure)

    async def _look(self) -> Interval:
        live = await self.live_channels.all()
        begins = self.begins()
        for channel in self.channels:
            if channel in live:
                self._note_live(live[channel])
            elif channel in begins:
                await self.live_channels.begin(channel, BY_CONFIGURATION, self.origin)
            elif channel not in self._waiting:
                await self._say_what_waits(channel)
        is_calm = all(channel in live for channel in self.channels)
        return Interval(_CALM_S if is_calm else self.every.total_seconds())

    def _note_live(self, live: LiveChannel) -> None:
        if live.channel in self._waiting:
            self._waiting.discard(live.channel)
            log.info(
                "run.channel_live",
                channel=live.channel,
                by=live.by,
                origin=live.origin,
                since=live.since.isoformat(),
            )

    async def _say_what_waits(self, channel: ChannelName) -> None:
        """Say once what a channel would be sent, as soon as its whole listing has been read and decided.

        What is parked or held is not known before. A channel that takes longer to decide is said all the same.
        """
        now = self.monotonic()
        is_early = now - self._marked.get(channel, now) < _LONGEST_DECISION_S
        if is_early and await self.live_channels.is_undecided(channel):
            self._marked.setdefault(channel, now)
            return
        facts = await self.live_channels.listing_summary(channel)
        if facts.compared_at is None:
            return
        self._waiting.add(channel)
        log.error(
            "run.first_start_waits",
            channel=channel,
            advice=f"nothing is sent until `stockrelay go-live {channel}`; --dry-run shows more",
            **facts.as_answer(),
        )

    def _on_failure(self, error: StockrelayError) -> None:
        log.warning("run.first_start_delayed", reason=str(error))
