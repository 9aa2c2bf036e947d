"""The status line of each channel: when it is logged, what it counts, and what happens when counting fails."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from daemon import clock
from daemon.core.errors import StoreUnavailable
from daemon.core.types import ChannelName
from daemon.ops.metrics import Metrics
from daemon.services.heartbeat import Heartbeat, Watched
from daemon.store.ledger import Backlog
from tests.channels import SEKORM
from tests.ops.scrape import parse
from tests.unit.signals import Signals, log_signals
from tests.unit.virtual_time import START, in_virtual_time

EVERY = timedelta(minutes=1)
BACKLOG = Backlog(
    skus=100, backlog=7, doubt=2, parked=1, in_flight=4, oldest=timedelta(seconds=12.34), held=3, shadowed=6
)
COUNTED = {
    "skus": 100,
    "backlog_skus": 7,
    "doubt_skus": 2,
    "parked_skus": 1,
    "in_flight_attempts": 4,
    "held_skus": 3,
    "shadowed_skus": 6,
    "oldest_change_age_seconds": 12.34,
    "counted_timestamp_seconds": (START + EVERY).timestamp(),
}


class CountedLedger:
    channel: ChannelName = SEKORM

    def __init__(self) -> None:
        self.is_down = False

    async def backlog(self) -> Backlog:
        if self.is_down:
            raise StoreUnavailable("the database does not answer")
        return BACKLOG


class Room:
    def __init__(self, logged: Signals) -> None:
        self.logged = logged
        self.ledger = CountedLedger()
        self.counts: Counter[str] = Counter()
        self.metrics = Metrics([SEKORM])

    def heartbeat(self) -> Heartbeat:
        watched = Watched(self.ledger, self.counts, lambda: 2, lambda: False, lambda: "throttled")
        return Heartbeat(EVERY, watched, lambda: True, self.metrics)

    async def line(self) -> dict[str, object]:
        return await self.logged.next("heartbeat.channel_counted")


@asynccontextmanager
async def beating() -> AsyncIterator[Room]:
    with log_signals() as logged:
        room, stop = Room(logged), clock.Signal()
        running = asyncio.create_task(room.heartbeat().run(stop))
        try:
            yield room
        finally:
            stop.set()
            await running


@in_virtual_time
async def test_a_line_is_logged_every_interval_and_not_at_the_start() -> None:
    async with beating() as room:
        began = clock.monotonic()
        for minutes in (1, 2, 3):
            await room.line()
            assert clock.monotonic() - began == 60.0 * minutes


@in_virtual_time
async def test_the_line_has_the_backlog_the_slots_and_the_trouble() -> None:
    async with beating() as room:
        assert await room.line() == {
            "log_level": "info",
            "channel": SEKORM,
            "slots_owned": 2,
            "is_paused": False,
            "is_listening": True,
            "trouble": "throttled",
            "skus": BACKLOG.skus,
            "backlog": BACKLOG.backlog,
            "oldest_s": 12.3,
            "doubt": BACKLOG.doubt,
            "parked": BACKLOG.parked,
            "held": BACKLOG.held,
            "shadowed": BACKLOG.shadowed,
            "in_flight": BACKLOG.in_flight,
            "rate_per_s": 0.0,
            "outcomes": {},
        }
        scrape = parse(room.metrics.page().decode())
        figures = {name: scrape.value(f"stockrelay_{name}", channel=SEKORM) for name in COUNTED}
        assert figures == COUNTED, "the metrics get the same figures"


@in_virtual_time
async def test_outcomes_and_rate_are_those_since_the_last_line() -> None:
    async with beating() as room:
        room.counts.update(applied=90, refused=1)
        first = await room.line()
        room.counts.update(applied=30)
        second = await room.line()
    assert (first["outcomes"], first["rate_per_s"]) == ({"applied": 90, "refused": 1}, 1.5)
    assert (second["outcomes"], second["rate_per_s"]) == ({"applied": 30}, 0.5)


@in_virtual_time
async def test_a_count_that_fails_is_logged_and_the_next_interval_begins_anew() -> None:
    async with beating() as room:
        room.ledger.is_down = True
        room.counts.update(applied=600)
        failure = await room.logged.next("heartbeat.counting_failed")
        assert (failure["log_level"], failure["channel"]) == ("warning", SEKORM)
        room.ledger.is_down = False
        room.counts.update(applied=60)
        assert (await room.line())["rate_per_s"] == 1.0
