"""The dispatcher of one channel: assembles its parts, and is their interface."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import InitVar, dataclass, field
from functools import partial

import structlog

from daemon import clock
from daemon.core.breaker import Transition
from daemon.core.dispatching import IN_SHADOW
from daemon.core.errors import StockrelayError
from daemon.core.outcome import Outcome
from daemon.core.types import Slot
from daemon.liveness import Liveness
from daemon.services.dispatch.channel import Channel, Limits
from daemon.services.dispatch.claiming import ClaimLoop, Deferrals
from daemon.services.dispatch.owned import OwnedSlots
from daemon.services.dispatch.ports import DeliveryLedger, Observer, PushClient
from daemon.services.dispatch.sending import Sender
from daemon.services.dispatch.writing import OutcomeWriter
from daemon.services.lease import Lease
from daemon.services.throttle import RequestThrottle

log = structlog.get_logger(__name__)


@dataclass(eq=False)
class Dispatcher:
    """Sends the SKUs of the slots that it is given. `keep_trouble` records what is wrong with the channel, or that
    nothing is; `counts` are outcomes since the start."""

    ledger: DeliveryLedger
    client: PushClient
    limits: InitVar[Limits]
    holder: str
    keep_trouble: Callable[[Outcome | None], Awaitable[None]]
    observer: Observer | None = None
    liveness: Liveness = field(default_factory=Liveness)
    on_slots_changed: Callable[[], None] = lambda: None
    """Called when slots can be given, and when one that was released is not served any more."""
    is_serving: bool = False

    def __post_init__(self, limits: Limits) -> None:
        self._channel = Channel(self.ledger.channel, limits, self.client.most_per_call)
        self.throttle = RequestThrottle(partial(self.wake, is_urgent=True), limits.poll.total_seconds())
        """Throttles the notifications that say that rows may have become due."""
        self.deferrals = Deferrals(self._channel)
        self._make_parts()

    def _make_parts(self) -> None:
        """What is in flight belongs to one run: after a failure it begins with nothing."""
        channel, owned = self._channel, OwnedSlots(self.holder, self._note_drained)
        self._owned = owned
        self._writer = OutcomeWriter(channel, owned, self.ledger, self.observer)
        self._sender = Sender(channel, owned, self.client, self._writer, self._note_breaker)
        self._claims = ClaimLoop(
            channel,
            owned,
            self.ledger,
            self._sender,
            self._writer,
            self.deferrals,
            self.throttle,
            self._note_trouble,
        )

    @property
    def counts(self) -> Counter[str]:
        return self._channel.counts

    @property
    def cause(self) -> Outcome | None:
        """What is wrong: with the marketplace, or with a claim."""
        return self._channel.breaker.cause or self._channel.failing

    def trouble(self) -> str | None:
        """The kind of what is wrong."""
        return None if self.cause is None else (self.cause.trouble or self.cause.kind).value

    def use(self, limits: Limits) -> None:
        """Serve the channel within these limits from now on."""
        was_shadow = self._channel.limits.is_shadow
        self._channel.use(limits)
        self._sender.resize()
        if limits.is_shadow != was_shadow:
            self._sender.give_back(self._owned.slots, IN_SHADOW)
            # What was claimed in shadow is made due before the next claim.
            self.rescue_before_next_claim()

    def wake(self, *, is_urgent: bool = False) -> None:
        """Rows may have become due; urgent ones go ahead of all others."""
        self._channel.wake(is_urgent=is_urgent)

    def rescue_before_next_claim(self) -> None:
        """The ledger may have other open attempts and another trouble than this process: reconcile both before the next
        claim."""
        self._owned.rescue_before_next_claim()
        self._channel.due.set()

    def gain(self, leases: Sequence[Lease]) -> None:
        """Own these slots from now on. Their open attempts are rescued before the first claim."""
        if not self.is_serving:
            return  # it has just failed, or stops: `has` says that they are not served
        self._owned.add(leases)
        self._share_out()
        self.wake(is_urgent=True)
        self._channel.room.set()

    def lose(self, slots: Iterable[Slot]) -> None:
        """These slots are no longer ours (lease expired, taken over, or stopping): cut off their requests."""
        lost = list(slots)
        self._owned.remove(lost)
        self._share_out()
        self._sender.cut_off(lost)
        self._channel.room.set()

    def release(self, slots: Iterable[Slot]) -> None:
        """Claim no more from these slots; `has` is False once their attempts have ended."""
        released = [slot for slot in slots if not self._owned.is_released(slot)]
        if released:
            self._sender.give_back(released, "its slot is given up")
            self._owned.release(released)

    def has(self, lease: Lease) -> bool:
        """Whether the slot is still served under this lease."""
        return self._owned.has(lease)

    async def run(self, stop: asyncio.Event) -> None:
        """Serve the slots that are given until stopped; then end what is in flight, and write its outcomes."""
        self._make_parts()
        name = self._channel.name
        try:
            async with asyncio.TaskGroup() as group:
                self._sender.start(group)
                writing = group.create_task(self._writer.run(), name=f"write-{name}")
                self.is_serving = True
                self.on_slots_changed()
                await self._claims.run(stop, self.liveness.watchdog(f"claim-{name}"))
                self.is_serving = False
                self.release(self._owned.slots)
                # Every attempt in flight ends within its timeout; its outcome is written before its slot is given up.
                grace_s = self._channel.limits.grace.total_seconds()
                if not await clock.wait_any(grace_s, self._owned.none_in_flight):
                    log.warning("dispatch.grace_exceeded", channel=name, in_flight=self._owned.in_flight)
                self._sender.stop()
                writing.cancel()
        finally:
            self.is_serving = False
            self._owned.remove(self._owned.slots)
            self._channel.own(0)
            self._channel.log_parked(is_over=True)
            self.on_slots_changed()

    def _share_out(self) -> None:
        """Adjust our part of the channel's rate and concurrency to the number of slots that we own."""
        self._channel.own(len(self._owned))
        self._sender.resize()

    def _note_drained(self) -> None:
        """Released slots have no attempt in flight any more."""
        self._share_out()
        self.on_slots_changed()

    async def _note_trouble(self) -> None:
        await self.keep_trouble(self.cause)

    async def _note_breaker(self, change: Transition, answer: Outcome) -> None:
        """The circuit breaker has opened, or closed."""
        channel = self._channel
        if change is Transition.CLOSED:
            log.info("dispatch.breaker_closed", channel=channel.name)
        else:
            cause = channel.breaker.cause or answer
            write = log.error if change is Transition.OPENED else log.warning
            write(
                "dispatch.breaker_opened",
                channel=channel.name,
                trouble=(cause.trouble or cause.kind).value,
                reason=cause.reason,
                advice=cause.advice,
                next_probe_s=round(max(0.0, (channel.breaker.next_probe_at or 0) - clock.monotonic()), 1),
            )
        channel.room.set()
        try:
            await self._note_trouble()
        except StockrelayError as error:
            log.warning("dispatch.state_not_kept", channel=channel.name, reason=str(error))
            self.rescue_before_next_claim()
