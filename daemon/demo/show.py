"""The demo, from an empty machine to a verdict."""

import asyncio
import signal
import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

import asyncpg
from rich.console import Console

from daemon import clock
from daemon.core.types import ChannelName
from daemon.demo import erp
from daemon.demo.after import next_steps
from daemon.demo.binaries import embedded_bin
from daemon.demo.catalogue import make_catalogue
from daemon.demo.inbox import Inbox
from daemon.demo.postgres import PostgresServer
from daemon.demo.process import DaemonProcess, configuration
from daemon.demo.progress import ChannelSnapshot, Progress
from daemon.demo.records import Holdings, Key, Write
from daemon.demo.report import report
from daemon.demo.verdict import ChannelVerdict, differences, judge
from daemon.demo.workload import Shop
from daemon.simulator import Entry, Simulator

INTERRUPTED: Final = 130
DAY: Final = timedelta(seconds=10)
_LOOK_S: Final = 0.1
_CATCH_UP_S: Final = 30.0
_SHOWN_WRITES: Final = 3


async def play(*, forever: bool, skus: int, seed: int) -> int:
    """Run the demo; return the exit code: 0 when ERP and both marketplaces agree for every SKU.

    Ctrl-C ends it at once with exit code 130; with `forever`, the first Ctrl-C asks for the verdict.
    """
    # Before anything is made: what is said first should be what to install.
    embedded_bin()
    task = asyncio.current_task()
    assert task is not None
    stop = asyncio.Event()
    with _signals(task, stop, is_patient=forever):
        try:
            return await _play(skus, seed, stop if forever else None)
        except asyncio.CancelledError:
            if not stop.is_set():
                raise
            task.uncancel()
            return INTERRUPTED


@contextmanager
def _signals(task: "asyncio.Task[object]", stop: asyncio.Event, *, is_patient: bool) -> Iterator[None]:
    def interrupted() -> None:
        if stop.is_set() or not is_patient:
            task.cancel()
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, interrupted)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.remove_signal_handler(number)


