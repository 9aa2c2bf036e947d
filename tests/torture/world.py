"""The world of a run: the ERP, two replicas, the marketplaces, and a proxy in each connection between them."""

import asyncio
import json
import math
import random
import signal
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import asyncpg

from daemon.simulator import Fault as Answer
from daemon.simulator import Garbage, SimulatorSettings
from daemon.simulator.marketplaces.sekorm import SekormShop
from daemon.simulator.marketplaces.webhook import WebhookShop
from daemon.simulator.marketplaces.ymatou.settings import YmatouShop
from tests.acceptance.forked import FAULTS
from tests.acceptance.harness import ERP, SETTINGS, Stage, toml
from tests.acceptance.oracle import Connection
from tests.acceptance.proxy import Proxy
from tests.acceptance.replica import Replica
from tests.channels import SEKORM, WEBHOOK, YMATOU
from tests.conftest import Database
from tests.torture.contract import Driver, Fault
from tests.torture.coverage import SAMPLE, states_of
from tests.torture.erp import LOST
from tests.torture.history import History
from tests.torture.logs import LogTail

LOOK_S: Final = 0.2
SLOW_S: Final = 0.3
EXCUSED_S: Final = 3.0
"""How long after a fault its consequences may still be seen."""
LISTING: Final = "SELECT sku, part_no AS pn_code, brand AS brand_name, on_hand AS quantity FROM erp.stock"
MORE_ERP: Final = f"""
CREATE TABLE erp.control (number integer NOT NULL);
INSERT INTO erp.control VALUES (0);
CREATE VIEW erp.for_sekorm AS {LISTING};
DROP ROLE IF EXISTS lister;
CREATE ROLE lister;
GRANT USAGE ON SCHEMA erp TO lister;
GRANT SELECT ON erp.stock TO lister;
ALTER VIEW erp.for_sekorm OWNER TO lister;
"""
# The view's owner is no superuser, so that row-level security holds for it.
CONFIGURATION: Final[Mapping[str, Mapping[str, Any]]] = {
    "database": {"statement_timeout_s": 5.0},
    # No resync heals what the change log has lost, but those that faults call for.
    "run": {"poll_s": 0.5, "lease_s": 2.0},
    "guard": {"window_s": 10, "drip_share": 1.0},
    "reconcile": {"settle_s": 0.5, "patience_s": 10, "rate_per_s": 5, "chunk": 20},
    "channel": {"rate_per_s": 200, "concurrency": 8, "timeout_s": 1.5, "settle_s": 4.0},
    "sekorm": {"listing": "SELECT * FROM erp.for_sekorm"},
}
# Code that runs in each daemon before the program: a clock that steps and a resolver that fails, by files beside it.
INJECTED: Final = """
import asyncio, datetime, pathlib, socket
import daemon.clock

here = pathlib.Path(__file__).parent
real_now, real_getaddrinfo = daemon.clock.now, asyncio.base_events.BaseEventLoop.getaddrinfo

def now():
    try:
        return real_now() + datetime.timedelta(seconds=float((here / "clock").read_text()))
    except (FileNotFoundError, ValueError):
        return real_now()

async def getaddrinfo(self, host, *words, **named):
    if host == "localhost" and (here / "dns").exists():
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    return await real_getaddrinfo(self, host, *words, **named)

daemon.clock.now = now
asyncio.base_events.BaseEventLoop.getaddrinfo = getaddrinfo
"""


