"""Every client against the simulator."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest

from daemon import clock
from daemon.core.types import ChannelName, Push, Sku
from daemon.marketplaces import registry
from daemon.marketplaces.client import Client, UsesToken
from daemon.marketplaces.sekorm.client import SekormClient
from daemon.marketplaces.spec import MarketplaceSpec
from daemon.marketplaces.ymatou.client import YmatouClient
from daemon.simulator import Fault, Key, Simulator, SimulatorSettings
from daemon.simulator.faults import FAULT
from tests.channels import SEKORM, YMATOU
from tests.marketplaces import stub
from tests.marketplaces.cases import CASES, Case, key_of, sekorm_settings, ymatou_settings
from tests.marketplaces.memory import MemoryTokens

LONG = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class Line:
    """A marketplace's client and the simulator it speaks to."""

    spec: MarketplaceSpec[Any]
    client: Client
    simulator: Simulator

    @property
    def name(self) -> ChannelName:
        return self.client.channel

    @property
    def case(self) -> Case:
        return CASES[self.spec.name]

    def push(self, quantity: int, number: int = 1) -> Push:
        """A push for the n-th product."""
        return Push(Sku(f"sku-{number}"), self.identifiers(number), quantity)

    def identifiers(self, number: int = 1) -> tuple[str, ...]:
        return self.case.identifiers(number)

    def key(self, number: int = 1) -> Key:
        return key_of(self.identifiers(number))

    def held(self, number: int = 1) -> int | None:
        """What the marketplace holds."""
        return self.simulator.state.quantity(self.name, self.key(number))

    def fault(self, kind: str, **values: object) -> int:
        """Sets a fault for this shop's stock calls; returns its id."""
        fault: Fault = FAULT.validate_python(
            {"kind": kind, "shop": self.name, "endpoint": self.case.single, **values}
        )
        return self.simulator.faults.add(fault).id

    def calls(self) -> int:
        """How many stock calls arrived and were answered or cut."""
        return sum(
            self.simulator.stats.count(self.name, endpoint)
            for endpoint in {self.case.single, self.case.many, "unknown"}
        )


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    running = Simulator(SimulatorSettings().with_shop("stub", "webhook"))
    await running.start()
    yield running
    await running.stop()


@pytest.fixture
def tokens() -> MemoryTokens:
    return MemoryTokens()


@pytest.fixture
async def make_sekorm(
    simulator: Simulator, tokens: MemoryTokens
) -> AsyncIterator[Callable[..., SekormClient]]:
    """Makes clients of the simulated gateway, or of the one at `base`; closes them."""
    async with AsyncExitStack() as stack:

        def make(base: str = "", store: MemoryTokens | None = None, **changes: object) -> SekormClient:
            client = SekormClient(SEKORM, sekorm_settings(base or simulator.url, **changes), store or tokens)
            stack.push_async_callback(client.close)
            return client

        yield make


@pytest.fixture
async def make_ymatou(simulator: Simulator) -> AsyncIterator[Callable[..., YmatouClient]]:
    """Makes clients of the simulated API, or of the one at `base`; closes them."""
    async with AsyncExitStack() as stack:

        def make(base: str = "", now: Callable[[], datetime] = clock.now, **changes: object) -> YmatouClient:
            client = YmatouClient(YMATOU, ymatou_settings(base or simulator.url, **changes), now)
            stack.push_async_callback(client.close)
            return client

        yield make


@pytest.fixture(params=[*registry.MARKETPLACES, stub.SPEC], ids=lambda spec: spec.name)
async def line(
    request: pytest.FixtureRequest, simulator: Simulator, tokens: MemoryTokens
) -> AsyncIterator[Line]:
    """Each marketplace in turn; one with a token has it already."""
    spec: MarketplaceSpec[Any] = request.param
    settings = CASES[spec.name].settings(simulator.url)
    client = spec.client(ChannelName(spec.name), settings, lambda _key: tokens)
    if isinstance(client.authorisation, UsesToken):
        assert (await client.probe()).kind == "applied"
    yield Line(spec, client, simulator)
    await client.close()
