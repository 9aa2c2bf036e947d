"""The slots that this process owns, their attempts in flight, and the queue of those that wait to be sent."""

import asyncio
import heapq
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from daemon import clock
from daemon.core.types import AttemptId, Slot
from daemon.services.lease import Lease
from daemon.store.ledger import Attempt, Completion, Owner


class QueuedAttempt(NamedTuple):
    """An attempt that may be sent. Attempts sort in the order of sending: urgent ones first, then the oldest."""

    is_not_urgent: bool
    attempt_id: AttemptId
    attempt: Attempt
    lease: Lease
    claimed_at: float


@dataclass(slots=True, eq=False)
class OwnedSlot:
    """A slot that this process owns. `is_rescued`: attempts that an earlier owner left open have become doubt.
    `is_released`: it is given up when none of its attempts is in flight any more."""

    lease: Lease
    in_flight: set[AttemptId] = field(default_factory=set)
    is_rescued: bool = False
    is_released: bool = False


@dataclass(eq=False)
class OwnedSlots:
    """This process's slots of one channel. After a crash, the ledger has their attempts in flight as open ones."""

    holder: str
    on_drained: Callable[[], None]
    """Called when released slots have no attempt in flight any more."""
    _slots: dict[Slot, OwnedSlot] = field(default_factory=dict)
    _claimed_from: set[Slot] = field(default_factory=set)
    _sync_call: set[AttemptId] = field(default_factory=set)
    none_in_flight: clock.Signal = field(default_factory=clock.Signal)

    def __post_init__(self) -> None:
        self.none_in_flight.set()

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def slots(self) -> list[Slot]:
        return list(self._slots)

    @property
    def in_flight(self) -> int:
        return sum(len(one.in_flight) for one in self._slots.values())

    @property
    def has_sync_call(self) -> bool:
        return bool(self._sync_call)

    def add(self, leases: Iterable[Lease]) -> None:
        self._slots |= {lease.slot: OwnedSlot(lease) for lease in leases}

    def remove(self, slots: Iterable[Slot]) -> None:
        """These slots are no longer ours (lease expired, taken over, or stopping); the next owner rescues their
        attempts."""
        for slot in slots:
            if (lost := self._slots.pop(slot, None)) is not None:
                self._sync_call -= lost.in_flight
        self._note_in_flight()

    def release(self, slots: Iterable[Slot]) -> None:
        """Claim no more from these slots; drop those without an attempt in flight."""
        for slot in slots:
            if (one := self._slots.get(slot)) is not None:
                one.is_released = True
        self._drop_released()

    def has(self, lease: Lease) -> bool:
        """Whether the slot is owned under this very lease."""
        one = self._slots.get(lease.slot)
        return one is not None and one.lease is lease

    def is_released(self, slot: Slot) -> bool:
        one = self._slots.get(slot)
        return one is None or one.is_released

    def rescue_before_next_claim(self) -> None:
        """Before the next claim, the attempts are rescued that are open in the ledger and not in flight here."""
        for one in self._slots.values():
            one.is_rescued = False

    def take_unrescued(self) -> tuple[Owner, list[AttemptId]]:
        """Return the slots to rescue, and their attempts in flight; they count as rescued from now on."""
        fresh = {slot: one for slot, one in self._slots.items() if not one.is_rescued}
        for one in fresh.values():
            one.is_rescued = True
        in_flight = [attempt for one in fresh.values() for attempt in one.in_flight]
        return Owner(self.holder, {slot: one.lease.epoch for slot, one in fresh.items()}), in_flight

    def begin_claim(self) -> Owner:
        """Return the slots to claim from: those that were rescued and are not being given up. Until `end_claim`, a
        release ends the ownership of none of them: an attempt of it may be opened just now."""
        epochs = {
            slot: one.lease.epoch
            for slot, one in self._slots.items()
            if one.is_rescued and not one.is_released
        }
        self._claimed_from = set(epochs)
        return Owner(self.holder, epochs)

    def end_claim(self) -> None:
        self._claimed_from = set()
        self._drop_released()

    def take_on(self, owner: Owner, attempts: Iterable[Attempt], claimed_at: float) -> list[QueuedAttempt]:
        """Note what was claimed for `owner` as in flight, and return it. Attempts of a slot that was lost meanwhile are
        left to its next owner, which rescues them."""
        taken: list[QueuedAttempt] = []
        for attempt in attempts:
            one = self._slots.get(attempt.slot)
            if one is not None and one.lease.epoch == owner.epochs[attempt.slot]:
                one.in_flight.add(attempt.attempt_id)
                taken.append(
                    QueuedAttempt(not attempt.is_urgent, attempt.attempt_id, attempt, one.lease, claimed_at)
                )
        self._note_in_flight()
        return taken

    def begin_sync_call(self, claimed: Sequence[QueuedAttempt]) -> None:
        self._sync_call = {one.attempt_id for one in claimed}

    def finish(self, done: Collection[Completion]) -> bool:
        """These outcomes are written; say whether a sync's call ended with them."""
        for one in done:
            if (slot := self._slots.get(one.slot)) is not None:
                slot.in_flight.discard(one.attempt_id)
        had_sync_call = self.has_sync_call
        self._sync_call.difference_update(one.attempt_id for one in done)
        self._drop_released()
        return had_sync_call and not self.has_sync_call

    def _drop_released(self) -> None:
        drained = [
            slot
            for slot, one in self._slots.items()
            if one.is_released and not one.in_flight and slot not in self._claimed_from
        ]
        for slot in drained:
            del self._slots[slot]
        self._note_in_flight()
        if drained:
            self.on_drained()

    def _note_in_flight(self) -> None:
        if self.in_flight:
            self.none_in_flight.clear()
        else:
            self.none_in_flight.set()


class SendQueue:
    """The attempts that wait to be sent, urgent and oldest first. `wait` returns once for each attempt that is put
    in."""

    def __init__(self) -> None:
        self._heap: list[QueuedAttempt] = []
        self._waiting = asyncio.Semaphore(0)

    def __len__(self) -> int:
        return len(self._heap)

    def put(self, claimed: Iterable[QueuedAttempt]) -> None:
        for one in claimed:
            heapq.heappush(self._heap, one)
            self._waiting.release()

    async def wait(self) -> None:
        """Return when an attempt was put in; another worker may have taken it since."""
        await self._waiting.acquire()

    def pass_on(self) -> None:
        """Wake another worker instead."""
        self._waiting.release()

    def first(self) -> QueuedAttempt:
        return self._heap[0]

    def pop(self) -> QueuedAttempt:
        return heapq.heappop(self._heap)

    def take_out(self, slots: Collection[Slot]) -> list[QueuedAttempt]:
        """Remove and return the attempts of these slots."""
        taken = [one for one in self._heap if one.attempt.slot in slots]
        if taken:
            self._heap = [one for one in self._heap if one.attempt.slot not in slots]
            heapq.heapify(self._heap)
        return taken
