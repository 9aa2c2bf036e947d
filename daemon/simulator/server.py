"""All shops on one port."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from email.utils import formatdate
from typing import Any, Final

from aiohttp import web

from daemon import clock
from daemon.simulator import fault_injection
from daemon.simulator.comparisons import Comparisons
from daemon.simulator.connections import ClientConnection, ConnectionServer
from daemon.simulator.control import Control
from daemon.simulator.journal import ChangeSignal, Entry, Journal, Key, ShopData, State
from daemon.simulator.marketplaces import MARKETPLACES
from daemon.simulator.rules import Faults, TriggeredFaults
from daemon.simulator.shops import SimulatorSettings, check_fault
from daemon.simulator.traffic import Stats, Traffic
from daemon.simulator.wire import Marketplace, SharedState, ShopAnswer, ShopApi, ShopCall, received_request

CONTROL_PREFIX: Final = "/_sim/"
STOP_GRACE: Final = timedelta(seconds=2)

_NOT_FOUND: Final = ShopAnswer("404", b"Not Found", 404, "text/plain")


class Simulator:
    """Shops at the marketplaces, strict to the clause, with a journal of accepted writes and faults on demand.

    Everything is in memory and bounded: see `SimulatorSettings` and the classes behind the properties.
    """

    def __init__(self, settings: SimulatorSettings | None = None) -> None:
        self._settings = settings or SimulatorSettings()
        self._data = ShopData(self._settings.journal_limit)
        self._signal = ChangeSignal()
        self._traffic = Traffic(on_gone=self._signal.notify)
        self.comparisons: Final = Comparisons()
        self.faults: Final = Faults(lambda fault: check_fault(fault, self._settings))
        self._shared = SharedState(
            self._data,
            self._traffic,
            self.comparisons,
            self.marketplaces_time,
            lambda: self._settings.nonce_limit,
        )
        self._apis: dict[str, ShopApi] = {}
        self._control = Control(self)
        self._runner: web.ServerRunner | None = None
        self._stopping = asyncio.Event()
        self._slow: set[asyncio.Task[Any]] = set()
        self._date = (0, "")
        self.url = ""
        self.configure(self._settings)

    @property
    def settings(self) -> SimulatorSettings:
        return self._settings

    @property
    def journal(self) -> Journal:
        """Accepted writes in the order of application."""
        return self._data.journal

    @property
    def state(self) -> State:
        """The current number of every product."""
        return self._data.state

    @property
    def stats(self) -> Stats:
        """Counts since the start or the last reset."""
        return self._traffic.stats

    def configure(self, settings: SimulatorSettings) -> None:
        """Takes other settings over at once. A shop that goes down, or away, drops its connections."""
        self._settings = settings
        for name, shop in settings.shops.items():
            if name in self._apis and self._apis[name].settings.marketplace == shop.marketplace:
                self._apis[name].configure(shop)
            else:
                self._apis[name] = MARKETPLACES[shop.marketplace].api(name, shop, self._shared)
        for name in self._apis.keys() - settings.shops.keys():
            del self._apis[name]
            self._traffic.drop_connections(name)
        self._data.journal.limit = settings.journal_limit
        self._date = (0, "")
        for name, shop in settings.shops.items():
            if shop.down:
                self._traffic.drop_connections(name)

    def change(self, shop: str, **values: Any) -> None:  # noqa: ANN401 - whatever a shop has
        """Gives one shop other values."""
        self.configure(self._settings.changed(shop, **values))

    def set_down(self, shop: str, *, down: bool = True) -> None:
        """Switches a shop off or on: while it is down it drops every connection without an answer."""
        self.change(shop, down=down)

    def revoke_tokens(self) -> None:
        """Every token that is out is refused from now on."""
        for api in self._apis.values():
            api.forget(tokens=True)

    def reset(
        self,
        *,
        journal: bool = True,
        state: bool = True,
        stats: bool = True,
        faults: bool = True,
        tokens: bool = False,
        nonces: bool = False,
    ) -> None:
        """Forgets. Releases what faults hold. Journal numbers go on rising."""
        if faults:
            self.faults.clear()
        if journal:
            self.journal.drain()
        if state:
            self.state.clear()
            self.comparisons.clear()
        if stats:
            self._traffic.reset()
        if tokens:
            self.revoke_tokens()
        if nonces:
            for api in self._apis.values():
                api.forget(nonces=True)

    async def wait_until(self, condition: Callable[[], bool], timeout: float = 10.0) -> None:
        """Returns once `condition()` is true; it is looked at after every event here. Raises TimeoutError."""
        await self._signal.wait_until(condition, timedelta(seconds=timeout))

    async def wait_for_journal(self, until: int | Callable[[Entry], bool], timeout: float = 10.0) -> Entry:
        """Waits until the journal has `until` writes, or one that satisfies `until`; returns the entry.

        Writes that are in the journal already count. Raises TimeoutError.
        """
        if isinstance(until, int):
            count = until
            await self.wait_until(lambda: len(self.journal) >= count, timeout)
            return self.journal.since()[count - 1]
        found: list[Entry] = []
        seen = 0
        wanted = until

        def look() -> bool:
            nonlocal seen
            fresh = self.journal.since(seen)
            seen = self.journal.last
            found.extend(entry for entry in fresh if wanted(entry))
            return bool(found)

        await self.wait_until(look, timeout)
        return found[0]

    async def wait_for_state(self, shop: str, wanted: dict[Key, int], timeout: float = 10.0) -> None:
        """Waits until the shop holds these numbers (others may be there too). Raises TimeoutError."""
        await self.wait_until(
            lambda: all(self.state.quantity(shop, key) == number for key, number in wanted.items()),
            timeout,
        )

    def marketplaces_time(self) -> float:
        """The marketplaces' clock, unix seconds: this machine's with the offset."""
        return clock.now().timestamp() + self._settings.clock_offset_s

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Listens; returns the base URL. Port 0 takes a free one. Raises OSError when the port is taken."""
        self._stopping.clear()

        server = ConnectionServer(self._handle, self._traffic)
        self._runner = web.ServerRunner(server, shutdown_timeout=STOP_GRACE.total_seconds())
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port, backlog=1024).start()
        except OSError:
            await self.stop()
            raise
        bound = self._runner.addresses[0]
        shown = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
        self.url = f"http://{shown}:{bound[1]}"
        return self.url

    async def stop(self) -> None:
        """Closes every connection. What is held or delayed is dropped, not applied. Again is harmless."""
        runner, self._runner = self._runner, None
        if runner is None:
            return
        self._stopping.set()
        if self._slow:
            await asyncio.wait(self._slow, timeout=STOP_GRACE.total_seconds())
        await runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(connection, ClientConnection)
        try:
            path = request.path
            if path.startswith(CONTROL_PREFIX):
                return await self._control.handle(request)
            apis = [api for api in self._apis.values() if self._marketplace(api.shop).serves(path)]
            if apis:
                return await self._serve(apis, request, connection)
            return self._respond(_NOT_FOUND)
        finally:
            connection.arrived = 0.0

    async def _serve(
        self, apis: list[ShopApi], request: web.BaseRequest, connection: ClientConnection
    ) -> web.StreamResponse:
        now, tick = clock.now().timestamp(), clock.monotonic()
        exchange = self._traffic.arrived(connection, now, tick)
        api, endpoint, label = apis[0], "unknown", "broken off"
        try:
            try:
                body = await request.read()
            except (ConnectionError, web.RequestPayloadError):
                return fault_injection.cut(request)
            received = received_request(request, body, exchange.number, now)
            if len(apis) > 1:
                api = next((each for each in apis if each.claims(received)), api)
            self._traffic.recognised(exchange, api.shop, tick)
            if api.settings.down:
                label = "down"
                return fault_injection.cut(request)
            call = api.read(received)
            endpoint = call.endpoint
            keys = [key for key, _ in call.rows]
            self._traffic.keyed(exchange, keys)
            triggered = self.faults.trigger(api.shop, endpoint, frozenset(keys)) if len(self.faults) else None
            if triggered is not None:
                response, label = await self._inject(api, request, call, triggered)
                return response
            answer = call.refusal or api.perform(call)
            label = answer.label
            return self._respond(answer)
        finally:
            exchange.shop = exchange.shop or api.shop
            self._traffic.answered(exchange, endpoint, label, clock.monotonic())
            self._signal.notify()

    async def _inject(
        self, api: ShopApi, request: web.BaseRequest, call: ShopCall, triggered: TriggeredFaults
    ) -> tuple[web.StreamResponse, str]:
        injection = fault_injection.Injection(
            request, api, call, self._respond, self._headers, self._pause, self._hold, self._signal.notify
        )
        task = asyncio.current_task()
        assert task is not None
        self._slow.add(task)
        self._signal.notify()
        try:
            return await fault_injection.inject(injection, triggered)
        except fault_injection.StoppingError:
            return fault_injection.cut(request), "stopped"
        except ConnectionError:
            return fault_injection.cut(request), "client gone"
        finally:
            self._slow.discard(task)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return
        raise fault_injection.StoppingError

    async def _hold(self, gate: asyncio.Event) -> None:
        opened = asyncio.ensure_future(gate.wait())
        stopped = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({opened, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            opened.cancel()
            stopped.cancel()
        if self._stopping.is_set():
            raise fault_injection.StoppingError

    def _marketplace(self, shop: str) -> Marketplace:
        return MARKETPLACES[self._settings.shops[shop].marketplace]

    def _headers(self) -> dict[str, str]:
        """The `Date` of every answer is the marketplaces' clock, so that skew can be measured."""
        second = int(self.marketplaces_time())
        if self._date[0] != second:
            self._date = (second, formatdate(second, usegmt=True))
        return {"Date": self._date[1]}

    def _respond(self, answer: ShopAnswer) -> web.Response:
        headers = self._headers()
        headers["Content-Type"] = answer.content_type
        return web.Response(body=answer.body, status=answer.status, headers=headers)
