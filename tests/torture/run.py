"""One run: drivers and faults side by side for its time, then healing, and what must hold then."""

import asyncio
import random
import shutil
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from daemon.demo.binaries import ServerUnusable, embedded_bin, system_bin
from daemon.demo.postgres import PostgresServer
from tests.acceptance import oracle
from tests.channels import SEKORM, YMATOU
from tests.conftest import SETTINGS as SERVER
from tests.conftest import Database
from tests.torture.contract import Fault, Parts, flat
from tests.torture.coverage import STATES, Table
from tests.torture.history import Verdict, judge
from tests.torture.world import LOOK_S, World

NAME: Final = "shop"
FAULTS_AT_ONCE: Final = 2
CHECKED_EVERY_S: Final = 1.0
COVERED_S: Final = 20 * 60.0
"""A longer run must fill the whole table."""


@dataclass(frozen=True, slots=True)
class Order:
    """What to run. `beside`: see World."""

    parts: Parts
    seconds: float
    seed: int
    server: int = 18
    beside: Path | None = None
    patience_s: float = 60.0
    """How long convergence may take once the marketplaces take nothing more."""


@dataclass(slots=True)
class Result:
    """What a run has shown."""

    order: Order
    table: Table
    problems: list[str] = field(default_factory=list)
    verdict: Verdict = field(default_factory=Verdict)
    kinds: dict[str, dict[str, int]] = field(default_factory=dict)
    changes: int = 0
    requests: int = 0
    writes: int = 0
    doubts: int = 0
    converged_s: float = 0.0
    seconds: float = 0.0
    evidence: Path | None = None


Show = Callable[[float, World | None, str], None]
"""Shows how far a run is: the part of it that is over, its world, and what it does now."""


async def torture(order: Order, keep: Path, show: Show) -> Result:
    """Run, and return the result; evidence of problems is kept in a folder of `keep`."""
    bin_dir = embedded_bin() if order.server == 18 else system_bin(order.server)
    if bin_dir is None:
        raise ServerUnusable(f"no PostgreSQL {order.server} on this machine")
    result = Result(order, Table(STATES))
    began = time.monotonic()
    with (
        TemporaryDirectory(prefix="stockrelay-torture-") as name,
        PostgresServer(bin_dir, SERVER) as server,
    ):
        server.run_sql(f"CREATE DATABASE {NAME}")
        folder = Path(name)
        try:
            world = World(Database(server, NAME), folder, order.seed, order.parts.drivers, order.beside)
            async with world:
                await _Run(order, world, result, show).run()
        except Exception:  # noqa: BLE001 - any error is a finding, and its evidence is kept
            result.problems.append(traceback.format_exc()[-5000:])
        result.seconds = time.monotonic() - began
        if result.problems:
            result.evidence = _keep(folder, server, keep / f"torture-{order.seed}")
            result.evidence.joinpath("problems.txt").write_text("\n\n".join(result.problems), "utf-8")
    return result


def _keep(folder: Path, server: PostgresServer, to: Path) -> Path:
    """Copy logs, configuration, journals and the server's log before their folder is removed."""
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(folder, to)
    with suppress(FileNotFoundError):
        shutil.copy(server.folder / "server.log", to / "postgresql.log")
    return to


