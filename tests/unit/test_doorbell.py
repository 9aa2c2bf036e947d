"""The doorbell beside a scripted server: when it listens, what it starts, and how it connects again."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from daemon import clock
from daemon.core.errors import ForeignDatabase, StoreUnavailable
from daemon.services.doorbell import BEAT, Doorbell
from daemon.store.connecting import ConnectOptions
from daemon.store.listener import Listener
from tests.unit.signals import Signals, log_signals
from tests.unit.virtual_time import in_virtual_time

DOWN = StoreUnavailable("the server does not answer")


class Connection(Listener):
    """A connection that listens until the test has it lost, or its LISTEN forgotten."""

    def __init__(self, pid: int, on_ring: Callable[[int, str], None]) -> None:
        self.pid = pid
        self.ring = on_ring
        self.is_lost = False
        self.is_forgotten = False

    async def beat(self, timeout: timedelta) -> bool:
        if self.is_lost:
            await asyncio.sleep(timeout.total_seconds())
            raise DOWN
        return not self.is_forgotten


class Server:
    """`is_down`: no connection can be opened. `is_flapping`: each one is lost at the first beat."""

    def __init__(self, logged: Signals) -> None:
        self.logged = logged
        self.signals = Signals()
        self.connections: list[Connection] = []
        self.is_down = False
        self.is_flapping = False
        self.error: Exception | None = None
        self.doorbell = Doorbell(
            ConnectOptions("postgresql:///erp", BEAT),
            lambda payload: self.signals.note("ring", payload=payload),
            self._connected,
            listen=self._listen,
        )

    @asynccontextmanager
    async def _listen(
        self, _options: ConnectOptions, on_ring: Callable[[int, str], None]
    ) -> AsyncIterator[Listener]:
        self.signals.note("opened", at=clock.monotonic())
        if self.is_down:
            raise DOWN
        made = Connection(len(self.connections), on_ring)
        made.is_lost = self.is_flapping
        self.connections.append(made)
        yield made

    async def _connected(self) -> None:
        self.signals.note("connected", was_listening=self.doorbell.is_listening)
        if self.error is not None:
            raise self.error

    def pauses(self) -> list[float]:
        times = [fields["at"] for fields in self.signals.all("opened")]
        return [round(later - earlier, 3) for earlier, later in itertools.pairwise(times)]


@asynccontextmanager
async def listening() -> AsyncIterator[Server]:
    with log_signals() as logged:
        server, stop = Server(logged), clock.Signal()
        running = asyncio.create_task(server.doorbell.run(stop))
        try:
            yield server
        finally:
            stop.set()
            await running
            assert not server.doorbell.is_listening


@in_virtual_time
async def test_what_a_connection_starts_comes_before_it_counts_as_listening() -> None:
    async with listening() as server:
        await server.logged.next("doorbell.listening")
        assert server.signals.all("connected") == [{"was_listening": False}]
        assert server.doorbell.is_listening


@in_virtual_time
async def test_a_notification_is_passed_on_with_its_payload() -> None:
    async with listening() as server:
        await server.logged.next("doorbell.listening")
        server.connections[0].ring(7, "marked sekorm")
        assert server.signals.all("ring") == [{"payload": "marked sekorm"}]


@in_virtual_time
async def test_a_lost_connection_is_noticed_within_two_beats_and_replaced() -> None:
    async with listening() as server:
        await server.logged.next("doorbell.listening")
        began = clock.monotonic()
        server.connections[0].is_lost = True
        await server.logged.next("doorbell.lost")
        assert clock.monotonic() - began <= 2 * BEAT.total_seconds()
        assert not server.doorbell.is_listening
        await server.logged.next("doorbell.listening")
        assert server.signals.count("connected") == 2, "what was committed meanwhile is looked for"


@in_virtual_time
async def test_a_server_that_forgot_the_listen_is_asked_anew_and_a_pooler_is_named() -> None:
    async with listening() as server:
        await server.logged.next("doorbell.listening")
        server.connections[0].is_forgotten = True
        assert "database.listen_dsn" in (await server.logged.next("doorbell.lost"))["reason"]
        await server.logged.next("doorbell.listening")


@in_virtual_time
async def test_a_server_that_is_down_is_tried_ever_more_seldom_and_logged_once() -> None:
    async with listening() as server:
        await server.logged.next("doorbell.listening")
        server.is_down = True
        server.connections[0].is_lost = True
        await asyncio.sleep(60)
        # Without jitter each pause is half of 0.2, 0.4, 0.8 ... 10 seconds.
        assert server.pauses()[1:] == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 5.0] + [5.0] * 8, abs=0.01)
        assert server.logged.count("doorbell.lost") == 1


@in_virtual_time
async def test_a_connection_that_is_lost_at_once_each_time_is_made_less_and_less_often() -> None:
    async with listening() as server:
        server.is_flapping = True
        await server.logged.next("doorbell.listening")
        await asyncio.sleep(300)
        server.is_flapping = False
        pauses = server.pauses()
        assert pauses == sorted(pauses)
        assert pauses[-1] > 30, "each connection compares everything"
        await asyncio.sleep(120)
        before = server.signals.count("opened")
        server.connections[-1].is_lost = True
        await asyncio.sleep(2 * BEAT.total_seconds() + 1)
        assert server.signals.count("opened") == before + 1, "one that held for a minute is replaced at once"


@in_virtual_time
async def test_a_copy_of_the_database_ends_it() -> None:
    with log_signals() as logged:
        server = Server(logged)
        server.error = ForeignDatabase("this is a copy")
        with pytest.raises(ForeignDatabase):
            await server.doorbell.run(clock.Signal())
        assert not server.doorbell.is_listening