class World(Stage):
    """A stage with everything that drivers, faults and checks need. `beside`: a checkout of another release with the
    same schema, which runs as the second replica."""

    def __init__(
        self, database: Database, folder: Path, seed: int, drivers: Sequence[Driver], beside: Path | None
    ) -> None:
        super().__init__(database, folder, **CONFIGURATION)
        self.seed, self.random = seed, random.Random(seed)
        self.marketplaces = SimulatorSettings(journal_limit=5_000_000)
        self.simulator.configure(self.marketplaces)
        self.folder = folder
        self.drivers = drivers
        self.history = History()
        self.violations: list[str] = []
        self.replicas: list[Replica] = []
        self.logs: list[LogTail] = []
        self.processes = asyncio.Lock()
        """Held while a replica is stopped, so that the other one stays up."""
        self.activities: Counter[str] = Counter()
        self.active: dict[Fault, float] = {}
        """Faults that are there, with their begin."""
        self.windows: list[tuple[Fault, float, float]] = []
        """Faults that are over, with their begin and end in seconds of the monotonic clock."""
        self.kinds: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.states: frozenset[str] = frozenset()
        self.starts: Counter[str] = Counter()
        self.most_memory = 0
        self.ends_at = math.inf
        """When drivers and faults end, in seconds of the monotonic clock."""
        self.slow_until = 0.0
        """Until when a session that touches nothing of ours waited, too: this machine is too busy."""
        self._beside = beside
        self._observer: Connection | None = None

    # Setting up

    async def make_erp(self) -> None:
        """The ERP's tables, and the proxies: the marketplaces' address is known by now."""
        await self.erp.execute("DROP SCHEMA IF EXISTS erp CASCADE")
        await self.erp.execute(ERP + MORE_ERP)
        port = int(self.simulator.url.rsplit(":", 1)[1])
        server = self.database.server.port
        ports = {"database": server, "doorbell": server, "sekorm": port, "ymatou": port}
        self.proxies = {
            name: await self._stack.enter_async_context(Proxy(target)) for name, target in ports.items()
        }

    def configure(self, **settings: Mapping[str, Any]) -> None:
        """Write the configuration, with the proxies' addresses and a channel in shadow."""
        dsn = "postgresql://postgres@localhost:{}/" + self.database.name
        there = {name: f"http://localhost:{self.proxies[name].port}" for name in ("sekorm", "ymatou")}
        mine: dict[str, dict[str, Any]] = {
            "database": {
                "dsn": dsn.format(self.proxies["database"].port),
                "listen_dsn": dsn.format(self.proxies["doorbell"].port),
            },
            "sekorm": {"base_url": f"{there['sekorm']}/serviceGate"},
            "ymatou": {"base_url": there["ymatou"]},
        }
        super().configure(
            **{name: {**mine.get(name, {}), **settings.get(name, {})} for name in {*mine, *settings}}
        )
        shadow = {
            **SETTINGS["channel"],
            "mode": "shadow",
            "base_url": f"{self.simulator.url}/webhook/webhook",
            "secret": self.simulator.settings.of(WebhookShop).secret,
            "listing": "SELECT sku, sku AS external_id, on_hand AS quantity FROM erp.stock",
        }
        with self.config.open("a", encoding="utf-8") as file:
            file.write("\n" + toml({f"channels.{WEBHOOK}": shadow}))

    async def begin(self) -> None:
        """Fill the ERP, migrate, start both replicas and wait until the marketplaces hold everything."""
        skus = [sku for driver in self.drivers for sku in driver.skus]
        numbers: dict[str, int | None] = {sku: self.history.number() for sku in skus}
        begun = self.history.begin(numbers, time.time())
        for sku in skus:
            self.named(sku, f"PN-{sku}")
        await self.erp.executemany(
            "INSERT INTO erp.stock VALUES ($1, 'PN-' || $1, 'AMS', $2)", list(numbers.items())
        )
        self.history.end(begun, is_committed=True)
        await self.migrate()
        injected = self.folder / "injected.py"
        injected.write_text(INJECTED, "utf-8")
        for name in ("one", "two"):
            is_other = name == "two" and self._beside is not None
            variables = {"PYTHONPATH": str(self._beside)} if is_other else {FAULTS: str(injected)}
            await self.add_replica(name, variables, is_forked=not is_other)
        await self.replicas[0].wait_for("doorbell.listening")
        await self.converged()

    async def add_replica(
        self, name: str, variables: Mapping[str, str] | None = None, *, is_forked: bool = True
    ) -> Replica:
        """Start one more daemon."""
        folder = self.folder / name
        folder.mkdir()
        replica = Replica(name, self.config, folder, **(variables or {}))
        replica.is_forked = is_forked
        self._replicas.append(replica)
        self.replicas.append(replica)
        self.logs.append(LogTail(folder / "out.jsonl", self.secrets()))
        await self.start(replica)
        return replica

    def secrets(self) -> tuple[str, ...]:
        """What no log may hold."""
        here, there = self.marketplaces.of(SekormShop), self.marketplaces.of(YmatouShop)
        return (here.account, here.app_secret, there.app_secret, there.auth_code)

    def named(self, sku: str, part_no: str) -> None:
        """The ERP lists the SKU under this part number from now on."""
        self.history.name(sku, {SEKORM: (part_no, "AMS"), YMATOU: sku})

    # For drivers and faults

    def rarest(self, name: str, kinds: Sequence[str], chance: random.Random) -> str:
        """Return the kind that came least often so far."""
        return min(kinds, key=lambda kind: (self.kinds[name][kind], chance.random()))

    @contextmanager
    def during(self, activity: str) -> Iterator[None]:
        """Something goes on that the ledger does not show."""
        self.activities[activity] += 1
        try:
            yield
        finally:
            self.activities[activity] -= 1

    @contextmanager
    def answering(self, *answers: Answer) -> Iterator[None]:
        """The marketplaces answer with these faults."""
        rules = [self.simulator.faults.add(answer) for answer in answers]
        try:
            yield
        finally:
            for rule in rules:
                self.simulator.faults.remove(rule.id)
                shape = f": {rule.fault.shape}" if isinstance(rule.fault, Garbage) else ""
                self.kinds[f"answers of {rule.fault.shop or 'both'}"][rule.fault.kind + shape] += (
                    rule.triggered
                )

    @asynccontextmanager
    async def one_replica(self, chance: random.Random) -> AsyncIterator[Replica]:
        """A running replica of which nothing else stops the other one meanwhile."""
        async with self.processes:
            replica = chance.choice(self.replicas[:2])
            if not replica.is_running:
                await self.start(replica)
            yield replica

    async def restart(self, replica: Replica) -> None:
        """SIGTERM, and a new start."""
        log = self.logs[self.replicas.index(replica)]
        log.read()
        # Stopped before it has begun to listen for signals, it ends as any program does.
        is_up = log.events["run.started"] >= self.starts[replica.name]
        with self.during("giving up"):
            code = await replica.stop(signal.SIGTERM, timeout=40)
        if code and (is_up or code != -signal.SIGTERM):
            self.violations.append(f"replica {replica.name} ended with exit code {code} after SIGTERM")
        await self.start(replica)

    async def start(self, replica: Replica) -> None:
        """Start a replica."""
        self.starts[replica.name] += 1
        await replica.start()

    def is_erp_excused(self, since: float) -> bool:
        """Whether a fault that the ERP's own sessions may notice was there since then, or the machine was too slow."""
        return since < self.slow_until or self.was_there(since, lambda fault: fault.reaches_erp)

    def was_there(self, since: float, is_meant: Callable[[Fault], bool], until: float = math.inf) -> bool:
        """Whether such a fault was there between these times, or has just been."""
        there = [(fault, begin, math.inf) for fault, begin in self.active.items()]
        return any(
            is_meant(fault) and begin <= until and end + EXCUSED_S > since
            for fault, begin, end in (*there, *self.windows)
        )

    # Looking

    async def sample(self) -> None:
        """Keep the states that exist, until the task is cancelled."""
        while True:
            for log in self.logs:
                log.read()
            with suppress(*LOST):
                if self._observer is None or self._observer.is_closed():
                    self._observer = await asyncpg.connect(self.database.dsn, timeout=2)
                began = time.monotonic()
                await self._observer.execute("UPDATE erp.control SET number = number + 1", timeout=5)
                if time.monotonic() - began > SLOW_S:
                    self.slow_until = time.monotonic()
                row = await self._observer.fetchrow(SAMPLE, timeout=2)
                assert row is not None
                self.states = states_of(dict(row), self.simulator.stats.in_flight, +self.activities)
            began = time.monotonic()
            await asyncio.sleep(LOOK_S)
            if time.monotonic() - began > LOOK_S + SLOW_S:
                self.slow_until = time.monotonic()

    def events(self, event: str) -> int:
        """How many lines of this event all logs have."""
        return sum(log.events[event] for log in self.logs)

    async def heal(self) -> None:
        """End the remaining faults, and act as an operator would afterwards."""
        for proxy in self.proxies.values():
            proxy.heal()
        for shop in (SEKORM, YMATOU):
            self.simulator.set_down(shop, down=False)
        self.simulator.faults.clear()
        if self.database.server.pid is None:
            await asyncio.to_thread(self.database.server.start)
        await self.reconnect()
        for replica in self.replicas[:2]:
            if not replica.is_running:
                await self.start(replica)

    async def operate(self) -> None:
        """Release what the guard holds, and have the parked SKUs tried again."""
        for channel in (SEKORM, YMATOU):
            for words in (("release", channel), ("parked", "retry", channel, "--all")):
                done = await self.stockrelay(*words)
                assert done.code == 0, done

    async def close(self) -> None:
        """Close the observing connection."""
        if self._observer is not None:
            self._observer.terminate()

    def timeline(self) -> str:
        """When each fault began and ended, in unix seconds, a JSON line each."""
        to_unix = time.time() - time.monotonic()
        return "".join(
            json.dumps({"fault": str(fault), "began": begin + to_unix, "ended": end + to_unix}) + "\n"
            for fault, begin, end in self.windows
        )

    def journals(self) -> str:
        """The marketplaces' journals, a JSON line each."""
        return "".join(json.dumps(entry._asdict()) + "\n" for entry in self.simulator.journal)