async def _play(skus: int, seed: int, stop: asyncio.Event | None) -> int:
    console = Console()
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stockrelay-demo-")))
        server = stack.enter_context(PostgresServer())
        simulator = Simulator()
        url = await simulator.start()
        stack.push_async_callback(simulator.stop)
        inbox = await stack.enter_async_context(Inbox())
        connection = await asyncpg.connect(server.dsn())
        stack.callback(connection.terminate)
        demo = Demo(console, connection, simulator, DaemonProcess(folder, _log_file()), seed)
        stack.push_async_callback(demo.process.close)
        async with demo.progress.open():
            demo.progress.stage(
                f"PostgreSQL {server.major} runs on port {server.port}, both marketplaces at {url}"
            )
            rate_per_s = max(200, skus // 10)
            await demo.prepare(
                configuration(server.dsn(), url, simulator.settings, rate_per_s, inbox.url), skus
            )
            initial = await demo.run(stop)
        return await demo.conclude(initial)


def _log_file() -> Path:
    with tempfile.NamedTemporaryFile(prefix="stockrelay-demo-", suffix=".log", delete=False) as file:
        return Path(file.name)


class Demo:
    """Runs shop, daemon and marketplaces together, and observes them from outside."""

    def __init__(
        self,
        console: Console,
        connection: asyncpg.Connection,
        simulator: Simulator,
        process: DaemonProcess,
        seed: int,
    ) -> None:
        self._connection = connection
        self._simulator = simulator
        self._seed = seed
        self._requests_before = dict.fromkeys(erp.CHANNELS, 0)
        self._shop = Shop(connection, seed)
        self._snapshots: list[ChannelSnapshot] = []
        self._look_again_at = 0.0
        self.process = process
        self.progress = Progress(console, self._look)

    async def prepare(self, config: str, skus: int) -> None:
        """Fill the ERP, migrate, start the daemon and wait until both marketplaces know everything."""
        self.progress.stage(f"an ERP with {skus} products in {len(erp.WAREHOUSES)} warehouses")
        await self._connection.execute(erp.schema_sql())
        await erp.fill(self._connection, make_catalogue(skus, self._seed), self._seed)
        self.progress.stage("stockrelay migrate: schema and triggers")
        self.process.configure(config)
        await self.process.migrate()
        await self._shop.open()
        self.progress.stage(
            f"stockrelay run: every number is sent to the marketplaces (log: {self.process.log})"
        )
        await self.process.start()
        if not await self._catch_up(skus):
            self.progress.say("Not every number reached the marketplaces in time; going on nevertheless.")

    async def run(self, stop: asyncio.Event | None) -> Holdings:
        """Play one day, or days until `stop` is set; return the numbers before the last day."""
        while True:
            initial = self._start_day()
            await self._day(stop)
            self.progress.stage("the shop has closed; the marketplaces catch up")
            is_quiet = await self._catch_up(len(initial[erp.CHANNELS[0]]))
            if stop is None or stop.is_set() or not is_quiet:
                return initial
            self.progress.stage("a quiet moment: all agree; the next day begins")

    async def conclude(self, initial: Holdings) -> int:
        """Stop the daemon, compare both ends, print the verdict; return the exit code."""
        # Stopped first: what is in flight lands, and nothing changes any more while we compare.
        code = await self.process.stop()
        verdicts = await self._judge(initial)
        for line in report(self._shop.activity, verdicts):
            self.progress.say(line)
        self.progress.say(f"The daemon's log has {self.process.summary()}: {self.process.log}")
        if code:
            self.progress.say(f"The daemon did not stop as it should: exit code {code}.")
        for line in ("", *next_steps()):
            self.progress.say(line)
        return 0 if code == 0 and all(verdict.agrees for verdict in verdicts) else 1

    async def _day(self, stop: asyncio.Event | None) -> None:
        """Everything at once, as in a real shop, for about ten seconds."""
        shop, progress = self._shop, self.progress
        progress.stage("the shop opens: single sales, sell-outs, deliveries")
        async with asyncio.TaskGroup() as group:
            watch = group.create_task(self._close_early(stop)) if stop is not None else None
            async with asyncio.TaskGroup() as day:
                day.create_task(shop.sell(80, DAY))
                day.create_task(shop.sell_out(12, DAY))
                day.create_task(shop.restock(12, DAY))
                day.create_task(self._events())
            if watch is not None:
                watch.cancel()
        self.process.check()

    async def _close_early(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._shop.close()

    async def _events(self) -> None:
        shop, progress = self._shop, self.progress
        progress.stage("a burst: 300 sales of one SKU in 3 s")
        await shop.burst(300, DAY * 0.3)
        progress.stage("a bulk import: one warehouse, every SKU, one transaction")
        await shop.import_stock(2)
        await asyncio.sleep(DAY.total_seconds() * 0.2)
        progress.stage("a part gets another number, one is delisted, one is new, one change is rolled back")
        await shop.rename()
        await shop.delist()
        await shop.launch()
        await shop.roll_back()

    def _start_day(self) -> Holdings:
        """Clear journal and activity; return what the marketplaces should hold now."""
        self._shop.start_day()
        self._simulator.journal.drain()
        self._requests_before = {channel: self._simulator.stats.count(channel) for channel in erp.CHANNELS}
        return self._shop.wanted()

    async def _catch_up(self, skus: int) -> bool:
        """Wait until both marketplaces hold what they should; False: not in time."""
        deadline = clock.monotonic() + _CATCH_UP_S + skus / 100
        await asyncio.sleep(self._look_again_at - clock.monotonic())  # not at what was seen before
        while any(snapshot.behind for snapshot in self._look()):
            if clock.monotonic() > deadline:
                return False
            self.process.check()
            await asyncio.sleep(_LOOK_S)
        return True

    def _look(self) -> list[ChannelSnapshot]:
        """Return the channels' snapshots; taking new ones costs a fifth of the time at most."""
        start = clock.monotonic()
        if start >= self._look_again_at:
            self._snapshots = [
                self._snapshot(channel, wanted) for channel, wanted in self._shop.wanted().items()
            ]
            self._look_again_at = start + max(_LOOK_S, 5 * (clock.monotonic() - start))
        return self._snapshots

    def _snapshot(self, channel: ChannelName, wanted: dict[Key, int]) -> ChannelSnapshot:
        return ChannelSnapshot(
            channel=channel,
            products=len(wanted),
            behind=differences(wanted, self._held(channel)),
            requests=self._simulator.stats.count(channel),
            last=[_shown(entry) for entry in self._last_writes(channel)],
        )

    def _last_writes(self, channel: ChannelName) -> list[Entry]:
        journal = self._simulator.journal
        return journal.since(journal.last - 10 * _SHOWN_WRITES, channel)[-_SHOWN_WRITES:]

    def _held(self, channel: ChannelName) -> dict[Key, int]:
        return {_key(key): number for key, number in self._simulator.state.of(channel).items()}

    async def _judge(self, initial: Holdings) -> list[ChannelVerdict]:
        """Compare both ends; the ERP's side is read anew, from the ERP itself."""
        activity = self._shop.activity
        await self._shop.open()
        wanted = self._shop.wanted()
        held = {channel: self._held(channel) for channel in erp.CHANNELS}
        writes = [
            Write(entry.applied_at, ChannelName(entry.shop), _key(entry.key), entry.quantity)
            for entry in self._simulator.journal
        ]
        return [
            judge(
                channel,
                initial,
                activity.changes,
                writes,
                wanted,
                held,
                self._simulator.stats.count(channel) - self._requests_before[channel],
            )
            for channel in erp.CHANNELS
        ]


def _key(key: str | tuple[str, ...]) -> Key:
    return (key,) if isinstance(key, str) else key


def _shown(entry: Entry) -> str:
    return f"{_key(entry.key)[0]} = {entry.quantity}"
