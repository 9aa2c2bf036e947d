"""Takes this process's share of every channel's slots, keeps their leases, and gives them up in order."""

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from datetime import timedelta
from typing import Final, Protocol

import structlog

from daemon import clock
from daemon.core.backoff import Interval
from daemon.core.errors import StockrelayError
from daemon.core.sharing import moves
from daemon.core.types import ChannelName, Slot
from daemon.liveness import Watchdog, unwatched
from daemon.services.lease import Lease
from daemon.services.loop import DONE, Pace, Step, run_loop
from daemon.services.throttle import RequestThrottle
from daemon.store.leases import Leases, LeaseState, SlotKey

log = structlog.get_logger(__name__)

_LOOK_S: Final = 1.0
"""How often a process reads which replica owns which slot."""
_UNTRUSTED: Final = 0.1
"""The last part of a lease is not relied on: clocks drift, and the loop may be late."""
_SHORTEST_PAUSE_S: Final = 0.05
_LONGEST_RETRY_S: Final = 0.5


class SlotServer(Protocol):
    """Sends the SKUs of one channel's slots that this process owns; its dispatcher."""

    @property
    def is_serving(self) -> bool:
        """Whether it can take slots."""

    def gain(self, leases: Sequence[Lease]) -> None: ...

    def lose(self, slots: Iterable[Slot]) -> None: ...

    def release(self, slots: Iterable[Slot]) -> None: ...

    def has(self, lease: Lease) -> bool: ...


