"""A process's slots on a real database: what it takes, gives up in order, and leaves to others."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager

from structlog.testing import capture_logs

from daemon.core.types import SLOTS, Slot
from daemon.services.lease import Lease
from daemon.services.slots import SlotServer, SlotSharing
from tests.channels import YMATOU
from tests.store.place import TIMEOUT, Connection
from tests.store.shop import CHANNEL, LEASE, Shop


class Serving:
    """Serves slots; what is released is served until `finish` where it is in `slow`."""

    def __init__(self, *slow: int) -> None:
        self.slow = set(slow)
        self.is_serving = True
        self.leases: dict[Slot, Lease] = {}
        self.released: set[Slot] = set()
        self.lost: list[Slot] = []

    def gain(self, leases: Sequence[Lease]) -> None:
        self.leases |= {lease.slot: lease for lease in leases}

    def lose(self, slots: Iterable[Slot]) -> None:
        self.lost += slots
        for slot in slots:
            self.leases.pop(slot)

    def release(self, slots: Iterable[Slot]) -> None:
        self.released |= set(slots)
        for slot in self.released - self.slow:
            self.leases.pop(slot, None)

    def finish(self) -> None:
        self.slow.clear()
        self.release([])

    def has(self, lease: Lease) -> bool:
        return self.leases.get(lease.slot) is lease


@asynccontextmanager
async def sharing(
    shop: Shop, holder: str, *servers: SlotServer, is_temporary: bool = False
) -> AsyncIterator[tuple[asyncio.Task[None], asyncio.Event, SlotSharing]]:
    """One process that shares the slots of the first channel, or of both."""
    stop = asyncio.Event()
    served = dict(zip((CHANNEL, YMATOU), servers, strict=False))
    process = SlotSharing(shop.leases, served, holder, LEASE, is_temporary=is_temporary)
    task = asyncio.create_task(process.run(stop))
    try:
        yield task, stop, process
    finally:
        stop.set()
        for server in servers:
            if isinstance(server, Serving):
                server.finish()
        process.wake.set()
        await asyncio.wait_for(task, TIMEOUT)


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(TIMEOUT):
        while not is_so():  # noqa: ASYNC110 - what is waited for is in the database
            await asyncio.sleep(0.01)


async def test_two_share_evenly_and_what_one_gives_up_the_other_takes_at_once(
    shop: Shop, sql: Connection
) -> None:
    await shop.give_up(shop.owner)
    first, second = Serving(0), Serving()
    async with sharing(shop, "one", first) as (stopping, stop, one):
        await until(lambda: len(first.leases) == SLOTS)
        assert one.owns_all()
        async with sharing(shop, "two", second) as (_, _, two):
            one.wake.set()
            two.wake.set()
            await until(lambda: len(first.leases) == len(second.leases) == SLOTS // 2)
            assert not one.owns_all()
            stop.set()
            # The last request of slot 0 takes its time; all others are given up meanwhile.
            await until(lambda: set(first.leases) == {0})
            await until(lambda: len(second.leases) == SLOTS - 1)
            assert not stopping.done()
            assert await sql.fetchval("SELECT array_agg(holder) FROM stockrelay.replica") == ["two"]
            first.finish()
            one.wake.set()
            await until(lambda: len(second.leases) == SLOTS)
    assert first.lost == second.lost == []


async def test_a_command_takes_what_nobody_owns_and_no_more(shop: Shop) -> None:
    await shop.give_up(shop.owner.of([Slot(1), Slot(2)]))
    serving = Serving()
    async with sharing(shop, "temporary", serving, is_temporary=True):
        await until(lambda: set(serving.leases) == {1, 2})
        assert await shop.leases.replicas() == {}


async def test_a_channel_that_is_not_served_here_is_given_up_and_the_other_goes_on(shop: Shop) -> None:
    await shop.give_up(shop.owner)
    failing, other = Serving(), Serving()
    async with sharing(shop, "one", failing, other) as (_, _, process):
        await until(lambda: len(failing.leases) == len(other.leases) == SLOTS)
        # Its dispatcher has failed, and has forgotten its slots.
        failing.is_serving = False
        failing.leases.clear()
        process.wake.set()
        await until(lambda: process.owned(CHANNEL) == 0)
        assert await shop.leases.replicas() == {"one": {YMATOU}}
        assert (len(other.leases), other.lost) == (SLOTS, [])
        failing.is_serving = True
        process.wake.set()
        await until(lambda: len(failing.leases) == SLOTS)


async def test_a_slot_that_another_has_taken_is_lost_alone(shop: Shop, sql: Connection) -> None:
    await shop.give_up(shop.owner)
    serving = Serving()
    with capture_logs() as lines:
        async with sharing(shop, "one", serving):
            await until(lambda: len(serving.leases) == SLOTS)
            await sql.execute(
                "UPDATE stockrelay.lease SET epoch = epoch + 1, holder = 'x', until = 'infinity' WHERE slot = 5"
            )
            await until(lambda: serving.lost == [5])
            assert len(serving.leases) == SLOTS - 1
    (line,) = [line for line in lines if line["event"] == "slots.leases_lost"]
    assert (line["channel"], line["slots"]) == (CHANNEL, [5])
    (taken,) = [line for line in lines if line["event"] == "slots.leases_taken"]
    assert taken["slots"] == list(range(SLOTS))
