"""The exposure clock against an exact calculation, over a scripted hour with outages; and what it costs marking."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from bench.mark_cost import mark_cost
from bench.place import QUICK, Connection, Place, connected
from bench.results import Promise, Result, Row, row
from daemon.simulator import DelayAfter, Fault, RefuseSku, ResetAfter, Status, Throttle
from tests.acceptance.exposed import (
    Difference,
    History,
    Unanswered,
    differences,
    exposure,
    names,
)
from tests.acceptance.harness import Stage, stopped
from tests.acceptance.replica import Replica
from tests.channels import SEKORM, YMATOU
from tests.conftest import Database

NAME: Final = "exposure"
TICK_S: Final = 0.15
"""As in tests/acceptance/test_exposure.py."""
_FACTOR: Final = 15
_FACTOR_QUICK: Final = 60
_SKUS: Final = 200
_HELD, _PARKED, _DOUBTED, _SLOW, _IN_FLIGHT, _AWAY = (
    range(1, 13),
    range(13, 16),
    range(16, 21),
    range(21, 26),
    range(26, 28),
    range(31, 61),
)
_TRAFFIC: Final = range(101, _SKUS + 1)
_APART_S: Final = 2.0
"""No SKU changes twice within this: of changes that one reading finds, only the last number is known."""
_HELD_COUNT: Final = "SELECT count(*) FROM stockrelay.ledger WHERE held_at IS NOT NULL"
_OPEN_COUNT: Final = (
    "SELECT count(*) FROM stockrelay.ledger WHERE attempt_id IS NOT NULL OR want_seq > acked_seq"
)
_SETTINGS: Final[dict[str, dict[str, Any]]] = {
    "debounce": {"quiet_s": 0.5, "max_wait_s": 2.0},
    "guard": {"zero_count": 5, "zero_share": 0.03, "window_s": 20},
    "run": {"lease_s": 2.0},
}


@dataclass
class _Hour:
    """The script: what happens at which of its minutes."""

    stage: Stage
    replica: Replica
    looker: Connection
    factor: float
    history: History
    unanswered: Unanswered = field(default_factory=Unanswered)
    began: float = field(default_factory=time.monotonic)
    is_served: bool = True

    async def until(self, minute: float) -> None:
        await asyncio.sleep(max(0.0, self.began + minute * 60 / self.factor - time.monotonic()))

    async def traffic(self) -> None:
        """Change a SKU now and then, but while the daemon is away."""
        changed: dict[int, float] = {}
        while (now := time.monotonic()) < self.began + 57 * 60 / self.factor:
            number = random.choice(_TRAFFIC)
            if self.is_served and now - changed.get(number, 0) > _APART_S:
                changed[number] = now
                await self.history.set(random.randint(60, 140), number)
            await asyncio.sleep(random.uniform(0.05, 0.25))

    @asynccontextmanager
    async def fault(self, *faults: Fault) -> AsyncIterator[None]:
        """Marketplaces with these faults."""
        added = [self.stage.simulator.faults.add(one) for one in faults]
        yield
        for one in added:
            self.stage.simulator.faults.remove(one.id)

    async def outages(self) -> None:
        """Each fault in turn, most of them for minutes of the script."""
        await self.until(8)
        first = self.stage.simulator.journal.last
        async with self.fault(Status(shop="ymatou", status=500, apply=True)):
            await self.until(11)
        self.unanswered.note(first, self.stage.simulator.journal.last, shop=YMATOU)
        await self.until(14)
        async with self.fault(Throttle(shop="sekorm", retry_after=1)):
            await self.until(17)
        await self.until(20)
        await self._doubts()
        await self.until(26)
        refusals = [RefuseSku(shop=shop, key=key) for n in _PARKED for shop, key in names(n).items()]
        async with self.fault(*refusals):
            await self.history.set(40, *_PARKED)
            await self.history.set(0, *_HELD)
            await self._held()
            await self.until(33)
        await self._by_hand("parked", "retry", "--all")
        await self._by_hand("release")
        await self.until(37)
        await self._away()
        await self.until(46)
        assert (await self.stage.stockrelay("pause", YMATOU)).code == 0
        await self.until(48)
        assert (await self.stage.stockrelay("resume", YMATOU)).code == 0

    async def _doubts(self) -> None:
        """Connections that end after the number was applied, and answers that come after the timeout."""
        keys = [one for number in _DOUBTED for one in names(number).items()]
        slow = [one for number in _SLOW for one in names(number).items()]
        first, numbers = self.stage.simulator.journal.last, (*_DOUBTED, *_SLOW)
        async with self.fault(
            *(ResetAfter(shop=shop, key=key, times=1) for shop, key in keys),
            *(DelayAfter(shop=shop, key=key, times=1, seconds=30) for shop, key in slow),
        ):
            await self.history.set(40, *numbers)
            await self._applied(40, *numbers)
        self.unanswered.note(first, self.stage.simulator.journal.last, numbers, most=1)

    async def _applied(self, on_hand: int, *numbers: int) -> None:
        """Wait until the marketplaces have this number of these SKUs."""
        for shop in (SEKORM, YMATOU):
            wanted = {names(number)[shop]: on_hand for number in numbers}
            await self.stage.simulator.wait_for_state(shop, wanted, timeout=60)

    async def _held(self) -> None:
        """Wait until the guard holds the zeroes of both channels."""
        async with asyncio.timeout(60):
            while await self.looker.fetchval(_HELD_COUNT) < 2 * len(_HELD):  # noqa: ASYNC110 - another process does it
                await asyncio.sleep(0.1)

    async def _by_hand(self, *words: str) -> None:
        first, *more = words
        for channel in (SEKORM, YMATOU):
            said = (first, more[0], channel, *more[1:]) if more else (first, channel)
            assert (await self.stage.stockrelay(*said)).code == 0, said

    async def _away(self) -> None:
        """The daemon is killed with requests in flight, and comes back minutes later."""
        slow = [
            DelayAfter(shop=shop, key=key, seconds=60) for n in _IN_FLIGHT for shop, key in names(n).items()
        ]
        # Nothing else is in flight: which writes remain without an acknowledgement must be known.
        self.is_served = False
        async with asyncio.timeout(60):
            while await self.looker.fetchval(_OPEN_COUNT):  # noqa: ASYNC110 - another process does it
                await asyncio.sleep(0.1)
        first = self.stage.simulator.journal.last
        async with self.fault(*slow):
            await self.history.set(60, *_IN_FLIGHT)
            await self._applied(60, *_IN_FLIGHT)
            await self.replica.kill()
        self.unanswered.note(first, self.stage.simulator.journal.last, _IN_FLIGHT)
        for number in _AWAY:
            await self.history.set(random.randint(60, 140), number)
            await asyncio.sleep(0.02)
        await self.until(43)
        mark = self.replica.mark()
        await self.replica.start()
        await self.replica.wait_for("doorbell.listening", since=mark)
        self.is_served = True


async def measure(place: Place) -> Result:
    """Let the hour happen, and compare every SKU's sums with the exact ones."""
    factor = _FACTOR_QUICK if place.size.scale == QUICK.scale else _FACTOR
    place.database(NAME)
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="stockrelay-bench-")))
        stage = await stack.enter_async_context(Stage(Database(place.server, NAME), folder, **_SETTINGS))
        replica = await stage.running(_SKUS)
        looker = await stack.enter_async_context(connected(place.server.dsn(NAME)))
        hour = _Hour(stage, replica, looker, factor, History(stage))
        async with asyncio.TaskGroup() as group:
            group.create_task(hour.traffic())
            group.create_task(hour.outages())
        await stage.converged(timeout=120)
        found = list(differences(stage, hour.history, await exposure(stage), hour.unanswered))
        await stopped(replica)
        marking, share = await mark_cost(place, NAME)
    largest = max(found, key=lambda one: one.seconds)
    changes = sum(len(commits) for commits in hour.history.commits.values())
    return Result(
        NAME,
        "exposure against an exact calculation from the ERP's commits and the marketplaces' journal",
        f"an hour's script {factor} times as fast, the daemon's own times as they are: {changes} changes of "
        f"{len(hour.history.commits)} SKUs; errors 500, throttling, doubt, parked, held, daemon away, paused. "
        f"Furthest off: {largest.channel} {largest.sku} {largest.kind}, {largest.found:.2f} for {largest.exact:.2f}",
        [one for channel in (SEKORM, YMATOU) for one in _rows(channel, found)] + marking,
        [
            Promise(
                f"largest difference against the tick of {TICK_S * 1000:.0f} ms",
                largest.seconds / TICK_S,
                1,
                is_floor=False,
            ),
            Promise(
                "marking a SKU that waits, against marking without the clock", share, 1.1, is_floor=False
            ),
        ],
    )


def _rows(channel: str, found: Sequence[Difference]) -> list[Row]:
    own = [one for one in found if one.channel == channel]
    rows = [
        row(f"{channel}: a SKU's sum is off by, in time", "ms", [one.seconds * 1000 for one in own]),
        row(
            f"{channel}: a SKU's sum is off by, in units x seconds",
            "unit-s",
            [abs(one.found - one.exact) for one in own],
        ),
    ]
    for kind in ("over", "lost"):
        exact, said = (
            sum(getattr(one, name) for one in own if one.kind == kind) for name in ("exact", "found")
        )
        rows.append(row(f"{channel}: {kind}, all SKUs (ratio: to the exact sum)", "unit-s", [said], [exact]))
    return rows
