"""One replica of the daemon: the shipped services, wired as in app/graph.py, over the server in memory."""

import asyncio
import contextvars
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Final

import asyncpg

from daemon import clock
from daemon.core.outcome import Outcome
from daemon.marketplaces.auth import TokenSource
from daemon.services.dispatch.channel import Limits
from daemon.services.dispatch.dispatcher import Dispatcher
from daemon.services.intake.service import IntakeService
from daemon.services.slots import SlotSharing
from daemon.store.intake import Intake, IntakeReading
from daemon.store.leases import Leases
from daemon.store.ledger import Debounce
from daemon.store.ledger.ledger import Ledger
from daemon.store.locks import LockWatch
from daemon.store.refused import RefusedSkus
from daemon.store.rows import Connection
from daemon.store.tokens import Tokens
from tests.world.database import ReadPosition, StandIn
from tests.world.loop import PROCESS, Process
from tests.world.marketplace import Marketplace, WorldClient
from tests.world.server import CHANNEL, LISTING, Server

LEASE: Final = timedelta(seconds=2)
LIMITS: Final = Limits(
    rate_per_s=4 * 8,
    concurrency=4 * 3,
    timeout=timedelta(seconds=1),
    settle=timedelta(seconds=7),
    max_claim_age=LEASE,
    park_after=4,
    poll=timedelta(seconds=3),
    grace=timedelta(seconds=3),
    batch=2,
)
DEBOUNCE: Final = Debounce(timedelta(seconds=0.5), timedelta(seconds=2), 0)


class WorldLedger(Ledger):
    """The shipped ledger. No SKU of the world is one that it can't hold."""

    async def refused_skus(self, connection: Connection, timeout: timedelta) -> RefusedSkus | None:  # noqa: ARG002
        return RefusedSkus(0, [])


@dataclass(eq=False)
class Weather:
    """What goes wrong between the processes and the server now: shares of all statements."""

    fails: float = 0.0
    forgets: float = 0.0
    """The statement takes effect, and its answer is lost."""
    renewals_fail: float = 0.0
    """Of the statements that renew leases, which have connections of their own."""
    is_slow: bool = False
    loses_bells: bool = False


@dataclass(eq=False)
class WorldLink:
    """One process's way to the server."""

    chance: random.Random
    weather: Weather
    say: Callable[[str], None]
    on_commit: Callable[[str], None]
    on_event: Callable[[str, str], None]
    name: str
    process: Process

    async def reach(self, statement: str) -> None:
        chance, weather = self.chance, self.weather
        if statement == "complete":
            self.on_event("ends", self.name)
        # A statement that is slow reaches the server late, or its answer does.
        wait_s = chance.random() * 3 if weather.is_slow and chance.random() < 0.15 else 0.0
        if statement in ("open_attempts", "own_slots") and chance.random() < 0.2:
            # Changes race with a claim between its reading and its writing.
            wait_s = chance.random() * 0.4
        await asyncio.sleep(wait_s or (chance.random() * 0.01 if chance.random() < 0.3 else 0.0))
        share = max(weather.fails, weather.renewals_fail if statement == "renew" else 0.0)
        if share and chance.random() < share:
            self.say(f"{self.name}: {statement} fails")
            raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")

    def commits(self) -> None:
        if self.weather.fails and self.chance.random() < self.weather.fails:
            self.say(f"{self.name}: a commit fails")
            raise asyncpg.ConnectionDoesNotExistError("connection was closed before the commit")

    async def answer(self, statement: str) -> None:
        chance, weather = self.chance, self.weather
        self.on_event(statement, self.name)
        if self.process.is_dead or self.process.is_still:
            # It has no further turn.
            await asyncio.sleep(0)
        if weather.is_slow and chance.random() < 0.15:
            await asyncio.sleep(chance.random() * 3)
        elif chance.random() < 0.3:
            await asyncio.sleep(0)
        if weather.forgets and chance.random() < weather.forgets:
            self.say(f"{self.name}: the answer to {statement} is lost")
            raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")

    def committed(self, statement: str) -> None:
        self.on_commit(f"{self.name}: {statement}")


@dataclass(eq=False)
class Parts:
    """What the world gives to each replica."""

    server: Server
    position: ReadPosition
    marketplace: Marketplace
    weather: Weather
    chance: random.Random
    say: Callable[[str], None]
    on_commit: Callable[[str], None]
    on_event: Callable[[str, str], None]
    count: Callable[[], int]
    on_end: Callable[[asyncio.Task[None]], None]
    limits: Limits = LIMITS


@dataclass(eq=False)
class Replica:
    """A process of the daemon. `tasks` are its services."""

    name: str
    parts: Parts
    process: Process = field(init=False)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        parts, self.process = self.parts, Process(self.name)
        link = WorldLink(
            parts.chance, parts.weather, parts.say, parts.on_commit, parts.on_event, self.name, self.process
        )
        self.database = StandIn(parts.server, parts.position, link)
        ledger = WorldLedger(self.database, LISTING, lambda _: None)
        leases = Leases(self.database)
        client = WorldClient(parts.marketplace, self.process, parts.count, parts.on_event)
        tokens = Tokens(self.database, CHANNEL, None)
        client.tokens = TokenSource(CHANNEL, tokens, client.fetch_token, LIMITS.timeout)
        self.client = client
        self.dispatcher = Dispatcher(
            ledger, client, parts.limits, self.name, partial(self._keep_trouble, leases)
        )
        self.slots = SlotSharing(leases, {CHANNEL: self.dispatcher}, self.name, LEASE)
        self.intake = IntakeService(
            Intake(self.database, ledger, DEBOUNCE, LockWatch(self.database)),
            self._silence_bell,
            LIMITS.poll,
            timedelta(hours=1),
            self._on_read,
            self.slots.owns_all,
        )
        self.dispatcher.on_slots_changed = self.slots.wake.set
        self.dispatcher.deferrals.read_changes = self.intake.ring
        self.stop = clock.Signal()

    async def _keep_trouble(self, leases: Leases, cause: Outcome | None) -> None:
        await leases.set_trouble(CHANNEL, self.name, cause)

    async def _silence_bell(self, _how_long: timedelta) -> None:
        """Nobody listens for how long."""

    def _on_read(self, reading: IntakeReading) -> None:
        """As app/graph.py does."""
        if reading.failed is not None:
            self.dispatcher.wake()
        elif reading.marked.rows:
            self.dispatcher.wake(is_urgent=reading.marked.urgent > 0)

    def start(self) -> None:
        self.call(self._start)

    def _start(self) -> None:
        self.intake.request_resync("start")
        for name, service in (
            ("slots", self.slots.run(self.stop)),
            ("dispatch", self.dispatcher.run(self.stop)),
            ("intake", self.intake.run(self.stop)),
        ):
            task = asyncio.get_running_loop().create_task(service, name=f"{self.name} {name}")
            task.add_done_callback(self.parts.on_end)
            self.tasks.append(task)

    def call(self, act: Callable[[], None]) -> None:
        """Have the process do this in its next turn."""
        context = contextvars.copy_context()
        context.run(PROCESS.set, self.process)
        asyncio.get_running_loop().call_soon(act, context=context)

    def die(self) -> None:
        """As by `kill -9`."""
        self.process.is_dead = True
        self.database.die()

    def hear(self, payload: str) -> None:
        """A notification has arrived."""
        if payload == "slot":
            self.slots.throttle.request()
        elif payload.startswith("marked"):
            self.dispatcher.throttle.request()
        else:
            self.intake.ring()

    def reload(self) -> None:
        """The configuration is read, as it is by then."""
        self.dispatcher.use(self.parts.limits)
