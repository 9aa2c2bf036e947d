"""What operators do to channels and SKUs, by command or on the page. Each action is logged as an operation."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from daemon import clock
from daemon.app.building import why_not_sent
from daemon.core.operations import Action, Operator
from daemon.core.types import ChannelName, Sku
from daemon.settings import Settings
from daemon.store.answers import Answers
from daemon.store.control import Pause, Pauses
from daemon.store.database import Database
from daemon.store.guard import Guard, Released
from daemon.store.live import LiveChannel, LiveChannels
from daemon.store.operations import OperationLog
from daemon.store.parked import Parked
from daemon.store.pushes import Pushes, PushState
from daemon.store.reconcile_rows import ReconcileRun

_LOOK_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class OperatorActions:
    """The actions of one operator. Raises StockrelayError."""

    settings: Settings
    database: Database
    operator: Operator

    async def release(self, channel: ChannelName) -> tuple[Released | None, datetime | None]:
        """Release what the guard holds (None: nothing); return until when further numbers pass, too."""
        guard = Guard(self.database)
        released = await guard.release(channel, self.settings.guard.window, self.operator)
        return released, (await guard.state(channel)).passes_until

    async def why_shadow(self, channel: ChannelName) -> str | None:
        """Return why nothing is sent to the channel; None: it is live."""
        return await why_not_sent(self.settings, self.database, channel)

    async def pause(self, channel: ChannelName, reason: str) -> tuple[Pause, int]:
        """Pause the channel; return how many requests are still in flight."""
        return await Pauses(self.database).pause(channel, self.operator.name, reason, self.operator)

    async def resume(self, channel: ChannelName) -> Pause | None:
        """Resume the channel; return the pause that was."""
        return await Pauses(self.database).resume(channel, self.operator)

    async def go_live(self, channel: ChannelName, reading: ReconcileRun | None = None) -> LiveChannel:
        """Make the channel live; return since when it is, and who decided. `reading`: see `LiveChannels.begin`."""
        live_channels = LiveChannels(self.database)
        operator = self.operator
        begun = await live_channels.begin(channel, operator.name, operator.origin, operator, reading)
        return begun or (await live_channels.all())[channel]

    async def retry(self, channel: ChannelName, skus: Sequence[Sku] | None) -> list[Sku]:
        """Try parked SKUs again, or all of them (None) at half the channel's rate; return those that were parked."""
        rate = self.settings.enabled_channels()[channel].rate_per_s / 2
        return await Parked(self.database, channel).retry(skus, rate, self.operator)

    async def discard(self, channel: ChannelName, skus: Sequence[Sku] | None) -> list[Sku]:
        """Discard parked SKUs, or all of them (None); return those that were parked."""
        return await Parked(self.database, channel).discard(skus, self.operator)

    async def push(
        self, channel: ChannelName, sku: Sku, on_state: Callable[[PushState], None], stop: asyncio.Event
    ) -> tuple[datetime | None, bool]:
        """Have a daemon send the SKU now, and wait for its end or `stop`; `on_state` gets each state. Return since when
        the SKU is due (None: the guard holds it), and whether it was waited for to the end."""
        pushes, asked = Pushes(self.database, channel), None
        while not stop.is_set():
            # Not while an attempt is in flight: its answer would be of an older number.
            asked = asked or await pushes.ask(sku, self.operator)
            state = await pushes.state(sku)
            if state.is_over and (asked is not None or state.is_held):
                if asked is not None and asked.operation is not None:
                    outcome = await self.push_outcome(channel, sku, asked.at)
                    await self.end(asked.operation, Action.PUSH, channel, outcome)
                return asked.at if asked else None, True
            on_state(state)
            await clock.wait_any(_LOOK_S, stop)
        return asked.at if asked else None, False

    async def push_outcome(self, channel: ChannelName, sku: Sku, since: datetime) -> str:
        """Return how the last attempt since then ended, with the marketplace's words."""
        last = await Answers(self.database).attempts([channel], sku=sku, since=since, outcomes=(), limit=1)
        if not last:
            return "nothing was sent"
        words = f": {last[0].attempt.reason}" if last[0].attempt.reason else ""
        return f"{last[0].attempt.outcome}, {last[0].attempt.quantity}{words}"

    async def begin(self, action: Action, channel: ChannelName | None, reason: str) -> int | None:
        """Log an action whose outcome is logged later, by `end`."""
        return await OperationLog(self.database).log(self.operator, action, channel, None, reason=reason)

    async def end(
        self, operation: int | None, action: Action, channel: ChannelName | None, outcome: str
    ) -> None:
        """Log the outcome of an action."""
        await OperationLog(self.database).log(self.operator, action, channel, outcome, ends=operation)