class _Run:
    def __init__(self, order: Order, world: World, result: Result, show: Show) -> None:
        self._order, self._world, self._result, self._show = order, world, result, show
        self._until = 0.0
        self._seen: set[str] = set()

    async def run(self) -> None:
        world = self._world
        self._show(0.0, world, "beginning")
        try:
            await world.begin()
            sampling = asyncio.create_task(world.sample(), name="sampling")
            try:
                await self._traffic()
                self._show(1.0, world, "healing")
                try:
                    await self._rest()
                except AssertionError as error:
                    self._result.problems.append(str(error)[:5000])
            finally:
                sampling.cancel()
                await asyncio.wait([sampling])
            await self._judge()
        finally:
            self._figures()
            await world.close()
            world.folder.joinpath("faults.jsonl").write_text(world.timeline(), "utf-8")
            world.folder.joinpath("journal.jsonl").write_text(world.journals(), "utf-8")

    async def _traffic(self) -> None:
        """Drivers, faults and checks, until the time is over; an error in one of them ends the run."""
        world, began = self._world, time.monotonic()
        self._until = world.ends_at = began + self._order.seconds
        drivers: list[asyncio.Task[None]] = [
            asyncio.create_task(
                driver.drive(world, driver.skus, random.Random(f"{world.seed}/{driver.name}")),  # type: ignore[arg-type]
                name=driver.name,
            )
            for driver in self._order.parts.drivers
        ]
        faults = [
            asyncio.create_task(self._nemesis(random.Random(f"{world.seed}/nemesis/{n}")), name=f"faults-{n}")
            for n in range(FAULTS_AT_ONCE)
        ]
        tasks = [*drivers, *faults, asyncio.create_task(self._watch(began), name="checks")]
        try:
            done, _ = await asyncio.wait(
                tasks, timeout=self._order.seconds, return_when=asyncio.FIRST_EXCEPTION
            )
            for task in done:
                task.result()
            await asyncio.wait_for(asyncio.gather(*faults), timeout=60)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _nemesis(self, chance: random.Random) -> None:
        """Begin one fault after another, each of them once before any comes again."""
        waiting: list[Fault] = []
        while time.monotonic() < self._until:
            if not waiting:
                waiting = chance.sample(self._order.parts.faults, len(self._order.parts.faults))
            groups = {fault.group for fault in self._world.active} - {""}
            fault = next(
                (one for one in waiting if one.group not in groups and one not in self._world.active), None
            )
            if fault is None:
                await asyncio.sleep(LOOK_S)
                continue
            waiting.remove(fault)
            await self._inject(fault, chance)
            await asyncio.sleep(chance.uniform(0.1, 1.0))

    async def _inject(self, fault: Fault, chance: random.Random) -> None:
        world, began = self._world, time.monotonic()
        beside = set(world.states)
        world.active[fault] = began
        looking = asyncio.create_task(self._look(beside))
        try:
            async with fault.begin(world, chance):
                await asyncio.sleep(fault.seconds * chance.uniform(0.5, 1.5))
        finally:
            looking.cancel()
            del world.active[fault]
            world.windows.append((fault, began, time.monotonic()))
        self._result.table.fire(str(fault), beside)

    async def _look(self, beside: set[str]) -> None:
        while True:
            beside |= self._world.states
            await asyncio.sleep(LOOK_S)

    async def _watch(self, began: float) -> None:
        while True:
            await self._check()
            now = time.monotonic()
            names = ", ".join(sorted(fault.name for fault in self._world.active))
            self._show(min(1.0, (now - began) / self._order.seconds), self._world, names)
            await asyncio.sleep(CHECKED_EVERY_S)

    async def _check(self) -> None:
        found = {name: await check(self._world) for name, check in self._order.parts.anytime.items()}
        new = [words for words in flat(found) if words not in self._seen]
        self._seen |= set(new)
        self._result.problems += new

    async def _rest(self) -> None:
        """Heal, and wait for what must come; then look at what must hold at the end."""
        world, began = self._world, time.monotonic()
        await world.heal()
        await world.operate()
        await world.converged(self._order.patience_s)
        self._result.converged_s = time.monotonic() - began
        for settle in self._order.parts.eventually.values():
            await settle(world)
        await self._check()
        found = {name: await check(world) for name, check in self._order.parts.finally_.items()}
        self._result.problems += flat(found)

    async def _judge(self) -> None:
        world, result = self._world, self._result
        doubts = [one for one in await oracle.attempts(world.erp) if one.outcome == "unknown"]
        result.doubts = len(doubts)
        held = {str(shop): world.simulator.state.of(shop) for shop in (SEKORM, YMATOU)}
        settle_s = float(world.setting("channel", "settle_s"))
        result.verdict = judge(world.history, world.simulator.journal, held, doubts, settle_s)
        result.problems += result.verdict.problems()
        if self._order.seconds > COVERED_S:
            rows = [str(fault) for fault in self._order.parts.faults]
            result.problems += [f"no {fault!r} beside {state!r}" for fault, state in result.table.gaps(rows)]
            result.problems += [
                f"no {kind!r} of {name!r}"
                for name, kinds in self._order.parts.kinds.items()
                for kind in kinds
                if not world.kinds[name][kind]
            ]

    def _figures(self) -> None:
        world, result = self._world, self._result
        result.changes = world.history.changes
        result.requests = world.simulator.stats.requests.total()
        result.writes = len(world.simulator.journal)
        result.kinds = {
            name: {**dict.fromkeys(self._order.parts.kinds.get(name, ()), 0), **kinds}
            for name, kinds in world.kinds.items()
        }


def names_of(faults: Sequence[Fault]) -> list[str]:
    """The table's rows, in the order of their numbers."""
    return [str(fault) for fault in sorted(faults, key=lambda fault: (fault.number, fault.name))]
