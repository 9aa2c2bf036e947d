"""A simulator on a free port, and raw clients for it."""

from collections.abc import AsyncIterator

import aiohttp
import pytest

from daemon.simulator import Simulator
from tests.simulator.clients import SekormClient, YmatouClient


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    simulator = Simulator()
    await simulator.start()
    yield simulator
    await simulator.stop()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    timeout = aiohttp.ClientTimeout(total=10)
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as session:
        yield session


@pytest.fixture
def sekorm(simulator: Simulator, session: aiohttp.ClientSession) -> SekormClient:
    return SekormClient(session, simulator.url)


@pytest.fixture
def ymatou(simulator: Simulator, session: aiohttp.ClientSession) -> YmatouClient:
    return YmatouClient(session, simulator.url)


@pytest.fixture(params=["path", "gateway"])
def either(
    request: pytest.FixtureRequest, simulator: Simulator, session: aiohttp.ClientSession
) -> YmatouClient:
    """Ymatou in both dialects."""
    return YmatouClient(session, simulator.url, request.param)
