"""Reports once what a new channel would be sent, and makes channels live whose settings say so."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any, Final, Protocol

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
_POST_S: Final = 60.0
_WAITED: Final = timedelta(hours=4)
"""A channel that has waited for this long is notified, and then again after `_EVERY`."""
_EVERY: Final = timedelta(hours=24)


class FirstStartStore(Protocol):
    """What the service needs of the database."""

    async def all(self) -> dict[ChannelName, LiveChannel]: ...

    async def begin(self, channel: ChannelName, by: str, origin: str) -> LiveChannel | None: ...

    async def is_undecided(self, channel: ChannelName) -> bool: ...

    async def listing_summary(self, channel: ChannelName) -> ListingSummary: ...

    async def post_waiting(self, channel: ChannelName, after: timedelta, every: timedelta) -> None: ...


@dataclass(eq=False)
class FirstStart:
    """Runs in every replica. No claim depends on it: each reads for itself whether the channel is live.

    `begins`: the channels that go live without a question, by the current settings. `compare` reads what the
    marketplace holds (None: it can't be read) where `is_first` says that no other replica does.
    """

    live_channels: FirstStartStore
    channels: Collection[ChannelName]
    begins: Callable[[], Collection[ChannelName]]
    origin: str
    every: timedelta
    compare: Callable[[ChannelName], Awaitable[Mapping[str, Any] | None]]
    is_first: Callable[[ChannelName], bool]
    watchdog: Watchdog = field(default_factory=unwatched)
    monotonic: Callable[[], float] = clock.monotonic
    _waiting: set[ChannelName] = field(default_factory=set)
    _marked: dict[ChannelName, float] = field(default_factory=dict)
    _comparing: dict[ChannelName, asyncio.Task[None]] = field(default_factory=dict)
    _post_at: float = -math.inf

    async def run(self, stop: asyncio.Event) -> None:
        pace = Pace(self.every.total_seconds(), _LONGEST_LOOK_S)
        async with asyncio.TaskGroup() as group:
            # Beside the loop: a marketplace may take half an hour to read.
            await run_loop(partial(self._look, group), stop, self.watchdog, pace, self._on_failure)
            for task in self._comparing.values():
                task.cancel()
        self._comparing.clear()

    async def _look(self, group: asyncio.TaskGroup) -> Interval:
        live = await self.live_channels.all()
        begins = self.begins()
        for channel in self.channels:
            if channel in live:
                self._note_live(live[channel])
            elif channel in begins:
                await self.live_channels.begin(channel, BY_CONFIGURATION, self.origin)
            elif channel not in self._waiting:
                await self._say_what_waits(channel)
            elif channel not in self._comparing and self.is_first(channel):
                self._comparing[channel] = group.create_task(
                    self._compare(channel), name=f"compare-{channel}"
                )
        if self.monotonic() >= self._post_at:
            self._post_at = self.monotonic() + _POST_S
            for channel in self._waiting:
                await self.live_channels.post_waiting(channel, _WAITED, _EVERY)
        is_calm = all(channel in live for channel in self.channels)
        return Interval(_CALM_S if is_calm else self.every.total_seconds())

    def _note_live(self, live: LiveChannel) -> None:
        if live.channel in self._waiting:
            self._waiting.discard(live.channel)
            if (task := self._comparing.get(live.channel)) is not None:
                task.cancel()
            log.info(
                "run.channel_live",
                channel=live.channel,
                by=live.by,
                origin=live.origin,
                since=live.since.isoformat(),
            )

    async def _say_what_waits(self, channel: ChannelName) -> None:
        """Say once what a channel would be sent, as soon as its whole listing has been read and decided.

        Which SKUs are parked or held is known only then. A channel that takes too long to decide is reported anyway.
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

    async def _compare(self, channel: ChannelName) -> None:
        """Say once how what would be sent differs from what the marketplace holds."""
        try:
            found = await self.compare(channel)
        except StockrelayError as error:
            found = {"at_marketplace": None, "not_compared": str(error)}
        if found is not None:
            log.info("run.first_start_compared", channel=channel, **found)

    def _on_failure(self, error: StockrelayError) -> None:
        log.warning("run.first_start_delayed", reason=str(error))