@dataclass(eq=False)
class SlotSharing:
    """Holds this process's share of the slots; `wake` makes it look now.

    `is_temporary`: it takes free slots and does not count as a replica, for a command that sends while no daemon
    runs. `on_look` hears after each look how the database took it: an error, or None.
    """

    leases: Leases
    servers: Mapping[ChannelName, SlotServer]
    holder: str
    lease: timedelta
    _: KW_ONLY
    is_temporary: bool = False
    on_look: Callable[[StockrelayError | None], None] = lambda _error: None
    watchdog: Watchdog = field(default_factory=unwatched)
    _held: dict[SlotKey, Lease] = field(default_factory=dict)
    _slots: dict[ChannelName, int] = field(default_factory=dict)
    _has_added: bool = False
    _announced: list[ChannelName] | None = None
    _next_beat_at: float = -math.inf
    _is_unread: bool = False
    wake: clock.Signal = field(default_factory=clock.Signal)

    def __post_init__(self) -> None:
        self._trusted_s = self.lease.total_seconds() * (1 - _UNTRUSTED)
        self.throttle = RequestThrottle(self.wake.set, _LOOK_S)

    def owned(self, channel: ChannelName) -> int:
        """How many of the channel's slots this process owns."""
        return sum(of.channel == channel for of in self._held)

    def owns_first(self, channel: ChannelName) -> bool:
        """Whether this process has the channel's first slot: true of one replica at most."""
        return any(of.channel == channel and of.slot == 0 for of in self._held)

    def owns_all(self) -> bool:
        """Whether no other process serves any of our channels."""
        return all(self.owned(name) == self._slots.get(name, 0) > 0 for name in self.servers)

    async def run(self, stop: asyncio.Event) -> None:
        """Share until stopped; then give each slot up as soon as its last attempt has ended."""
        async with asyncio.TaskGroup() as group:
            renewing = group.create_task(self._renew(), name="renew-leases")
            try:
                await self._loop(self._share, stop)
                if self._held:
                    if not self.is_temporary:
                        # First: the other replicas can take the slots one by one, however long the last request takes.
                        await self._leave()
                    await self._loop(self._give_up_all, clock.Signal())
            finally:
                renewing.cancel()
                self._lose(list(self._held))

    async def _loop(self, step: Step, stop: asyncio.Event) -> None:
        await run_loop(step, stop, self.watchdog, Pace(_LOOK_S), self._on_failure, self.wake)

    def _on_failure(self, error: StockrelayError) -> Interval:
        # Once: while the database is away, this happens every second.
        if not self._is_unread:
            log.warning("slots.leases_unread", reason=str(error))
        self._is_unread = True
        self.on_look(error)
        return Interval(_LOOK_S)

    async def _share(self) -> None:
        self.wake.clear()
        before = set(self._held)
        await self._look()
        await self._give_up_released()
        self.throttle.done(is_vain=self._held.keys() == before)

    async def _give_up_all(self) -> Interval | None:
        self.wake.clear()
        self._release(self._held)
        await self._give_up_released()
        return None if self._held else DONE

    async def _look(self) -> None:
        if not self._has_added:
            await self.leases.add_slots(self.servers)
            self._has_added = True
        served = sorted(name for name, server in self.servers.items() if server.is_serving)
        await self._beat(served)
        states = [state for state in await self.leases.all() if state.channel in self.servers]
        replicas = {} if self.is_temporary else await self.leases.replicas()
        wanted: list[SlotKey] = []
        for channel in self.servers:
            holders = {one.slot: self._holder_of(one) for one in states if one.channel == channel}
            self._slots[channel] = len(holders)
            others = {name for name, channels in replicas.items() if channel in channels} - {self.holder}
            ours = {self.holder} if channel in served else set()
            next_moves = moves(self.holder, holders, others | ours)
            self._release(SlotKey(channel, slot) for slot in next_moves.give_up)
            wanted += [SlotKey(channel, slot) for slot in next_moves.take]
        if wanted:
            await self._take(wanted)

    def _holder_of(self, state: LeaseState) -> str | None:
        """The slot's holder. A slot that the database says we hold and that we do not know of is free: the answer to
        the statement that took it was lost."""
        is_forgotten = state.holder == self.holder and SlotKey(state.channel, state.slot) not in self._held
        return None if is_forgotten else state.holder

    async def _beat(self, served: list[ChannelName]) -> None:
        now = clock.monotonic()
        if self.is_temporary or (now < self._next_beat_at and served == self._announced):
            return
        await self.leases.beat(self.holder, served, self.lease)
        self._announced = served
        self._next_beat_at = now + self.lease.total_seconds() / 4

    async def _take(self, wanted: Sequence[SlotKey]) -> None:
        asked_at = clock.monotonic()
        taken = await self.leases.take(wanted, self.holder, self.lease)
        for channel, server in self.servers.items():
            leases = [Lease(one, asked_at + self._trusted_s) for one in taken if one.channel == channel]
            if leases:
                self._held |= {SlotKey(channel, lease.slot): lease for lease in leases}
                log.info("slots.leases_taken", **_fields(channel, leases), holder=self.holder)
                server.gain(leases)

    def _release(self, slots: Iterable[SlotKey]) -> None:
        for of in list(slots):
            self.servers[of.channel].release([of.slot])

    async def _give_up_released(self) -> None:
        """Give up the slots that are not served any more; the last step of every look."""
        released = {of: lease for of, lease in self._held.items() if not self.servers[of.channel].has(lease)}
        # Before the statement, or a late renewal would take these for lost.
        self._held = {of: lease for of, lease in self._held.items() if of not in released}
        if released:
            try:
                await self.leases.give_up([lease.taken for lease in released.values()], self.holder)
            except StockrelayError:
                self._held |= released
                raise
        for channel, leases in self._by_channel(released.items()):
            log.info("slots.leases_released", **_fields(channel, leases))
        self._is_unread = False
        self.on_look(None)

    async def _renew(self) -> None:
        """Renew all leases together until they are lost. A short outage of the database loses none."""
        pause = quarter = self.lease.total_seconds() / 4
        while True:
            # At the latest when the first of them is no longer trusted.
            until = min((lease.trusted_until for lease in self._held.values()), default=math.inf)
            await asyncio.sleep(max(_SHORTEST_PAUSE_S, min(pause, until - clock.monotonic())))
            held = dict(self._held)
            now = clock.monotonic()
            expired = [of for of, lease in held.items() if not lease.is_trusted(now)]
            for channel, leases in self._lose(expired):
                log.error("slots.leases_expired", **_fields(channel, leases))
            held = {of: lease for of, lease in held.items() if of not in expired}
            if not held:
                continue
            pause = quarter if await self._renew_once(held, now) else min(_LONGEST_RETRY_S, quarter / 2)

    async def _renew_once(self, held: Mapping[SlotKey, Lease], now: float) -> bool:
        patience_s = min(lease.trusted_until for lease in held.values()) - now
        try:
            async with asyncio.timeout(patience_s):
                kept = await self.leases.renew(
                    [lease.taken for lease in held.values()], self.holder, self.lease
                )
        except (StockrelayError, TimeoutError) as error:
            log.warning("slots.leases_not_renewed", reason=str(error) or "no answer in time")
            return False
        # A slot that was given up meanwhile is not lost.
        lost = [of for of, lease in held.items() if of not in kept and self._held.get(of) is lease]
        for channel, leases in self._lose(lost):
            log.error("slots.leases_lost", **_fields(channel, leases))
        for of in kept:
            held[of].trusted_until = now + self._trusted_s
        return True

    def _lose(self, slots: Sequence[SlotKey]) -> list[tuple[ChannelName, list[Lease]]]:
        """Cut off the requests of these slots; return their leases by channel."""
        gone = self._by_channel((of, lease) for of in slots if (lease := self._held.pop(of, None)))
        for channel, leases in gone:
            self.servers[channel].lose([lease.slot for lease in leases])
        if gone:
            self.wake.set()
        return gone

    def _by_channel(self, leases: Iterable[tuple[SlotKey, Lease]]) -> list[tuple[ChannelName, list[Lease]]]:
        grouped: dict[ChannelName, list[Lease]] = {}
        for of, lease in leases:
            grouped.setdefault(of.channel, []).append(lease)
        return list(grouped.items())

    async def _leave(self) -> None:
        try:
            async with asyncio.timeout(self.lease.total_seconds()):
                await self.leases.leave(self.holder)
        except (StockrelayError, TimeoutError) as error:
            log.debug("slots.replica_not_removed", reason=str(error) or "no answer in time")


def _fields(channel: ChannelName, leases: Sequence[Lease]) -> dict[str, object]:
    return {
        "channel": channel,
        "slots": [lease.slot for lease in leases],
        "epochs": [lease.epoch for lease in leases],
    }
