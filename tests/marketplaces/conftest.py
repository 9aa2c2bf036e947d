"""Both clients against the simulator."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from daemon import clock
from daemon.core.types import ChannelName, Push, Sku
from daemon.marketplaces import registry
from daemon.marketplaces.client import Client
from daemon.marketplaces.sekorm.client import SekormClient
from daemon.marketplaces.sekorm.settings import SekormSettings
from daemon.marketplaces.spec import MarketplaceSpec
from daemon.marketplaces.ymatou.client import YmatouClient
from daemon.marketplaces.ymatou.settings import YmatouSettings
from daemon.simulator import Fault, Key, Simulator
from daemon.simulator.faults import FAULT
from daemon.simulator.marketplaces.sekorm import SekormShop
from daemon.simulator.marketplaces.ymatou.settings import YmatouShop
from tests.channels import SEKORM, YMATOU
from tests.marketplaces.memory import MemoryTokens

LONG = timedelta(seconds=10)
SEKORM_DEMO = SekormShop()
YMATOU_DEMO = YmatouShop()


def sekorm_settings(base: str, **changes: object) -> SekormSettings:
    """What reaches the simulated gateway at `base`."""
    values: dict[str, object] = {
        "base_url": f"{base}/serviceGate",
        "account": SecretStr(SEKORM_DEMO.account),
        "app_secret": SecretStr(SEKORM_DEMO.app_secret),
        "listing": "SELECT",
    }
    return SekormSettings.model_validate(values | changes)


def ymatou_settings(base: str, **changes: object) -> YmatouSettings:
    """What reaches the simulated API at `base`."""
    values: dict[str, object] = {
        "base_url": base,
        "app_id": YMATOU_DEMO.app_id,
        "app_secret": SecretStr(YMATOU_DEMO.app_secret),
        "auth_code": SecretStr(YMATOU_DEMO.auth_code),
        "listing": "SELECT",
    }
    return YmatouSettings.model_validate(values | changes)


@dataclass(frozen=True, slots=True)
class Line:
    """One partner and the simulator it speaks to."""

    name: ChannelName
    client: Client
    simulator: Simulator

    @property
    def spec(self) -> MarketplaceSpec[Any]:
        return next(spec for spec in registry.MARKETPLACES if str(spec.name) == self.name)

    def push(self, quantity: int, number: int = 1) -> Push:
        """A push for the n-th product."""
        return Push(Sku(f"sku-{number}"), self.identifiers(number), quantity)

    def identifiers(self, number: int = 1) -> tuple[str, ...]:
        return (f"1211LL的ON{number}", "AMS") if self.name == SEKORM else (f"39399{number}",)

    def key(self, number: int = 1) -> Key:
        names = self.identifiers(number)
        return (names[0], names[1]) if self.name == SEKORM else names[0]

    def held(self, number: int = 1) -> int | None:
        """What the partner holds."""
        return self.simulator.state.quantity(self.name, self.key(number))

    def fault(self, kind: str, **values: object) -> int:
        """Sets a fault for this partner's stock calls; returns its id."""
        endpoint = "stock/updQuantity" if self.name == SEKORM else "ymatou.skus.stock.update"
        fault: Fault = FAULT.validate_python(
            {"kind": kind, "shop": self.name, "endpoint": endpoint, **values}
        )
        return self.simulator.faults.add(fault).id

    def calls(self) -> int:
        """How many stock calls arrived and were answered or cut."""
        return sum(
            n
            for (partner, endpoint, _), n in self.simulator.stats.requests.items()
            if partner == self.name and "stock" in endpoint
        )


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    running = Simulator()
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


@pytest.fixture(params=[SEKORM, YMATOU])
async def line(
    request: pytest.FixtureRequest,
    simulator: Simulator,
    make_sekorm: Callable[..., SekormClient],
    make_ymatou: Callable[..., YmatouClient],
) -> Line:
    """Each partner in turn; Sekorm has its token already."""
    if request.param == YMATOU:
        return Line(YMATOU, make_ymatou(), simulator)
    sekorm = make_sekorm()
    assert (await sekorm.probe()).kind == "applied"
    return Line(SEKORM, sekorm, simulator)
