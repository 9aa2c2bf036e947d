"""Takes this process's share of every channel's slots, keeps their leases, and gives them up in order."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Final, Protocol

import structlog

from daemon import clock
from daemon.core.errors import StockrelayError
from daemon.core.sharing import moves
from daemon.core.types import ChannelName, Epoch, Slot
from daemon.liveness import Watchdog, unwatched
from daemon.services.throttle import RequestThrottle
from daemon.store.leases import Leases, LeaseState, SlotOf, Taken

log = structlog.get_logger(__name__)

_LOOK_S: Final = 1.0
"""How often a process looks which slots are whose."""
_UNTRUSTED: Final = 0.1
"""The last part of a lease that is not relied on: for clocks that drift and a loop that is late."""
_SHORTEST_PAUSE_S: Final = 0.05
_LONGEST_RETRY_S: Final = 0.5


class Lease:
    """A slot that is ours. `trusted_until` (monotonic seconds) moves on with every renewal."""

    def __init__(self, taken: Taken, trusted_until: float) -> None:
        self.taken = taken
        self.trusted_until = trusted_until

    @property
    def slot(self) -> Slot:
        return self.taken.slot

    @property
    def epoch(self) -> Epoch:
        return self.taken.epoch

    def is_trusted(self, now: float) -> bool:
        """Whether a request may start: after this time another process may own the slot."""
        return now < self.trusted_until


class SlotServer(Protocol):
    """Sends the SKUs of one channel's slots that are ours."""

    @property
    def is_serving(self) -> bool:
        """Whether it can be given slots."""
        ...

    def gain(self, leases: Sequence[Lease]) -> None:
        """These slots are ours from now on."""
        ...

    def lose(self, slots: Iterable[Slot]) -> None:
        """These slots are another's: their requests are cut off."""
        ...

    def release(self, slots: Iterable[Slot]) -> None:
        """Claim no more from these slots; `has` is False once what is in hand has ended."""
        ...

    def has(self, lease: Lease) -> bool:
        """Whether the slot is still served under this lease."""
        ...


