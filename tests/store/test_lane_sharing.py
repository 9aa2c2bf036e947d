"""A replica's lanes on a real database: what it takes, gives up and leaves to others."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from daemon.core.types import ChannelName, Lane
from daemon.services.lanes import LaneSharing, Served, Tenure
from tests.channels import YMATOU
from tests.store.place import TIMEOUT, Connection
from tests.store.shop import CHANNEL, LEASE, Shop


class Serving:
    """Serves lanes until told to stop; those in `slow` until `finish` is set as well."""

    def __init__(self, *slow: str) -> None:
        self.slow = slow
        self.finish = asyncio.Event()
        self.lanes: set[Lane] = set()

    async def run(self, tenure: Tenure, stop: asyncio.Event) -> None:
        lane = tenure.owner.lane
        self.lanes.add(lane)
        try:
            await stop.wait()
            if lane in self.slow:
                await self.finish.wait()
        finally:
            self.lanes.remove(lane)


@asynccontextmanager
async def sharing(
    shop: Shop, holder: str, serving: Serving | Mapping[ChannelName, Served], *, is_guest: bool = False
) -> AsyncIterator[tuple[asyncio.Task[None], asyncio.Event]]:
    """One replica that shares the channel's lanes, or those of several channels."""
    stop = asyncio.Event()
    served = {CHANNEL: Served(serving, None)} if isinstance(serving, Serving) else serving
    replica = LaneSharing(shop.lanes, served, holder, LEASE, is_guest=is_guest)
    task = asyncio.create_task(replica.run(stop))
    try:
        yield task, stop
    finally:
        stop.set()
        if isinstance(serving, Serving):
            serving.finish.set()
        await asyncio.wait_for(task, TIMEOUT)


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(TIMEOUT):
        while not is_so():  # noqa: ASYNC110 - what is waited for is in the database
            await asyncio.sleep(0.02)


async def test_a_command_that_serves_what_nobody_does_divides_what_is_to_be_divided(shop: Shop) -> None:
    await shop.lanes.give_up(shop.owner)
    await shop.lanes.want(CHANNEL, 2)
    serving = Serving()
    async with sharing(shop, "guest", serving, is_guest=True):
        await until(lambda: serving.lanes == {"sekorm/1", "sekorm/2"})


async def test_lanes_of_a_replica_that_stops_are_taken_while_its_last_request_takes_its_time(
    shop: Shop, sql: Connection
) -> None:
    await shop.lanes.give_up(shop.owner)
    await shop.lanes.want(CHANNEL, 4)
    assert await shop.lanes.divide(CHANNEL) == 4
    first, second = Serving("sekorm/1"), Serving()
    async with sharing(shop, "one", first) as (stopping, stop):
        await until(lambda: len(first.lanes) == 4)
        async with sharing(shop, "two", second):
            await until(lambda: len(first.lanes) == 2 and len(second.lanes) == 2)
            stop.set()
            await until(lambda: second.lanes == {"sekorm/2", "sekorm/3", "sekorm/4"})
            assert not stopping.done()
            assert await sql.fetchval("SELECT array_agg(holder) FROM stockrelay.replica") == ["two"]
            first.finish.set()
            await until(lambda: len(second.lanes) == 4)


async def test_a_lane_whose_service_fails_is_taken_again_and_the_other_lanes_go_on(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.services.lanes.sharing._RETRY_BASE", timedelta(milliseconds=1))
    await shop.lanes.give_up(shop.owner)
    await shop.lanes.want(CHANNEL, 2)
    assert await shop.lanes.divide(CHANNEL) == 2

    class Failing(Serving):
        failed = 0
        steady: Tenure | None = None

        async def run(self, tenure: Tenure, stop: asyncio.Event) -> None:
            if tenure.owner.lane == "sekorm/1" and self.failed < 2:
                self.failed += 1
                raise OverflowError("date value out of range")
            if tenure.owner.lane == "sekorm/2":
                assert self.steady is None, "its service was begun again"
                self.steady = tenure
            await super().run(tenure, stop)

    serving = Failing()
    async with sharing(shop, "one", serving):
        await until(lambda: serving.failed == 2 and serving.lanes == {"sekorm/1", "sekorm/2"})


async def test_a_division_that_raises_is_tried_again_and_the_other_channels_lanes_go_on(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    await shop.lanes.give_up(shop.owner)
    await shop.lanes.want(CHANNEL, 2)
    await shop.lanes.want(YMATOU, 1)
    await shop.lanes.divide(YMATOU)
    other = Serving()
    divide, divided = shop.lanes.divide, []

    async def failing(channel: ChannelName) -> int | None:
        divided.append(set(other.lanes))
        if len(divided) == 1:
            raise OverflowError("date value out of range")
        return await divide(channel)

    monkeypatch.setattr(shop.lanes, "divide", failing)
    serving = Serving()
    served = {CHANNEL: Served(serving, None), YMATOU: Served(other, None)}
    with capture_logs() as lines:
        async with sharing(shop, "one", served):
            await until(lambda: serving.lanes == {"sekorm/1", "sekorm/2"})
    (line,) = [line for line in lines if line["event"] == "lane.division_failed"]
    assert (line["channel"], line["log_level"], line["exc_info"]) == (CHANNEL, "error", True)
    assert divided[-1] == {"ymatou"}, "served meanwhile"
    assert len([line for line in lines if line["event"] == "lane.lease_taken"]) == 3, "no lane was lost"
