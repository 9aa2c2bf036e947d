"""The simulator as a program of its own."""

import asyncio
from collections.abc import Callable

from daemon.simulator.server import Simulator
from daemon.simulator.shops import SimulatorSettings


async def serve(
    host: str,
    port: int,
    settings: SimulatorSettings,
    stop: asyncio.Event,
    on_started: Callable[[str], None] | None = None,
) -> None:
    """Runs until `stop` is set. `on_started` gets the base URL. Raises OSError when the port is taken."""
    simulator = Simulator(settings)
    url = await simulator.start(host, port)
    try:
        if on_started is not None:
            on_started(url)
        await stop.wait()
    finally:
        await simulator.stop()
