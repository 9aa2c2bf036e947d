"""Takes one replica's share of the lanes, and follows a new division."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import structlog

from daemon import clock
from daemon.core.backoff import backoff
from daemon.core.errors import StockrelayError
from daemon.core.sharing import LaneView, Moves, moves
from daemon.core.types import ChannelName, Lane
from daemon.progress import Pulse, unwatched
from daemon.services.heeding import Heeding
from daemon.services.lanes.keeper import LaneKeeper, Server, Tenure
from daemon.store.lanes import Lanes, LaneState

log = structlog.get_logger(__name__)

_LOOK_S: Final = 1.0
"""How often a replica looks which lanes there are and who has them."""


_STEADY_S: Final = 60.0
_RETRY_BASE: Final = timedelta(seconds=1)
_RETRY_CAP: Final = timedelta(seconds=60)
"""A lane whose service failed is taken again after a pause that doubles, until it has been served for a minute."""


@dataclass(frozen=True, slots=True)
class Served:
    """A channel that this replica serves: by whom, and into how many lanes it is to be divided. None: as it is."""

    server: Server
    lanes: int | None


@dataclass(slots=True)
class _Kept:
    state: LaneState
    tenure: Tenure
    stop: asyncio.Event


class LaneSharing:
    """Keeps as many lanes as are this replica's share; `wake` has it look now.

    A `guest` takes what is free and is no replica that others share with: a command that has work done while no daemon
    runs. `told` hears after each look how the database took it: an error, or None.
    """

    def __init__(
        self,
        lanes: Lanes,
        served: Mapping[ChannelName, Served],
        holder: str,
        lease: timedelta,
        *,
        is_guest: bool = False,
        told: Callable[[StockrelayError | None], None] | None = None,
        pulse: Pulse | None = None,
    ) -> None:
        self._lanes = lanes
        self._served = served
        self._keepers = {name: LaneKeeper(lanes, lease, one.server) for name, one in served.items()}
        self._holder = holder
        self._lease = lease
        self._is_guest = is_guest
        self._told = told
        self._pulse = pulse or unwatched()
        self._kept: dict[Lane, _Kept] = {}
        self._known: list[LaneState] = []
        self._wanting = {name: one.lanes for name, one in served.items()}
        self._beat_at = float("-inf")
        self._is_unread = False
        self._failures: dict[Lane, int] = {}
        self._not_before: dict[Lane, float] = {}
        self._failing: dict[Lane, str] = {}
        self._dividing: set[ChannelName] = set()
        self.wake = clock.Signal()
        self.heeding = Heeding(self.wake.set, _LOOK_S)

    def owned(self, channel: ChannelName) -> int:
        """How many of the channel's lanes are ours."""
        return sum(kept.state.channel == channel for kept in self._kept.values())

    def lanes(self, channel: ChannelName) -> int:
        """How many lanes the channel has, as far as was seen."""
        return sum(state.channel == channel for state in self._known)

    def owns_all(self) -> bool:
        """Whether no other replica serves any of our channels."""
        return all(self.owned(name) == self.lanes(name) > 0 for name in self._served)

    async def run(self, stop: asyncio.Event) -> None:
        """Share until stopped; then end what is under way, and give all up."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._stop_all(stop), name="stop-lanes")
            with self._pulse:
                while not stop.is_set():
                    self._pulse.beat(_LOOK_S)
                    self.wake.clear()
                    error = await self._try_to_look(group, stop)
                    if self._told is not None:
                        self._told(error or self._failure())
                    await clock.wait_any(_LOOK_S, stop, self.wake)
            if not self._is_guest:
                # What is given up from now on is for the others, however long the last request takes.
                await self._leave()

    def _failure(self) -> StockrelayError | None:
        return StockrelayError("; ".join(self._failing.values())) if self._failing else None

    async def _try_to_look(self, group: asyncio.TaskGroup, stop: asyncio.Event) -> StockrelayError | None:
        owned = set(self._kept)
        try:
            await self._look(group, stop)
        except StockrelayError as error:
            # Once: while the database is away, this is asked every second.
            if not self._is_unread:
                log.warning("lane.lanes_unread", reason=str(error))
            self._is_unread = True
            return error
        self._is_unread = False
        self.heeding.followed(is_vain=self._kept.keys() == owned)
        return None

    async def _stop_all(self, stop: asyncio.Event) -> None:
        await stop.wait()
        for kept in self._kept.values():
            kept.stop.set()

    async def _look(self, group: asyncio.TaskGroup, stop: asyncio.Event) -> None:
        for channel, lanes in list(self._wanting.items()):
            await self._lanes.want(channel, lanes)
            del self._wanting[channel]
        await self._beat()
        everything = await self._lanes.all()
        self._known = [state for state in everything if state.channel in self._served]
        if self._is_guest:
            next_moves = Moves(tuple(state.lane for state in self._known if state.holder is None), ())
        else:
            replicas = await self._lanes.replicas()
            views = [LaneView(state.lane, state.channel, state.holder) for state in everything]
            next_moves = moves(self._holder, views, replicas)
        self._divide_what_is_free(group)
        by_lane = {state.lane: state for state in self._known}
        for lane, kept in self._kept.items():
            if lane in next_moves.give_up or lane not in by_lane or not by_lane[lane].is_settled:
                kept.stop.set()
        for lane in next_moves.take:
            if (
                by_lane[lane].is_settled
                and lane not in self._kept
                and clock.monotonic() >= self._not_before.get(lane, 0.0)
                and not stop.is_set()
            ):
                self._failing.pop(lane, None)
                await self._take(by_lane[lane], group)

    async def _beat(self) -> None:
        now = clock.monotonic()
        if self._is_guest or now < self._beat_at:
            return
        await self._lanes.beat(self._holder, sorted(self._served), self._lease)
        self._beat_at = now + self._lease.total_seconds() / 4

    def _divide_what_is_free(self, group: asyncio.TaskGroup) -> None:
        """The first replica to see the channel unowned repartitions it."""
        for channel in self._served:
            states = [state for state in self._known if state.channel == channel]
            if channel in self._dividing or any(state.is_settled or state.holder for state in states):
                continue
            self._dividing.add(channel)
            group.create_task(self._divide(channel), name=f"divide-{channel}")

    async def _divide(self, channel: ChannelName) -> None:
        """Leases are kept meanwhile: it writes most of the channel's rows. Whoever writes the ledger, for whichever
        channel, waits until it is done."""
        began = clock.monotonic()
        try:
            lanes = await self._lanes.divide(channel)
        except StockrelayError as error:
            log.warning("lane.division_failed", channel=channel, reason=str(error))
            lanes = None
        except Exception as error:
            # It would end the lanes of every channel.
            log.exception("lane.division_failed", channel=channel, reason=type(error).__name__)
            lanes = None
        finally:
            self._dividing.discard(channel)
        if lanes is not None:
            took_ms = round((clock.monotonic() - began) * 1000, 1)
            log.info("lane.channel_divided", channel=channel, lanes=lanes, duration_ms=took_ms)
            self.wake.set()

    async def _take(self, state: LaneState, group: asyncio.TaskGroup) -> None:
        asked_at = clock.monotonic()
        owner = await self._lanes.take(state.lane, self._holder, self._lease)
        if owner is None:
            return
        keeper = self._keepers[state.channel]
        kept = _Kept(state, keeper.tenure(owner, asked_at), clock.Signal())
        self._kept[state.lane] = kept
        group.create_task(self._keep(keeper, kept), name=f"lane-{state.lane}")

    async def _keep(self, keeper: LaneKeeper, kept: _Kept) -> None:
        """Serve one lane. What fails there ends this lane's service alone; the lane is taken again after a while, by
        the replica that looks first, and what was in flight is in doubt."""
        lane, began = kept.state.lane, clock.monotonic()
        try:
            await keeper.keep(kept.tenure, kept.stop)
        except Exception as error:
            if clock.monotonic() - began > _STEADY_S:
                self._failures.pop(lane, None)
            self._failures[lane] = failures = self._failures.get(lane, 0) + 1
            pause = backoff(failures, _RETRY_BASE, _RETRY_CAP, clock.jitter()).total_seconds()
            self._not_before[lane] = clock.monotonic() + pause
            log.exception("lane.service_failed", lane=lane, failures=failures, retry_s=round(pause, 1))
            self._failing[lane] = f"lane {lane} failed ({type(error).__name__}); the log has the traceback"
        finally:
            del self._kept[lane]
            self.wake.set()

    async def _leave(self) -> None:
        try:
            async with asyncio.timeout(self._lease.total_seconds()):
                await self._lanes.leave(self._holder)
        except (StockrelayError, TimeoutError) as error:
            log.debug("lane.replica_not_removed", reason=str(error) or "no answer in time")
