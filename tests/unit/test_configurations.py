"""A replica that is configured differently is named once, and once more when that is over."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta

from daemon import clock
from daemon.core.errors import StoreUnavailable
from daemon.liveness import Liveness
from daemon.services.configurations import ConfigurationWatch
from daemon.store.leases import Leases
from tests.unit.signals import Signals, log_signals
from tests.unit.virtual_time import in_virtual_time

OURS = {"channels.sekorm": "1", "guard": "1"}
THEIRS = {"channels.sekorm": "2", "guard": "1"}


class KeptLeases(Leases):
    def __init__(self, others: dict[str, dict[str, str]]) -> None:
        self.kept = others
        self.signals = Signals()
        self.is_down = False

    async def publish_configuration(self, holder: str, sections: Mapping[str, str]) -> None:
        self.signals.note("published", at=clock.monotonic(), sections=dict(sections))
        if self.is_down:
            raise StoreUnavailable("the database does not answer")
        self.kept[holder] = dict(sections)

    async def configurations(self) -> dict[str, dict[str, str]]:
        return dict(self.kept)


@asynccontextmanager
async def watching(**others: dict[str, str]) -> AsyncIterator[tuple[KeptLeases, dict[str, str], Signals]]:
    with log_signals() as logged:
        replicas, ours, stop = KeptLeases(others), dict(OURS), clock.Signal()
        watchdog = Liveness().watchdog("configurations")
        watch = ConfigurationWatch(replicas, "us", lambda: ours, timedelta(minutes=1), watchdog)
        running = asyncio.create_task(watch.run(stop))
        try:
            yield replicas, ours, logged
        finally:
            stop.set()
            await running


@in_virtual_time
async def test_the_first_check_comes_soon_after_the_start_and_then_once_a_minute() -> None:
    began = clock.monotonic()
    async with watching() as (replicas, _, logged):
        at = [(await replicas.signals.next("published"))["at"] - began for _ in range(3)]
        await asyncio.sleep(1)
    assert at == [2, 62, 122]
    assert logged.notes == [], "alone, it agrees with itself"


@in_virtual_time
async def test_a_replica_that_differs_is_named_once_and_again_when_it_differs_elsewhere() -> None:
    async with watching(them=THEIRS, others=OURS) as (replicas, _, logged):
        assert await logged.next("run.configurations_differ") == {
            "log_level": "warning", "replica": "them", "sections": ("channels.sekorm",),
        }  # fmt: skip
        await asyncio.sleep(600)
        assert logged.count("run.configurations_differ") == 1
        replicas.kept["them"] = {"channels.sekorm": "2", "guard": "2"}
        assert (await logged.next("run.configurations_differ"))["sections"] == ("channels.sekorm", "guard")


@in_virtual_time
async def test_that_all_agree_again_is_logged_when_ours_have_been_reloaded() -> None:
    async with watching(them=THEIRS) as (replicas, ours, logged):
        await logged.next("run.configurations_differ")
        ours.update(THEIRS)
        await logged.next("run.configurations_agree")
        assert replicas.kept["us"] == THEIRS


@in_virtual_time
async def test_a_database_that_is_away_says_nothing_about_the_replicas() -> None:
    async with watching(them=THEIRS) as (replicas, _, logged):
        await logged.next("run.configurations_differ")
        replicas.is_down = True
        assert (await logged.next("run.configurations_unavailable"))["log_level"] == "debug"
        replicas.is_down = False
        await asyncio.sleep(120)
    assert logged.count("run.configurations_differ") == 1
    assert logged.count("run.configurations_agree") == 0