class SlotSharing:
    """Holds this process's share of the slots; `wake` makes it look now.

    A `guest` takes what is free and does not count as a replica: a command that sends while no daemon runs. `on_look`
    hears after each look how the database took it: an error, or None.
    """

    def __init__(
        self,
        leases: Leases,
        servers: Mapping[ChannelName, SlotServer],
        holder: str,
        lease: timedelta,
        *,
        is_guest: bool = False,
        on_look: Callable[[StockrelayError | None], None] = lambda _error: None,
        watchdog: Watchdog | None = None,
    ) -> None:
        self._leases = leases
        self._servers = servers
        self._holder = holder
        self._lease = lease
        self._trusted_s = lease.total_seconds() * (1 - _UNTRUSTED)
        self._is_guest = is_guest
        self._on_look = on_look
        self._watchdog = watchdog or unwatched()
        self._held: dict[SlotOf, Lease] = {}
        self._slots: dict[ChannelName, int] = {}
        self._has_added = False
        self._announced: list[ChannelName] | None = None
        self._beat_at = float("-inf")
        self._is_unread = False
        self.wake = clock.Signal()
        self.throttle = RequestThrottle(self.wake.set, _LOOK_S)

    def owned(self, channel: ChannelName) -> int:
        """How many of the channel's slots are ours."""
        return sum(of.channel == channel for of in self._held)

    def owns_all(self) -> bool:
        """Whether no other process serves any of our channels."""
        return all(self.owned(name) == self._slots.get(name, 0) > 0 for name in self._servers)

    async def run(self, stop: asyncio.Event) -> None:
        """Share until stopped; then give each slot up as soon as what is in hand of it has ended."""
        async with asyncio.TaskGroup() as group:
            renewing = group.create_task(self._renew(), name="renew-leases")
            try:
                with self._watchdog:
                    await self._share(stop)
            finally:
                renewing.cancel()
                self._lose(list(self._held))

    async def _share(self, stop: asyncio.Event) -> None:
        has_left = self._is_guest
        while self._held or not stop.is_set():
            self._watchdog.beat(_LOOK_S)
            self.wake.clear()
            if stop.is_set() and not has_left:
                # Before anything is given up: it is for the others, however long the last request takes.
                has_left = True
                await self._leave()
            self._on_look(await self._try_to_look(is_stopping=stop.is_set()))
            if stop.is_set():
                await clock.wait_any(_LOOK_S, self.wake)
            else:
                await clock.wait_any(_LOOK_S, stop, self.wake)

    async def _try_to_look(self, *, is_stopping: bool) -> StockrelayError | None:
        before = set(self._held)
        try:
            if is_stopping:
                self._release(self._held)
            else:
                await self._look()
            await self._give_up_what_is_released()
        except StockrelayError as error:
            # Once: while the database is away, this happens every second.
            if not self._is_unread:
                log.warning("slots.leases_unread", reason=str(error))
            self._is_unread = True
            return error
        self._is_unread = False
        self.throttle.done(is_vain=self._held.keys() == before)
        return None

    async def _look(self) -> None:
        if not self._has_added:
            await self._leases.add_slots(self._servers)
            self._has_added = True
        served = sorted(name for name, server in self._servers.items() if server.is_serving)
        await self._beat(served)
        states = [state for state in await self._leases.all() if state.channel in self._servers]
        replicas = {} if self._is_guest else await self._leases.replicas()
        wanted: list[SlotOf] = []
        for channel in self._servers:
            holders = {one.slot: self._holder_of(one) for one in states if one.channel == channel}
            self._slots[channel] = len(holders)
            if self._is_guest:
                next_moves = moves(self._holder, holders, [self._holder] if channel in served else [])
            else:
                others = {name for name, channels in replicas.items() if channel in channels}
                ours = {self._holder} if channel in served else set()
                next_moves = moves(self._holder, holders, others - {self._holder} | ours)
            self._release(SlotOf(channel, slot) for slot in next_moves.give_up)
            wanted += [SlotOf(channel, slot) for slot in next_moves.take]
        if wanted:
            await self._take(wanted)

    def _holder_of(self, state: LeaseState) -> str | None:
        """The slot's holder. What the database has as ours and we do not know of is free to us: the answer to a
        statement was lost."""
        is_forgotten = state.holder == self._holder and SlotOf(state.channel, state.slot) not in self._held
        return None if is_forgotten else state.holder

    async def _beat(self, served: list[ChannelName]) -> None:
        now = clock.monotonic()
        if self._is_guest or (now < self._beat_at and served == self._announced):
            return
        await self._leases.beat(self._holder, served, self._lease)
        self._announced = served
        self._beat_at = now + self._lease.total_seconds() / 4

    async def _take(self, wanted: Sequence[SlotOf]) -> None:
        asked_at = clock.monotonic()
        taken = await self._leases.take(wanted, self._holder, self._lease)
        for channel, server in self._servers.items():
            leases = [Lease(one, asked_at + self._trusted_s) for one in taken if one.channel == channel]
            if leases:
                self._held |= {SlotOf(channel, lease.slot): lease for lease in leases}
                log.info("slots.leases_taken", **_fields(channel, leases), holder=self._holder)
                server.gain(leases)

    def _release(self, slots: Iterable[SlotOf]) -> None:
        for of in list(slots):
            self._servers[of.channel].release([of.slot])

    async def _give_up_what_is_released(self) -> None:
        released = {of: lease for of, lease in self._held.items() if not self._servers[of.channel].has(lease)}
        if not released:
            return
        # Before, so that a renewal that comes too late is not taken for a loss.
        self._held = {of: lease for of, lease in self._held.items() if of not in released}
        try:
            await self._leases.give_up([lease.taken for lease in released.values()], self._holder)
        except StockrelayError:
            self._held |= released
            raise
        for channel, leases in self._by_channel(released.items()):
            log.info("slots.leases_released", **_fields(channel, leases))

    async def _renew(self) -> None:
        """Renew all leases together, until each is lost; a database that is away for a moment loses none."""
        pause = quarter = self._lease.total_seconds() / 4
        while True:
            # Cut to the moment at which the first of them is not trusted any more.
            until = min((lease.trusted_until for lease in self._held.values()), default=float("inf"))
            await asyncio.sleep(max(_SHORTEST_PAUSE_S, min(pause, until - clock.monotonic())))
            held = dict(self._held)
            now = clock.monotonic()
            expired = [of for of, lease in held.items() if not lease.is_trusted(now)]
            for channel, leases in self._lose(expired):
                log.error("slots.leases_expired", **_fields(channel, leases))
            held = {of: lease for of, lease in held.items() if of not in expired}
            if not held:
                continue
            pause = quarter if await self._has_renewed(held, now) else min(_LONGEST_RETRY_S, quarter / 2)

    async def _has_renewed(self, held: Mapping[SlotOf, Lease], now: float) -> bool:
        patience_s = min(lease.trusted_until for lease in held.values()) - now
        try:
            async with asyncio.timeout(patience_s):
                kept = await self._leases.renew(
                    [lease.taken for lease in held.values()], self._holder, self._lease
                )
        except (StockrelayError, TimeoutError) as error:
            log.warning("slots.leases_not_renewed", reason=str(error) or "no answer in time")
            return False
        # What was given up meanwhile is not lost.
        lost = [of for of, lease in held.items() if of not in kept and self._held.get(of) is lease]
        for channel, leases in self._lose(lost):
            log.error("slots.leases_lost", **_fields(channel, leases))
        for of in kept:
            held[of].trusted_until = now + self._trusted_s
        return True

    def _lose(self, slots: Sequence[SlotOf]) -> list[tuple[ChannelName, list[Lease]]]:
        """Have the requests of these slots cut off; return their leases by channel."""
        gone = self._by_channel((of, lease) for of in slots if (lease := self._held.pop(of, None)))
        for channel, leases in gone:
            self._servers[channel].lose([lease.slot for lease in leases])
        if gone:
            self.wake.set()
        return gone

    def _by_channel(self, leases: Iterable[tuple[SlotOf, Lease]]) -> list[tuple[ChannelName, list[Lease]]]:
        grouped: dict[ChannelName, list[Lease]] = {}
        for of, lease in leases:
            grouped.setdefault(of.channel, []).append(lease)
        return list(grouped.items())

    async def _leave(self) -> None:
        try:
            async with asyncio.timeout(self._lease.total_seconds()):
                await self._leases.leave(self._holder)
        except (StockrelayError, TimeoutError) as error:
            log.debug("slots.replica_not_removed", reason=str(error) or "no answer in time")


def _fields(channel: ChannelName, leases: Sequence[Lease]) -> dict[str, object]:
    """What a line says of the channel's slots that something happened to."""
    return {
        "channel": channel,
        "slots": [lease.slot for lease in leases],
        "epochs": [lease.epoch for lease in leases],
    }
